//! `chat4all doctor`: nothing to say of a system that is well, and for each thing that is broken a sentence and a remedy.

mod broker;
mod channels;
mod log;
mod nodes;
mod readers;
mod roles;
mod said;
mod server;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use chat4all_cli::embedded::{chat4all_program, temp_dir};
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::place;
use crate::support::up::{Up, send};
use said::{Said, Variables, command, doctor, with};

/// How long readiness may take to become a metric.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn every_mistake_of_a_configuration_is_named_with_its_variable() {
    let mut variables = BTreeMap::from(
        [
            ("CHAT4ALL_AUTH__HS256_SECRET", "too short"),
            ("CHAT4ALL_NATS__REPLICAS", "2"),
            ("CHAT4ALL_NATS__REPLIKAS", "3"),
            ("CHAT4ALL_SHUTDOWN__GRACE_MS", "1000"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let said = doctor(&variables, &["--only", "config"]);
    said.has("wrong", "config", "ids.secret is", "CHAT4ALL_IDS__SECRET");
    said.has(
        "wrong",
        "config",
        "auth.hs256_secret is",
        "CHAT4ALL_AUTH__HS256_SECRET",
    );
    said.has(
        "wrong",
        "config",
        "nats.replicas is",
        "CHAT4ALL_NATS__REPLICAS",
    );
    said.has(
        "wrong",
        "config",
        "no setting has this variable",
        "unset CHAT4ALL_NATS__REPLIKAS",
    );
    said.has(
        "wrong",
        "config",
        "shutdown.grace_ms is 1000",
        "CHAT4ALL_SHUTDOWN__GRACE_MS",
    );
    assert!(
        !said.answer.to_string().contains("too short"),
        "a secret is repeated"
    );

    // For people: a sentence, what would be right, what mends it; and what was looked at.
    variables.clear();
    let output = command(&variables, &[]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("WRONG   configuration: ids.secret is"),
        "{text}"
    );
    assert!(
        text.contains("\n        right: ")
            && text.contains("\n        mend:  set CHAT4ALL_IDS__SECRET"),
        "{text}"
    );
    assert!(
        text.contains("looked at: configuration; 2 wrong, 0 to know"),
        "{text}"
    );
}

#[test]
fn a_configuration_file_that_is_no_toml_is_named_with_the_place_in_it() {
    let dir = temp_dir().unwrap();
    let file = dir.path().join("new.toml");
    std::fs::write(&file, "x = [").unwrap();
    let file = file.to_str().unwrap();
    let said = doctor(&Variables::new(), &["--only", "config", "--config", file]);
    let says = format!("{file} is not TOML: TOML parse error at line 1");
    said.has("wrong", "config", &says, "put the file right");
    assert_eq!(said.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_system_is_well_and_what_is_broken_in_it_is_named() {
    let dir = temp_dir().unwrap();
    let home = dir.path().join(".chat4all");
    let up = tokio::task::spawn_blocking({
        let home = home.clone();
        move || Up::start(&home, Up::command(&home))
    });
    let up = up.await.unwrap();
    let variables = up.variables();
    let role = variables["CHAT4ALL_URL"].clone();
    let ask = |variables: &Variables| {
        let variables = variables.clone();
        let role = role.clone();
        tokio::task::block_in_place(move || doctor(&variables, &["--role", &role]))
    };

    let said = ask(&variables);
    said.is_well();
    let areas = [
        "config",
        "broker",
        "log",
        "read_models",
        "readers",
        "channels",
        "roles",
    ];
    assert_eq!(said.answer["looked_at"], serde_json::json!(areas));
    place::are_all_on(&page_with(&role, "chat4all_check_green{check=\"nats_sync\"} 1").await);

    // Servers that are not there: the rest is looked at all the same.
    let gone = "127.0.0.1:1";
    let said = ask(&with(
        &variables,
        "CHAT4ALL_NATS__URL",
        &format!("nats://{gone}"),
    ));
    said.has(
        "wrong",
        "broker",
        "no NATS server answers on 127.0.0.1:1",
        "CHAT4ALL_NATS__URL",
    );
    let said = ask(&with(
        &variables,
        "CHAT4ALL_POSTGRES__URL",
        &format!("postgres://x@{gone}/x"),
    ));
    said.has(
        "wrong",
        "read_models",
        "Postgres does not answer",
        "CHAT4ALL_POSTGRES__URL",
    );
    assert!(said.answer["looked_at"].to_string().contains("readers"));
    let said = ask(&with(
        &variables,
        "CHAT4ALL_NATS__MONITOR_URL",
        &format!("http://{gone}"),
    ));
    said.has(
        "wrong",
        "broker",
        "the monitoring of NATS on 127.0.0.1:1 does not answer",
        "MONITOR_URL",
    );
    let said = tokio::task::block_in_place(|| {
        doctor(
            &variables,
            &["--only", "roles", "--role", &format!("http://{gone}")],
        )
    });
    said.has("wrong", "roles", "no role answers on 127.0.0.1:1", "--role");

    // Settings that are not those of the log.
    let said = ask(&with(&variables, "CHAT4ALL_LOG__PARTITIONS", "4"));
    said.has(
        "wrong",
        "log",
        "was made for chat4all.partitions = 8",
        "CHAT4ALL_LOG__PARTITIONS=8",
    );
    let said = ask(&with(&variables, "CHAT4ALL_NATS__MAX_BYTES", "1073741824"));
    said.has(
        "notice",
        "log",
        "EVT-00: max_bytes is",
        "CHAT4ALL_NATS__MAX_BYTES",
    );
    said.is_well();

    // An account that needs its operator, as a bridge writes it.
    let client = async_nats::connect(&variables["CHAT4ALL_NATS__URL"])
        .await
        .unwrap();
    let js = async_nats::jetstream::new(client);
    let bucket = js.get_key_value("CHANNEL_STATE").await.unwrap();
    let held = r#"{"held":{"since":"2026-11-22T00:00:00.000Z","reason":"INACTIVE_CREDENTIAL","code":"190","probe_at":"2099-01-01T00:00:00.000Z"}}"#;
    bucket
        .put("whatsapp.whatsapp-main", held.into())
        .await
        .unwrap();
    let said = ask(&variables);
    said.has(
        "wrong",
        "channels",
        "account `whatsapp-main` is held",
        "CHAT4ALL_CHANNELS__WHATSAPP_MAIN__TOKEN",
    );
    assert!(
        said.answer
            .to_string()
            .contains("INACTIVE_CREDENTIAL, the provider's code is 190")
    );
    bucket.delete("whatsapp.whatsapp-main").await.unwrap();

    // One that an operator has stopped: nothing is wrong, and somebody should know.
    let word = |what: &str| {
        let arguments = [
            "channels",
            what,
            "whatsapp-main",
            "--reason",
            "incident 4711",
        ];
        operator(&variables, &[&arguments[..], &["--by", "anna"]].concat());
    };
    word("pause");
    let said = ask(&variables);
    said.has(
        "notice",
        "channels",
        "anna has stopped account `whatsapp-main`",
        "chat4all channels resume whatsapp-main",
    );
    assert!(said.answer.to_string().contains("(incident 4711)"));
    said.is_well();
    word("resume");
    let said = ask(&variables);
    said.is_well();
    assert!(!said.answer.to_string().contains("has stopped account"));

    channels::who_waits_for_another_try_is_told(&variables, &ask).await;

    roles::an_amber_check_is_a_notice(&variables);

    // A bucket that somebody removed.
    js.delete_stream("KV_LANES").await.unwrap();
    let said = ask(&variables);
    said.has(
        "wrong",
        "log",
        "not on the broker: KV_LANES",
        "chat4all provision",
    );

    the_read_models_are_told_apart(&up, &variables, &ask).await;
}

/// A command on this installation that has to succeed.
#[track_caller]
fn operator(variables: &Variables, arguments: &[&str]) {
    let output = tokio::task::block_in_place(|| {
        Command::new(chat4all_program().unwrap())
            .args(arguments)
            .envs(variables)
            .output()
            .unwrap()
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// The metrics, as soon as they have `line`.
async fn page_with(role: &str, line: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = reqwest::get(format!("{role}/metrics"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        if page.contains(line) {
            return page;
        }
        assert!(Instant::now() < deadline, "no `{line}` in {page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// With the role frozen, so that it does not mend what is done to its rows.
async fn the_read_models_are_told_apart(
    up: &Up,
    variables: &Variables,
    ask: &impl Fn(&Variables) -> Said,
) {
    operator(variables, &["provision"]);
    let url = &variables["CHAT4ALL_POSTGRES__URL"];
    let mut postgres = PgConnection::connect(url).await.unwrap();
    run(&mut postgres, "set search_path to chat4all").await;
    send(up.process("all").unwrap(), Signal::STOP);
    for (sequence, says) in [(1, "an event could not"), (2, "2 events could not")] {
        let parked = format!(
            "insert into projector_dead_letter (partition, sequence, subject, error, payload, recorded_at)
             values (0, {sequence}, 'chat.evt.00.x', 'it says nothing', '', now())"
        );
        run(&mut postgres, &parked).await;
        let said = ask(variables);
        said.has(
            "notice",
            "read_models",
            &format!("{says} be folded"),
            "An event that cannot be folded",
        );
    }
    let behind = "update projector_checkpoint set sequence = 0, recorded_at = null
                  where partition = (select partition from projector_checkpoint order by sequence desc limit 1)
                  returning partition";
    let partition: i16 = sqlx::query_scalar(behind)
        .fetch_one(&mut postgres)
        .await
        .unwrap();
    let said = ask(variables);
    said.has(
        "wrong",
        "readers",
        &format!("partition {partition:02} stands at 0"),
        "How far are the readers?",
    );
    said.has("wrong", "roles", "no role answers", "--role");

    let ahead = "update projector_checkpoint set sequence = 1000000 where partition = ";
    run(&mut postgres, &format!("{ahead}{partition}")).await;
    let said = ask(variables);
    said.has(
        "wrong",
        "read_models",
        "are ahead of the log",
        "chat4all rebuild",
    );
    let other = "update projector_checkpoint set sequence = 1, recorded_at = '2001-01-01' where partition = ";
    run(&mut postgres, &format!("{other}{partition}")).await;
    let said = ask(variables);
    said.has("wrong", "read_models", "of another log", "chat4all rebuild");

    run(
        &mut postgres,
        "update _sqlx_migrations set checksum = '' where version = 1",
    )
    .await;
    let said = ask(variables);
    said.has(
        "wrong",
        "read_models",
        "not this release's, or did not end: 1",
        "drop schema chat4all cascade",
    );
    run(
        &mut postgres,
        "delete from _sqlx_migrations where version = 2",
    )
    .await;
    let said = ask(variables);
    said.has(
        "wrong",
        "read_models",
        "lacks migrations: 2",
        "chat4all provision",
    );
    run(&mut postgres, "update _sqlx_migrations set version = 99").await;
    let said = ask(variables);
    said.has("wrong", "read_models", "does not know: 99", "newer release");
}

async fn run(postgres: &mut PgConnection, statement: &str) {
    sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(postgres)
        .await
        .unwrap();
}
