//! Without servers: what is said names where it was looked for, and what would be right.

use std::collections::BTreeMap;

use super::terminal::Terminal;

fn terminal() -> Terminal {
    let set = [
        ("CHAT4ALL_NATS__URL", "nats://127.0.0.1:1"),
        (
            "CHAT4ALL_POSTGRES__URL",
            "postgres://me:very-secret@127.0.0.1:1/things",
        ),
        (
            "CHAT4ALL_AUTH__HS256_SECRET",
            "a secret that is long enough to be one",
        ),
        (
            "CHAT4ALL_IDS__SECRET",
            "0707070707070707070707070707070707070707070707070707070707070707",
        ),
    ];
    let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Terminal::new(BTreeMap::from(set))
}

#[test]
fn a_broker_that_is_away_is_named_once_with_the_setting_that_says_where_it_is() {
    let place = tempfile::tempdir().unwrap();
    let new = place.path().join("backup");
    let backup = ["backup", new.to_str().unwrap()];
    for args in [
        &["log"][..],
        &["log", "--follow"],
        &["lag"],
        &["lag", "--json"],
        &["provision"],
        &backup,
    ] {
        let said = terminal().refused(1, args);
        for words in [
            "nats://127.0.0.1:1;",
            "CHAT4ALL_NATS__URL",
            ". .chat4all/env",
            "onnection refused",
        ] {
            assert!(said.contains(words), "{args:?}, no {words:?}: {said}");
        }
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
}

#[test]
fn a_database_that_is_away_is_named_without_its_password() {
    let said = terminal().refused(1, &["rebuild"]);
    for words in [
        "127.0.0.1:1/things;",
        "CHAT4ALL_POSTGRES__URL",
        "onnection refused",
    ] {
        assert!(said.contains(words), "no {words:?}: {said}");
    }
    assert!(!said.contains("very-secret"), "{said}");
}

#[test]
fn an_api_that_is_away_is_named() {
    let terminal = terminal().with(&[
        ("CHAT4ALL_TOKEN", "x"),
        ("CHAT4ALL_URL", "http://127.0.0.1:1"),
    ]);
    let said = terminal.refused(1, &["send", "--to", "whatsapp:+4915112345678", "hello"]);
    for words in [
        "nobody answers at http://127.0.0.1:1;",
        "CHAT4ALL_URL",
        "onnection refused",
    ] {
        assert!(said.contains(words), "no {words:?}: {said}");
    }
}

#[test]
fn every_mistake_in_a_configuration_is_said_at_once_with_its_variable() {
    let terminal = terminal().with(&[
        ("CHAT4ALL_LOG__PARTITIONS", "65"),
        ("CHAT4ALL_NATS__SYNC", "sometimes"),
        ("CHAT4ALL_HTTP__LISTN", "127.0.0.1:1"),
        ("CHAT4ALL_AUTH__HS256_SECRET", "short"),
    ]);
    for args in [&["config"][..], &["lag"], &["token", "--sub", "ann"]] {
        let said = terminal.refused(1, args);
        for variable in [
            "CHAT4ALL_LOG__PARTITIONS",
            "CHAT4ALL_NATS__SYNC",
            "CHAT4ALL_HTTP__LISTN",
            "CHAT4ALL_AUTH__HS256_SECRET",
        ] {
            assert!(said.contains(variable), "{args:?}, no {variable}: {said}");
        }
    }
}
