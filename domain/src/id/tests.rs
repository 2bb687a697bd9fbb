use super::*;
use crate::spec::{assert_same_in_json, conversation, identity, user};

#[test]
fn an_id_is_36_lower_case_characters_in_text() {
    let id = ConversationId::new(Uuid::from_u128(u128::MAX));
    let text = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    assert_eq!(id.to_string(), text);
    assert_eq!(text.parse(), Ok(id));
    assert_eq!(text.to_uppercase().parse(), Ok(id));
    assert_eq!(format!("{id:?}"), format!("ConversationId({text})"));
    assert!("not an id".parse::<ConversationId>().is_err());
    assert_same_in_json(&id);
}

/// Computed outside this code base: what is derived must stay the same for ever.
#[test]
fn derived_ids_do_not_change() {
    let message = MessageId::derive(conversation(1), user(1), "key-1");
    let inbound = MessageId::derive_inbound(conversation(1), "whatsapp-main", "wamid.7");
    let member = ParticipantId::of_user(conversation(1), user(1));
    let contact = ParticipantId::of_contact(conversation(1), "whatsapp-main", identity(1));
    let derived = [
        UserId::derive("https://id.example", "anna").uuid(),
        message.uuid(),
        inbound.uuid(),
        member.uuid(),
        contact.uuid(),
        ConversationId::derive_group(user(1), "key-1").uuid(),
    ]
    .map(|id| id.to_string());
    assert_eq!(
        derived,
        [
            "60d37fe2-5ec3-5e0f-a0f7-8f6bf0b9ed7f",
            "e889f4a2-faa1-52ce-8d07-339311530e78",
            "863e1467-40c3-5804-96c1-69a8b1e9c75f",
            "17b84686-a2fb-5176-bb66-d12d1246bf9f",
            "57221e32-3e3f-5482-8f2f-6cf2ed6c72af",
            "39a7c8f9-e393-5558-a703-5c5eb6de0e3a",
        ]
    );
}

#[test]
fn the_same_key_means_another_message_for_another_caller_or_conversation() {
    let id = MessageId::derive(conversation(1), user(1), "key-1");
    assert_ne!(id, MessageId::derive(conversation(2), user(1), "key-1"));
    assert_ne!(id, MessageId::derive(conversation(1), user(2), "key-1"));
    assert_ne!(id, MessageId::derive(conversation(1), user(1), "key-2"));
}

#[test]
fn the_border_between_issuer_and_subject_counts() {
    assert_ne!(UserId::derive("a", "bc"), UserId::derive("ab", "c"));
    assert_ne!(UserId::derive("1:a", "b"), UserId::derive("1", ":ab"));
}
