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

#[test]
fn whoever_has_set_nothing_is_told_what_sets_it() {
    let nowhere = Terminal::new(BTreeMap::new());
    for args in [
        &["log"][..],
        &["lag"],
        &["channels", "ls"],
        &["dlq", "ls"],
        &["rebuild"],
        &["provision"],
        &["config"],
        &["token", "--sub", "ann"],
        &["query-api"],
        &["send", "--to", "whatsapp:+4915112345678", "hello"],
    ] {
        let said = nowhere.refused(1, args);
        assert!(said.contains("`. .chat4all/env`"), "{args:?}: {said}");
    }
    let said = nowhere.types(&["doctor"]);
    assert!(said.output.contains("`. .chat4all/env`"), "{said:?}");
    // What is there, and wrong, it does not set.
    let wrong = terminal().with(&[("CHAT4ALL_LOG__PARTITIONS", "65")]);
    let said = wrong.refused(1, &["lag"]);
    assert!(!said.contains(".chat4all/env"), "{said}");
}

#[test]
fn servers_that_were_stopped_are_started_as_they_were() {
    let args = ["doctor", "--only", "broker", "--only", "roles"];
    let said = terminal().types(&args);
    assert_eq!(said.code, Some(1), "{said:?}");
    for words in [
        "`make run`",
        "`chat4all up`",
        "`systemctl start chat4all-nats`",
    ] {
        assert!(said.output.contains(words), "no {words}: {said:?}");
    }
}

#[test]
fn a_message_for_nobody_is_told_of_both_ways_to_say_for_whom() {
    let said = terminal().refused(2, &["send", "hello"]);
    for words in ["--conversation <ID>", "--to <CHANNEL:ADDRESS>"] {
        assert!(said.contains(words), "no {words}: {said}");
    }
    let id = "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d";
    let into = ["send", "--conversation", id];
    let both = [&into[..], &["--to", "whatsapp:1", "hello"]].concat();
    let said = terminal().refused(2, &both);
    assert!(said.contains("cannot be used with"), "{said}");
    for to in ["+4915112345678", "whatsapp:", ":+4915112345678"] {
        let said = terminal().refused(2, &["send", "--to", to, "hello"]);
        assert!(said.contains("such as whatsapp:+49"), "{to}: {said}");
    }
}

#[test]
fn no_events_at_all_are_no_wish() {
    for limit in ["0", "-1", "many"] {
        let flag = format!("--limit={limit}");
        for command in [&["log", &flag][..], &["dlq", "ls", &flag]] {
            let said = terminal().refused(2, command);
            let words = said.contains(limit) && said.contains("at least 1");
            assert!(words, "{command:?}: {said}");
        }
    }
    let said = terminal().refused(2, &["token", "--sub", ""]);
    assert!(said.contains("a value is required"), "{said}");
}

#[test]
fn an_id_that_is_none_is_told_what_one_looks_like() {
    for args in [
        &["log", "--conversation", "nope"][..],
        &["send", "--conversation", "nope", "hello"],
        &["dlq", "ls", "--conversation", "nope"],
        &["dlq", "jobs", "nope"],
        &["dlq", "cancel", "nope"],
    ] {
        let said = terminal().refused(2, args);
        for words in ["'nope'", "a UUID such as 0193c2e4-"] {
            assert!(said.contains(words), "{args:?}, no {words}: {said}");
        }
    }
}
