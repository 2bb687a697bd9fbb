use proptest::prelude::*;

use super::*;
use crate::event::AggregateId;
use crate::spec::{assert_same_in_json, conversation, identity, message, participant};
use crate::{ChannelKind, ConversationId, IdentityId, delivery, message as messages, reader};

#[test]
fn fnv_1a_gives_its_published_values() {
    assert_eq!(fnv1a_32(b""), 0x811c_9dc5);
    assert_eq!(fnv1a_32(b"a"), 0xe40c_292c);
    assert_eq!(fnv1a_32(b"foobar"), 0xbf9c_f968);
}

#[test]
fn an_id_keeps_its_partition_for_ever() {
    // Computed outside this code base.
    let id = conversation(1).uuid();
    assert_eq!(partitions(8).of(id).number(), 5);
    assert_eq!(partitions(64).of(id).number(), 45);
    assert_eq!(partitions(1).of(id).number(), 0);
}

#[test]
fn ids_spread_evenly() {
    let count = partitions(8);
    let mut hits = [0_u32; 8];
    for number in 0..2_000_u128 {
        let name = number.to_be_bytes();
        let id = Uuid::new_v5(&Uuid::nil(), &name);
        hits[usize::from(count.of(id).number())] += 1;
    }
    // 250 each, give or take five standard deviations of 15.
    let even = 175..=325;
    assert!(hits.iter().all(|hits| even.contains(hits)), "{hits:?}");
}

#[test]
fn there_are_1_to_64_partitions() {
    assert_eq!(PartitionCount::new(0), None);
    assert_eq!(PartitionCount::new(65), None);
    assert_eq!(PartitionCount::new(64).map(PartitionCount::get), Some(64));
    assert_eq!(Partition::new(64), None);
    assert_eq!(Partition::new(63).map(Partition::number), Some(63));
    let all: Vec<_> = partitions(3).all().map(|p| p.to_string()).collect();
    assert_eq!(all, ["00", "01", "02"]);
}

#[test]
fn a_revision_is_a_position_in_its_partition() {
    let partition = Partition::new(7).unwrap();
    assert_eq!(Revision::new(1_234).at(partition).to_string(), "07-1234");
    assert_eq!(Revision::default(), Revision::NONE);
    assert_eq!(Revision::NONE.get(), 0);
    assert_same_in_json(&Revision::new(7));
}

#[test]
fn what_is_not_a_position_is_refused() {
    let wrong = [
        "",
        "-",
        "07",
        "07-",
        "-7",
        "7-1",
        "007-1",
        "64-1",
        "99-1",
        "07-+1",
        "07--1",
        "+7-1",
        "07-1 ",
        " 07-1",
        "07-1-2",
        "07-x",
        "07-18446744073709551616",
        "٠٧-١",
        "é-1",
    ];
    for text in wrong {
        assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text}");
    }
    let json = serde_json::from_str::<Position>(r#""7-1""#).unwrap_err();
    assert!(
        json.to_string()
            .starts_with("a position looks like `07-1234`")
    );
}

#[test]
fn the_refusal_says_what_would_be_right() {
    assert_eq!(
        ParsePositionError.to_string(),
        "a position looks like `07-1234`: two digits of a partition below 64, a dash, a sequence"
    );
}

#[test]
fn every_aggregate_has_its_place() {
    let (conversation, message) = (conversation(1), message(2));
    let c = "000000c0-0000-0000-0000-000000000001";
    let m = "000000e5-0000-0000-0000-000000000002";
    let p = "000000ba-0000-0000-0000-000000000003";
    let i = "0000001d-0000-0000-0000-000000000004";
    let of_message = messages::Id {
        conversation,
        message,
    };
    let of_delivery = delivery::Id {
        kind: ChannelKind::WhatsApp,
        conversation,
        message,
    };
    let of_reader = reader::Id {
        conversation,
        participant: participant(3),
    };
    assert_eq!(conversation.path(), format!("conversation.{c}"));
    assert_eq!(of_message.path(), format!("message.{c}.{m}"));
    assert_eq!(of_delivery.path(), format!("delivery.whatsapp.{c}.{m}"));
    assert_eq!(of_reader.path(), format!("reader.{c}.{p}"));
    assert_eq!(identity(4).path(), format!("identity.{i}"));
    let keys = [
        conversation.partition_key(),
        of_message.partition_key(),
        of_delivery.partition_key(),
        of_reader.partition_key(),
    ];
    assert_eq!(keys, [conversation.uuid(); 4]);
    assert_eq!(identity(4).partition_key(), identity(4).uuid());
}

#[test]
fn the_path_of_another_kind_is_not_read() {
    let message = messages::Id {
        conversation: conversation(1),
        message: message(2),
    };
    let path = message.path();
    assert_eq!(ConversationId::from_path(&path), None);
    assert_eq!(IdentityId::from_path(&path), None);
    assert_eq!(delivery::Id::from_path(&path), None);
    assert_eq!(reader::Id::from_path(&path), None);
    let conversation_path = conversation(1).path();
    assert_eq!(messages::Id::from_path(&conversation_path), None);
    let delivery = path.replacen("message", "delivery.pigeon", 1);
    assert_eq!(delivery::Id::from_path(&delivery), None);
    assert_eq!(messages::Id::from_path(&format!("{path}.more")), None);
    assert_eq!(delivery::Id::from_path("delivery.whatsapp"), None);
}

fn partitions(count: u8) -> PartitionCount {
    PartitionCount::new(count).unwrap()
}

#[track_caller]
fn assert_read_back<I: AggregateId>(id: I) {
    let path = id.path();
    assert_eq!(I::from_path(&path), Some(id), "{path}");
}

proptest! {
    #[test]
    fn a_position_is_read_back_from_its_text(partition in 0..64_u8, sequence: u64) {
        let position = Position::new(Partition::new(partition).unwrap(), sequence);
        prop_assert_eq!(position.to_string().parse(), Ok(position));
        assert_same_in_json(&position);
    }

    #[test]
    fn any_text_is_a_position_or_refused(text in "\\PC{0,6}-?\\PC{0,6}") {
        if let Ok(position) = text.parse::<Position>() {
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn every_id_is_read_back_from_its_path(a: u128, b: u128) {
        let conversation = ConversationId::new(Uuid::from_u128(a));
        let message = crate::MessageId::new(Uuid::from_u128(b));
        let participant = crate::ParticipantId::new(Uuid::from_u128(b));
        assert_read_back(conversation);
        assert_read_back(IdentityId::new(Uuid::from_u128(a)));
        assert_read_back(messages::Id { conversation, message });
        assert_read_back(delivery::Id { kind: ChannelKind::WhatsApp, conversation, message });
        assert_read_back(reader::Id { conversation, participant });
    }

    #[test]
    fn any_path_is_read_or_refused(path in "(message|delivery.whatsapp|reader)?[.a-f0-9-]{0,90}") {
        _ = ConversationId::from_path(&path);
        _ = IdentityId::from_path(&path);
        _ = messages::Id::from_path(&path);
        _ = delivery::Id::from_path(&path);
        _ = reader::Id::from_path(&path);
    }
}
