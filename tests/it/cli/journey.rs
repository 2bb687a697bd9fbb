//! One system, and everything an operator types.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use chat4all_cli::embedded::{chat4all_program, temp_dir};
use chat4all_domain::UserId;
use serde_json::{Value, json};

use super::terminal::{Terminal, wait_for};
use crate::support::up::Up;

const SECRET_WORDS: &str = "the parcel is at the desk";

#[test]
fn everything_an_operator_types_is_answered() {
    let dir = temp_dir().unwrap();
    let up = Up::start(dir.path(), Up::command(dir.path()));
    let terminal = Terminal::new(up.variables());
    let terminal = as_ann(&terminal);
    let sent = a_message_is_sent(&terminal);
    the_log_is_read_back(&terminal, &sent);
    the_log_is_followed(&terminal, &sent);
    readers_are_measured(&terminal);
    the_configuration_is_shown(&terminal);
    a_closed_pipe_disturbs_nobody(&terminal);
    tokens_allow_what_they_say_for_as_long_as_they_say(&terminal, &sent);
    drop(up);
}

/// What somebody who sent a message remembers.
struct Sent {
    conversation: String,
    message: String,
    position: String,
}

impl Sent {
    fn of(accepted: &Value) -> Self {
        let text = |field: &str| accepted[field].as_str().unwrap().to_owned();
        Self {
            conversation: text("conversation_id"),
            message: text("message_id"),
            position: text("position"),
        }
    }
}

fn as_ann(terminal: &Terminal) -> Terminal {
    let scopes = "messages:write,conversations:read";
    let minted = terminal.done(&["token", "--sub", "ann", "--scope", scopes, "--json"]);
    let minted = minted.json();
    assert_eq!(minted["expires_in_s"], 3_600);
    let user = UserId::derive("chat4all", "ann").to_string();
    assert_eq!(minted["user_id"], user);
    terminal.with(&[("CHAT4ALL_TOKEN", minted["token"].as_str().unwrap())])
}

fn a_message_is_sent(terminal: &Terminal) -> Sent {
    let phone = "whatsapp:+4915112340001";
    let send = ["send", "--to", phone, "--key", "desk", SECRET_WORDS];
    let watched = terminal.done(&[&send[..], &["--watch=60", "--json"]].concat());
    let steps = watched.lines();
    let sent = Sent::of(&steps[0]);
    assert_eq!(steps.last().unwrap()["status"], "READ", "{steps:?}");
    // For people, and the same key is the same message.
    let again = terminal.done(&send).output;
    assert!(
        again.starts_with("accepted ") && again.contains(&sent.message),
        "{again}"
    );
    let other = [&send[..5], &["something else"]].concat();
    let said = terminal.refused(1, &other);
    assert!(said.contains("422") && said.contains("trace id"), "{said}");
    let nowhere = "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d";
    let said = terminal.refused(1, &["send", "--conversation", nowhere, "hello"]);
    assert!(said.contains("404"), "{said}");
    sent
}

fn types(lines: &[Value]) -> Vec<&str> {
    let each = lines.iter();
    each.map(|line| line["event"]["type"].as_str().unwrap())
        .collect()
}

fn the_log_is_read_back(terminal: &Terminal, sent: &Sent) {
    let of_conversation = ["log", "--conversation", &sent.conversation];
    let json = terminal.done(&[&of_conversation[..], &["--json"]].concat());
    assert!(!json.output.contains(SECRET_WORDS), "{}", json.output);
    let lines = json.lines();
    let order = [
        "ConversationStarted",
        "MessageAccepted",
        "DeliveryAttempted",
        "DeliverySent",
        "DeliveryDelivered",
        "DeliveryRead",
    ];
    assert_eq!(types(&lines), order);
    for line in &lines {
        let at = line["stored_at"].as_str().unwrap();
        assert!(is_rfc3339_with_milliseconds(at), "{at}");
    }
    let of_message = [&of_conversation[..], &["--message", &sent.message]].concat();
    let lines = terminal
        .done(&[&of_message[..], &["--json"]].concat())
        .lines();
    assert_eq!(types(&lines), order[1..]);
    let typed = [&of_message[..], &["--type", "DeliverySent", "--json"]].concat();
    assert_eq!(types(&terminal.done(&typed).lines()), ["DeliverySent"]);
    let behind = ["--from", &sent.position, "--limit", "2", "--json"];
    let lines = terminal.done(&[&of_message[..], &behind].concat()).lines();
    assert_eq!(types(&lines), order[2..4], "behind {}", sent.position);

    // For people: a line with position, time, type and path, then the facts; texts only if they are asked for.
    let text = terminal.done(&of_message).output;
    let first: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        (first[0], first[2]),
        (sent.position.as_str(), "MessageAccepted")
    );
    assert!(is_rfc3339_with_milliseconds(first[1]), "{first:?}");
    assert!(!text.contains(SECRET_WORDS), "{text}");
    let personal = terminal
        .done(&[&of_message[..], &["--personal"]].concat())
        .output;
    assert!(personal.contains(SECRET_WORDS), "{personal}");

    // Of what is not there something is said, too, and not on the output.
    let nowhere = "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d";
    let said = terminal.types(&["log", "--conversation", nowhere, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.output, "", "{said:?}");
    let nothing = format!("nothing on it matches: conversation {nowhere}");
    assert!(said.errors.contains(&nothing), "{said:?}");

    let said = terminal.refused(2, &["log", "--type", "MessageAcepted"]);
    for words in [
        "MessageAcepted",
        "MessageAccepted",
        "DeliveryFailed",
        "IdentityRegistered",
    ] {
        assert!(said.contains(words), "no {words}: {said}");
    }
}

/// `2026-11-22T04:26:28.123Z`
fn is_rfc3339_with_milliseconds(text: &str) -> bool {
    let shape = text
        .bytes()
        .map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    shape.eq(*b"0000-00-00T00:00:00.000Z")
}

fn the_log_is_followed(terminal: &Terminal, sent: &Sent) {
    let args = [
        "log",
        "--follow",
        "--conversation",
        &sent.conversation,
        "--from",
        &sent.position,
        "--type",
        "MessageAccepted",
        "--json",
    ];
    let mut following = terminal
        .command(&args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut followed = Vec::new();
    for words in ["first", "second"] {
        let send = [
            "send",
            "--conversation",
            &sent.conversation,
            words,
            "--json",
        ];
        let accepted = Sent::of(&terminal.done(&send).json());
        // As it comes: the next one is only sent when this one was seen.
        let line: Value = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["position"], json!(accepted.position), "{line}");
        assert!(
            line["subject"]
                .as_str()
                .unwrap()
                .ends_with(&accepted.message)
        );
        followed.push(line);
    }
    assert_eq!(types(&followed), ["MessageAccepted"; 2]);
    following.kill().unwrap();
    following.wait().unwrap();
}

fn readers_are_measured(terminal: &Terminal) {
    let lag = || terminal.done(&["lag", "--json"]).json();
    let rows = wait_for("every reader at the end", || {
        let rows = lag();
        let all = rows.as_array().unwrap().clone();
        match all
            .iter()
            .all(|row| row["behind"] == 0 && row["at"] == row["end"])
        {
            true => Ok(all),
            false => Err(rows),
        }
    });
    let readers = |name: &str| {
        let each = rows.iter();
        each.filter(|row| row["reader"].as_str().unwrap().starts_with(name))
            .count()
    };
    assert_eq!(readers("read models"), 8);
    assert_eq!(readers("bridge-whatsapp-"), 8);
    assert_eq!(readers("inbound-whatsapp"), 1);
    assert!(
        rows.iter().any(|row| row["end"].as_u64() > Some(5)),
        "{rows:?}"
    );
    let text = terminal.done(&["lag"]).output;
    for words in ["read models", "bridge-whatsapp-07", "inbound-whatsapp"] {
        assert!(text.contains(words), "no {words}: {text}");
    }

    // Without Postgres: what the broker knows, and what is missing.
    let alone = terminal.with(&[("CHAT4ALL_POSTGRES__URL", "postgres://me:pw@127.0.0.1:1/x")]);
    let said = alone.types(&["lag", "--json"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    for words in ["read models are not measured", "127.0.0.1:1/x;"] {
        assert!(said.errors.contains(words), "no {words:?}: {said:?}");
    }
    assert_eq!(
        said.errors.matches("onnection refused").count(),
        1,
        "{said:?}"
    );
    let shown = said.json();
    let shown = shown.as_array().unwrap();
    assert_eq!(shown.len(), rows.len());
    for row in shown {
        let known = row["reader"] != "read models";
        assert_eq!(row["behind"].is_u64(), known, "{row}");
    }
}

fn the_configuration_is_shown(terminal: &Terminal) {
    let said = terminal.with(&[
        ("CHAT4ALL_PROJECTOR__POISON", "halt"),
        (
            "CHAT4ALL_POSTGRES__URL",
            "postgres://me:a-password@127.0.0.1:1/x",
        ),
    ]);
    let shown = said.done(&["config", "--json"]);
    let all = shown.json();
    assert_eq!(all["log.partitions"]["value"], 8);
    assert_eq!(all["log.partitions"]["origin"], "default");
    assert_eq!(all["projector.poison"]["value"], "halt");
    assert_eq!(
        all["projector.poison"]["origin"],
        "CHAT4ALL_PROJECTOR__POISON"
    );
    let text = said.done(&["config"]).output;
    assert!(text.contains("projector.poison"), "{text}");
    for secret in [
        "CHAT4ALL_AUTH__HS256_SECRET",
        "CHAT4ALL_IDS__SECRET",
        "CHAT4ALL_CHANNELS__WHATSAPP_MAIN__TOKEN",
        "CHAT4ALL_CHANNELS__WHATSAPP_MAIN__APP_SECRET",
    ] {
        let value = terminal.variable(secret);
        assert!(!text.contains(value), "{secret} is shown");
        assert!(!shown.output.contains(value), "{secret} is shown");
    }
    let place = "postgres://me:***@127.0.0.1:1/x";
    assert!(
        text.contains(place) && !text.contains("a-password"),
        "{text}"
    );
}

/// Nobody reads on: the command ends, or goes on to its end, without a word.
fn a_closed_pipe_disturbs_nobody(terminal: &Terminal) {
    let program = chat4all_program().unwrap();
    // Only the output, or also what is said beside it.
    for command in [
        "log --json",
        "log --json 2>&1",
        "rebuild 2>&1",
        "rebuild --json",
        "lag",
    ] {
        let script = format!("'{}' {command} | true", program.display());
        let output = bash(terminal, &script);
        assert!(output.status.success(), "{script}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap().to_lowercase();
        for words in ["panic", "broken pipe"] {
            assert!(!said.contains(words), "{script}: {said}");
        }
    }
}

fn bash(terminal: &Terminal, script: &str) -> std::process::Output {
    // For its environment.
    let like = terminal.command(&[]);
    let mut command = Command::new("bash");
    command
        .args(["-o", "pipefail", "-c", script])
        .stdin(Stdio::null());
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

fn tokens_allow_what_they_say_for_as_long_as_they_say(terminal: &Terminal, sent: &Sent) {
    let token = |flags: &[&str]| {
        let minted = terminal.done(&[&["token", "--sub", "ann"], flags].concat());
        terminal.with(&[("CHAT4ALL_TOKEN", minted.output.trim())])
    };
    let send = ["send", "--conversation", &sent.conversation, "third"];
    let reader = token(&["--scope", "conversations:read"]);
    let said = reader.refused(1, &send);
    assert!(
        said.contains("403") && said.contains("messages:write"),
        "{said}"
    );
    // Writing is allowed, looking at it is not.
    let writer = token(&["--scope", "messages:write"]);
    let said = writer.types(&[&send[..], &["--watch"]].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.output.starts_with("accepted "), "{said:?}");
    assert!(said.errors.contains("conversations:read"), "{said:?}");
    // Whoever stops watching says so.
    let said = terminal.types(&[&send[..], &["--watch=0"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.errors.contains("not watched any longer"), "{said:?}");
    let brief = token(&["--ttl", "5s"]);
    brief.done(&send);
    let said = wait_for("the end of a token", || {
        let said = brief.types(&send);
        match said.code {
            Some(0) => Err(said),
            _ => Ok(said),
        }
    });
    assert!(
        said.errors.contains("401") && said.errors.contains("expired"),
        "{said:?}"
    );
}
