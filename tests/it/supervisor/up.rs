//! `chat4all up`, as its user sees it.

use std::io::BufRead as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chat4all_cli::embedded::{
    Nats, NatsOptions, chat4all_program, children_of, is_running, temp_dir,
};
use rustix::process::Signal;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::{publish, start_postgres, wait_for, wait_until_gone};
use crate::support::up::{Up, printed, send};

fn variable(dir: &Path, name: &str) -> String {
    let script = format!(". '{}/env'; printf %s \"${name}\"", dir.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn up_that_is_told_to_exit_exits_cleanly_and_leaves_nothing() {
    let dir = temp_dir().unwrap();
    let output = Up::command(dir.path())
        .env("UP_EXIT", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    in_order(&said, &STEPS);
    let mode = std::fs::metadata(dir.path().join("env"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for name in ["CHAT4ALL_NATS__URL", "CHAT4ALL_POSTGRES__URL"] {
        let url = variable(dir.path(), name);
        let address = url.split("://").nth(1).unwrap().rsplit('@').next().unwrap();
        let address = address.split('/').next().unwrap();
        assert!(
            std::net::TcpStream::connect(address).is_err(),
            "{name} still answers at {address}"
        );
    }
}

/// What became of the first message, each step with its time.
const STEPS: [&str; 8] = [
    "accepted",
    " ms ",
    "sent",
    " ms ",
    "delivered",
    " ms ",
    "read",
    " ms ",
];

fn in_order<'a>(said: &'a str, expected: &[&str]) -> &'a str {
    expected.iter().fold(said, |rest, words| {
        let found = rest.find(words);
        let found = found.unwrap_or_else(|| panic!("{words:?} is not there, or too early: {said}"));
        &rest[found + words.len()..]
    })
}

#[test]
fn up_says_what_became_of_the_first_message_where_everything_is_and_what_to_try() {
    let dir = temp_dir().unwrap();
    let up = Up::start(dir.path(), Up::command(dir.path()));
    let rest = in_order(&up.said, &STEPS);
    let addresses = [
        "commands   http://127.0.0.1:",
        "queries    http://127.0.0.1:",
        "phone      http://127.0.0.1:",
        "NATS       nats://127.0.0.1:",
        "Postgres   postgres://",
        "token      in ",
        "CHAT4ALL_TOKEN",
        "Try, in another shell",
        "/env\n",
    ];
    let commands = in_order(rest, &addresses);
    let commands = commands.lines().filter(|line| line.contains("chat4all "));
    assert!(commands.count() >= 3, "{}", up.said);
}

#[test]
fn what_an_operator_has_paused_does_not_keep_up_from_running() {
    let dir = temp_dir().unwrap();
    let chat4all = |up: &Up, arguments: &[&str]| {
        let mut command = Command::new(chat4all_program().unwrap());
        printed(command.args(arguments).envs(up.variables()))
    };
    let up = Up::start(dir.path(), Up::command(dir.path()));
    let pause = ["channels", "pause", "whatsapp-main", "--reason", "a test"];
    chat4all(&up, &pause);
    let again = ["channels", "pause", "whatsapp-main", "--reason", "another"];
    in_order(&chat4all(&up, &again), &["is paused already", "a test"]);
    let again = [&again[..], &["--json"]].concat();
    let again: Value = serde_json::from_str(&chat4all(&up, &again)).unwrap();
    assert_eq!(
        (&again["changed"], &again["paused"]["reason"]),
        (&false.into(), &"a test".into())
    );
    send(up.pid(), Signal::INT);
    assert!(up.wait().0.success());

    // A check says so.
    let check = Up::command(dir.path()).env("UP_EXIT", "1").output();
    let check = check.unwrap();
    assert!(!check.status.success(), "{check:?}");
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(said.contains("has not been read"), "{said}");

    let up = Up::start(dir.path(), Up::command(dir.path()));
    in_order(
        &up.said,
        &[
            "accepted",
            "late",
            "PENDING",
            "doctor",
            "commands   http://",
        ],
    );
    let resume = ["channels", "resume", "whatsapp-main", "--reason", "done"];
    chat4all(&up, &resume);
    let to = [
        "send",
        "--to",
        "whatsapp-main:+4915112345678",
        "hello",
        "--watch=60",
    ];
    in_order(&chat4all(&up, &to), &["accepted", "READ"]);
    send(up.pid(), Signal::INT);
    assert!(up.wait().0.success());
}

#[test]
fn up_tells_programs_each_step_as_a_line_of_json_and_nothing_secret() {
    let dir = temp_dir().unwrap();
    let mut command = Up::command(dir.path());
    command.arg("--json");
    let up = Up::start(dir.path(), command);
    let token = variable(dir.path(), "CHAT4ALL_TOKEN");
    send(up.pid(), Signal::INT);
    let said = up.said.clone();
    let (status, rest) = up.wait();
    assert!(status.success(), "{rest}");
    let said = said + &rest;
    let steps: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    let wanted = [
        "provisioned",
        "accepted",
        "sent",
        "delivered",
        "read",
        "running",
        "stopping",
    ];
    // The provider's steps come as they come.
    let mut sorted = names[..7].to_owned();
    sorted[2..5].sort_by_key(|name| wanted.iter().position(|wanted| wanted == name));
    assert_eq!(sorted, wanted);
    assert!(
        names[7..].iter().all(|name| *name == "stopped"),
        "{names:?}"
    );
    assert!(names.len() > 9, "every server and role: {names:?}");
    for step in &steps[1..5] {
        assert!(step["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{step}");
    }
    assert!(steps[1]["message_id"].is_string() && steps[1]["position"].is_string());
    assert!(steps[5]["queries"].as_str().unwrap().starts_with("http://"));
    assert!(!said.contains(&token), "the token");
}

#[test]
fn up_killed_with_kill_9_leaves_no_child() {
    killed_with_kill_9(
        &temp_dir().unwrap(),
        |_| {},
        &["nats-server", "all", "simulator"],
    );
}

#[test]
fn up_with_a_process_for_each_role_killed_with_kill_9_leaves_no_child() {
    let split = |command: &mut Command| {
        command.arg("--split");
    };
    let parts = [
        "nats-server",
        "command-api",
        "query-api",
        "projector",
        "bridges",
    ];
    killed_with_kill_9(&temp_dir().unwrap(), split, &parts);
}

/// The user that every system has.
const NOBODY: u32 = 65_534;

#[test]
fn up_of_somebody_who_is_not_root_runs_and_is_killed_alike() {
    if !rustix::process::getuid().is_root() {
        println!("not root: every other test of `up` is this one");
        return;
    }
    let dir = temp_dir().unwrap();
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let as_nobody = |command: &mut Command| {
        command.uid(NOBODY).gid(NOBODY);
    };
    killed_with_kill_9(&dir, as_nobody, &["nats-server", "postgres", "all"]);
    for name in ["env", "secrets", "nats", "postgres"] {
        let owner = std::fs::metadata(dir.path().join(name)).unwrap().uid();
        assert_eq!(owner, NOBODY, "{name}");
    }
}

/// Starts it twice in the same directory; the first one is killed.
fn killed_with_kill_9(dir: &TempDir, change: impl Fn(&mut Command), parts: &[&str]) {
    let start = || {
        let mut command = Up::command(dir.path());
        change(&mut command);
        Up::start(dir.path(), command)
    };
    let up = start();
    for part in parts {
        assert!(up.process(part).is_some(), "no {part}");
    }
    let children = descendants_of(up.pid());
    send(up.pid(), Signal::KILL);
    wait_until_gone(&children);
    // What is left behind does not keep the next one from starting.
    let (status, _) = {
        let next = start();
        send(next.pid(), Signal::TERM);
        next.wait()
    };
    assert!(status.success(), "{status:?}");
}

#[test]
fn a_second_up_in_the_same_directory_is_refused() {
    let dir = temp_dir().unwrap();
    let first = Up::start(dir.path(), Up::command(dir.path()));
    let second = Up::command(dir.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        said.contains(&format!("another `chat4all up` (process {})", first.pid())),
        "{said}"
    );
}

#[test]
fn ctrl_c_stops_everything_and_exits_with_0() {
    let dir = temp_dir().unwrap();
    let up = Up::start(dir.path(), Up::command(dir.path()));
    let children = descendants_of(up.pid());
    send(up.pid(), Signal::INT);
    let (status, said) = up.wait();
    assert_eq!(status.code(), Some(0), "{said}");
    // In this order: nothing that uses the log may outlive it.
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "SIGINT: stopping",
            "all stopped",
            "simulator stopped",
            "postgres stopped",
            "nats-server stopped"
        ]
    );
    wait_until_gone(&children);
}

#[test]
fn a_second_ctrl_c_kills_and_exits_with_1() {
    let dir = temp_dir().unwrap();
    let mut up = Up::start(dir.path(), Up::command(dir.path()));
    let children = descendants_of(up.pid());
    let postgres = *children
        .iter()
        .find(|&&pid| name_of(pid) == "postgres")
        .unwrap();
    // Held again whenever it is let go, it cannot stop; killed it can be.
    let holding = Arc::new(AtomicBool::new(true));
    let holder = std::thread::spawn({
        let holding = Arc::clone(&holding);
        move || {
            while holding.load(Ordering::Relaxed) && is_running(postgres) {
                send(postgres, Signal::STOP);
            }
        }
    });
    send(up.pid(), Signal::INT);
    let mut seen = String::new();
    while !seen.contains("stopping") {
        assert!(up.output.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    send(up.pid(), Signal::INT);
    let (status, said) = up.wait();
    holding.store(false, Ordering::Relaxed);
    holder.join().unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    wait_until_gone(&children);
}

#[test]
fn a_server_that_dies_is_started_again_where_it_was() {
    let dir = temp_dir().unwrap();
    let up = Up::start(dir.path(), Up::command(dir.path()));
    let server = |name: &str| {
        let found = children_of(up.pid())
            .into_iter()
            .find(|&pid| name_of(pid) == name);
        found.ok_or_else(|| format!("no {name}"))
    };
    for (name, url) in [
        ("nats-server", "CHAT4ALL_NATS__URL"),
        ("postgres", "CHAT4ALL_POSTGRES__URL"),
    ] {
        let first = server(name).unwrap();
        send(first, Signal::KILL);
        wait_for("another process", || {
            server(name).and_then(|pid| {
                if pid == first {
                    Err("the old".into())
                } else {
                    Ok(pid)
                }
            })
        });
        let url = variable(dir.path(), url);
        let address = url
            .rsplit(['@', '/'])
            .find(|part| part.contains("127.0.0.1"))
            .unwrap()
            .to_owned();
        wait_for("an answer", || std::net::TcpStream::connect(&address));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_given_by_url_are_used_and_left_alone() {
    let dir = temp_dir().unwrap();
    let nats = Nats::start(NatsOptions::in_dir(dir.path().join("n")))
        .await
        .unwrap();
    let postgres = start_postgres(&dir.path().join("p")).await;
    let mut command = Up::command(&dir.path().join("up"));
    command
        .env("CHAT4ALL_NATS__URL", nats.url())
        .env("CHAT4ALL_NATS__MONITOR_URL", nats.monitor_url())
        .env("CHAT4ALL_POSTGRES__URL", postgres.url());
    let up = Up::start(&dir.path().join("up"), command);
    let children = children_of(up.pid()).into_iter().map(name_of);
    assert_eq!(
        children.collect::<Vec<_>>(),
        ["chat4all"; 2],
        "the roles and the simulator, and no server"
    );
    assert_eq!(
        variable(&dir.path().join("up"), "CHAT4ALL_NATS__URL"),
        nats.url()
    );
    send(up.pid(), Signal::INT);
    assert_eq!(up.wait().0.code(), Some(0));
    publish(&nats.url(), "still there", 1).await;
    PgConnection::connect(&postgres.url()).await.unwrap();
}

#[test]
fn a_missing_program_is_named_with_the_command_that_gets_it() {
    let dir = temp_dir().unwrap();
    let output = Up::command(&dir.path().join("up"))
        .env("CHAT4ALL_TOOLS", dir.path())
        .env("PATH", dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nats-server not found"), "{said}");
    assert!(said.contains("make .tools/.stamp"), "{said}");
}

fn name_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Children, their children, and so on.
fn descendants_of(pid: u32) -> Vec<u32> {
    let mut found = children_of(pid);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children_of(pid));
        next += 1;
    }
    found
}
