//! What the page says to type when the broker's data is lost, typed as it stands there.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use chat4all_cli::embedded::{NatsTools, temp_dir};
use reqwest::StatusCode;
use rustix::process::Signal;

use super::site::{Api, all_read, backed_up, on_the_log, phone, shown, text};
use crate::place::read_page;
use crate::support::up::{Up, send};

/// `$1` is the checkout, `$2` the backup; then `up`, as `make run` starts it.
const BEFORE: &str = r#"
cd "$1"
{
"#;
/// The next steps of the page, in the same shell. Whoever types sees when the broker listens, and when it has ended.
const AFTER: &str = r#"
trap 'kill $!' EXIT
at=${CHAT4ALL_NATS__URL#nats://}
until (: <"/dev/tcp/${at/://}") 2>/dev/null; do kill -0 $!; sleep 0.1; done
"$3" restore "$2"
kill $!
wait $! || true
trap - EXIT
} >&2
cd "$OLDPWD"
exec "${@:3}"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_page_says_to_type_brings_a_lost_broker_back() {
    let place = temp_dir().unwrap();
    let dir = place.path().join(".chat4all");
    let up = Up::start(&dir, Up::command(&dir));
    let env = up.variables();
    let api = Api::new(&env);
    let conversation = api.group("group", &phone(0, 0)).await;
    let body = text(&conversation, "before the loss");
    let (status, answer, _) = api.post("/v1/messages", "message", &body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    // And what `up` itself sends.
    all_read(&env, 2).await;
    let backup = backed_up(&env, place.path()).await;
    send(up.pid(), Signal::INT);
    let (status, said) = up.wait();
    assert!(status.success(), "{said}");

    let up = Up::start(&dir, typed(place.path(), &backup));
    for lost in ["nats.lost", "postgres.lost"] {
        assert!(dir.join(lost).is_dir(), "{lost}");
    }
    let env = up.variables();
    let found = on_the_log(&env).await;
    let message = answer["message_id"].as_str().unwrap();
    assert_eq!(found[&conversation], [message]);
    shown(&env, &found).await;
}

/// A shell in which all of it is typed, and which becomes `up`.
fn typed(checkout: &Path, backup: &Path) -> Command {
    let page = read_page("docs/operations.md");
    let (_, section) = page.split_once("### The broker's data is lost\n").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    assert!(block.contains("bin/nats-server -c"), "{block}");
    let script = [BEFORE, block, AFTER].concat();

    // Where the block's paths are true.
    let server = NatsTools::find().unwrap().server;
    let tools = server.ancestors().nth(2).unwrap();
    symlink(tools.canonicalize().unwrap(), checkout.join(".tools")).unwrap();
    let nats = concat!(env!("CARGO_MANIFEST_DIR"), "/../nats");
    symlink(nats, checkout.join("nats")).unwrap();

    let up = Up::command(&checkout.join(".chat4all"));
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", &script, "bash"])
        .args([checkout, backup])
        .arg(up.get_program())
        .args(up.get_args())
        .stdin(Stdio::null());
    // It only takes away what the surrounding shell has.
    for (name, _) in up.get_envs() {
        shell.env_remove(name);
    }
    shell
}
