use proptest::prelude::*;
use uuid::Variant;

use super::*;
use crate::spec::{account, address, assert_same_in_json, debug, secret, user};

const WHATSAPP: ChannelKind = ChannelKind::WhatsApp;

/// Computed outside this code base: ids on the log depend on it.
#[test]
fn derived_ids_do_not_change() {
    let (main, phone) = (account("whatsapp-main"), address("4915112345678"));
    let ids = [
        secret().identity(WHATSAPP, &phone).to_string(),
        secret().direct_with_address(&main, &phone).to_string(),
        secret().direct_of_users(user(1), user(2)).to_string(),
    ];
    assert_eq!(
        ids,
        [
            "103052c2-ef5d-8ef6-a5e5-551c6c3ccda6",
            "60b1bc7b-2179-88c8-88f3-adf33527b080",
            "535cb888-8fdb-856c-a4ef-072b2a5ef5ae",
        ]
    );
    assert_eq!(
        secret().fingerprint(user(1), "hello").to_string(),
        "336bb59dd565e544e7eb3e0b37d679ba197fc5f25e0b0d02cfd024a8be509737"
    );
    assert_eq!(
        secret().fingerprint_inbound(&main, "wamid.7").to_string(),
        "b00cbcadeca0f3790ff3e44f8af222e0c30da439e107f09d49bb98427b6013d0"
    );
}

#[test]
fn another_secret_gives_other_ids() {
    let other = IdSecret::new([7; 32]);
    let phone = address("4915112345678");
    assert_ne!(
        secret().identity(WHATSAPP, &phone),
        other.identity(WHATSAPP, &phone)
    );
    assert_ne!(
        secret().fingerprint(user(1), "hello"),
        other.fingerprint(user(1), "hello")
    );
}

#[test]
fn the_border_between_parts_counts() {
    assert_ne!(secret().mac(&["a", "bc"]), secret().mac(&["ab", "c"]));
    assert_ne!(secret().mac(&["abc"]), secret().mac(&["abc", ""]));
    let (phone, longer) = (address("4915112345678"), address("14915112345678"));
    assert_ne!(
        secret().direct_with_address(&account("a1"), &phone),
        secret().direct_with_address(&account("a"), &longer)
    );
}

#[test]
fn each_kind_of_thing_has_ids_of_its_own() {
    let phone = address("4915112345678");
    let identity = secret().identity(WHATSAPP, &phone).uuid();
    let direct = secret().direct_with_address(&account("whatsapp"), &phone);
    assert_ne!(identity, direct.uuid());
    assert_ne!(
        secret().fingerprint(user(1), "x").0,
        secret().mac(&["fingerprint-inbound", &user(1).to_string(), "x"])
    );
}

#[test]
fn a_secret_is_64_hexadecimal_digits() {
    let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    for text in [hex.to_owned(), hex.to_uppercase()] {
        assert_eq!(IdSecret::from_hex(&text).unwrap().0, secret().0);
    }
    let wrong = [
        String::new(),
        hex[1..].to_owned(),
        format!("{hex}0"),
        hex.replace('f', "g"),
        hex.replacen("00", "+0", 1),
        hex.replacen("00", "é", 1),
    ];
    for text in wrong {
        let refused = IdSecret::from_hex(&text).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "an id secret is 64 hexadecimal digits (32 random bytes)"
        );
    }
}

#[test]
fn a_fingerprint_is_read_back_from_its_text() {
    assert_same_in_json(&secret().fingerprint(user(1), "hello"));
    let refused = serde_json::from_str::<Fingerprint>("\"00\"").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a fingerprint is 64 hexadecimal digits"
    );
}

proptest! {
    #[test]
    fn derived_ids_are_uuid_v8_and_stable(bytes: [u8; 32], digits in "[1-9][0-9]{6,14}") {
        let secret = IdSecret::new(bytes);
        let phone = address(&digits);
        let ids = || [
            secret.identity(WHATSAPP, &phone).uuid(),
            secret.direct_with_address(&account("whatsapp-main"), &phone).uuid(),
            secret.direct_of_users(user(1), user(2)).uuid(),
        ];
        for id in ids() {
            prop_assert_eq!(id.get_version_num(), 8);
            prop_assert_eq!(id.get_variant(), Variant::RFC4122);
        }
        prop_assert_eq!(ids(), ids());
    }

    #[test]
    fn the_direct_conversation_of_two_users_has_no_order(a: u128, b: u128) {
        let (a, b) = (UserId::new(Uuid::from_u128(a)), UserId::new(Uuid::from_u128(b)));
        prop_assert_eq!(secret().direct_of_users(a, b), secret().direct_of_users(b, a));
    }

    #[test]
    fn debug_shows_no_secret(bytes: [u8; 32]) {
        let shown = debug(&IdSecret::new(bytes));
        prop_assert_eq!(shown, "IdSecret(***)\nIdSecret(***)");
    }
}
