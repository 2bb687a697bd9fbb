use proptest::prelude::*;

use super::*;
use crate::spec::{assert_on_the_log, assert_same_in_json, debug};

const WHATSAPP: ChannelKind = ChannelKind::WhatsApp;

#[test]
fn a_kind_is_written_the_same_everywhere() {
    for kind in ChannelKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert_eq!(kind.to_string(), kind.as_str());
        assert_on_the_log(&kind, &format!("\"{kind}\""));
    }
    assert_eq!(WHATSAPP.as_str(), "whatsapp");
    assert_eq!("WhatsApp".parse::<ChannelKind>(), Err(()));
    assert_eq!("pigeon".parse::<ChannelKind>(), Err(()));
}

#[test]
fn whatsapp_carries_4096_characters() {
    assert_eq!(WHATSAPP.max_text_chars(), 4_096);
}

#[test]
fn an_account_id_can_stand_in_a_subject_a_key_and_a_url() {
    let longest = "a".repeat(64);
    for id in ["a", "0", "whatsapp-main", "line_2", longest.as_str()] {
        let account: AccountId = id.parse().unwrap();
        assert_eq!((account.as_str(), account.to_string()), (id, id.to_owned()));
        assert_same_in_json(&account);
    }
    let too_long = "a".repeat(65);
    for id in [
        "", "A", "a b", "a.b", "a/b", "a*", "a>", "ä", "a\n", "%61", &too_long,
    ] {
        assert_eq!(id.parse::<AccountId>(), Err(ParseAccountIdError), "{id:?}");
        assert!(serde_json::from_value::<AccountId>(id.into()).is_err());
    }
}

#[test]
fn a_phone_number_is_kept_as_digits() {
    for (written, kept) in [
        ("+4915112345678", "4915112345678"),
        ("4915112345678", "4915112345678"),
        ("1234567", "1234567"),
        ("+123456789012345", "123456789012345"),
    ] {
        let address = Address::parse(WHATSAPP, written).unwrap();
        assert_eq!(address.reveal(), kept);
        assert_same_in_json(&address);
    }
}

#[test]
fn what_is_not_a_phone_number_is_refused() {
    for text in [
        "",
        "+",
        "123456",
        "+123456",
        "1234567890123456",
        "++4915112345678",
        "0049151123456",
        "+0915112345678",
        "+49 151 12345678",
        "+49-151-12345678",
        "4915112345678 ",
        "４９１５１１２３４５６７８",
        "anna@example.org",
    ] {
        let refused = Address::parse(WHATSAPP, text);
        assert_eq!(refused, Err(ParseAddressError::NotE164), "{text:?}");
    }
}

#[test]
fn refusals_say_what_would_be_right() {
    assert_eq!(
        ParseAddressError::NotE164.to_string(),
        "a WhatsApp address is a phone number in E.164: 7 to 15 digits with the country code, with or without a leading `+`"
    );
    assert_eq!(
        ParseAccountIdError.to_string(),
        "an account id is 1 to 64 characters of a-z, 0-9, `-` and `_`"
    );
}

proptest! {
    #[test]
    fn what_was_read_is_read_again_as_the_same(written in "\\+?[0-9]{0,17}|\\PC*") {
        if let Ok(address) = Address::parse(WHATSAPP, &written) {
            prop_assert_eq!(Address::parse(WHATSAPP, address.reveal()), Ok(address));
        }
    }

    #[test]
    fn debug_shows_no_address(digits in "[1-9][0-9]{6,14}") {
        let shown = debug(&Address::parse(WHATSAPP, &digits));
        prop_assert!(!shown.contains(&digits), "{}", shown);
    }
}
