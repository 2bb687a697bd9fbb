//! The servers we run ourselves, and `chat4all up`: they start, answer, come back, and leave nothing behind.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fmt::Debug;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use chat4all_cli::embedded::{
    ClusterOptions, Nats, NatsCluster, NatsOptions, Postgres, PostgresOptions, StartError,
    chat4all_program, children_of, is_running, temp_dir, user_of,
};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection as _, PgConnection};

const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65_534;

/// Waits until `look` finds something, showing what it saw last if it never does.
#[track_caller]
fn wait_for<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => {
                panic!("{what} not within {PATIENCE:?}: {seen:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[track_caller]
fn wait_until_gone(pids: &[u32]) {
    wait_for("end of all children", || {
        let left: Vec<u32> = pids
            .iter()
            .copied()
            .filter(|&pid| is_running(pid))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
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

fn send(pid: u32, signal: Signal) {
    // One that has just ended is as good as one that got the signal.
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

async fn start_postgres(dir: &Path) -> Postgres {
    let options = PostgresOptions {
        fsync: false,
        ..PostgresOptions::in_dir(dir)
    };
    Postgres::start(options).await.unwrap()
}

/// Stores one message in a stream that is made if it is not there; `urls` as `NatsCluster::url` gives them.
async fn publish(urls: &str, text: &'static str, replicas: usize) {
    let urls: Vec<&str> = urls.split(',').collect();
    let client = async_nats::connect(urls.as_slice()).await.unwrap();
    let jetstream = jetstream::new(client);
    let config = jetstream::stream::Config {
        name: "T".into(),
        subjects: vec!["t".into()],
        num_replicas: replicas,
        ..Default::default()
    };
    jetstream.get_or_create_stream(config).await.unwrap();
    jetstream
        .publish("t", text.into())
        .await
        .unwrap()
        .await
        .unwrap();
}

async fn published(url: &str, sequence: u64) -> String {
    let client = async_nats::connect(url).await.unwrap();
    let stream = jetstream::new(client).get_stream("T").await.unwrap();
    let message = stream.get_raw_message(sequence).await.unwrap();
    String::from_utf8(message.payload.to_vec()).unwrap()
}

#[tokio::test]
async fn nats_starts_and_stops_and_leaves_no_process() {
    let dir = temp_dir().unwrap();
    let mut nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let pid = nats.pid().unwrap();
    publish(&nats.url(), "hello", 1).await;
    nats.stop().await.unwrap();
    assert!(!is_running(pid));
    assert_eq!(nats.pid(), None);
}

#[tokio::test]
async fn nats_takes_eight_mebibytes_and_syncs_always() {
    let dir = temp_dir().unwrap();
    let nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    assert_eq!(client.server_info().max_payload, 8 * 1024 * 1024);
    let page = reqwest::get(format!("{}/varz", nats.monitor_url()))
        .await
        .unwrap();
    let page: serde_json::Value = page.json().await.unwrap();
    assert_eq!(page["jetstream"]["config"]["sync_always"], true);
}

#[tokio::test]
async fn nats_killed_and_restarted_has_its_data_and_its_port() {
    let dir = temp_dir().unwrap();
    let mut nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let (url, pid) = (nats.url(), nats.pid().unwrap());
    publish(&url, "kept", 1).await;
    nats.kill().await;
    assert!(!is_running(pid));
    nats.restart().await.unwrap();
    assert_eq!(nats.url(), url);
    assert_eq!(published(&url, 1).await, "kept");
}

#[tokio::test]
async fn a_suspended_nats_is_silent_until_resumed() {
    let dir = temp_dir().unwrap();
    let nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let jetstream = jetstream::new(client);
    nats.suspend().await;
    let asked = tokio::time::timeout(Duration::from_millis(300), jetstream.query_account()).await;
    assert!(asked.is_err(), "a suspended server answered {asked:?}");
    nats.resume();
    jetstream.query_account().await.unwrap();
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let dir = temp_dir().unwrap();
    let nats = Nats::start(NatsOptions::in_dir(dir.path().join("n")))
        .await
        .unwrap();
    let postgres = start_postgres(&dir.path().join("p")).await;
    let mut pids = vec![nats.pid().unwrap(), postgres.pid().unwrap()];
    pids.extend(children_of(postgres.pid().unwrap()));
    assert!(pids.len() > 2, "Postgres has children of its own: {pids:?}");
    drop((nats, postgres));
    wait_until_gone(&pids);
}

#[tokio::test]
async fn a_directory_serves_one_server_at_a_time() {
    let dir = temp_dir().unwrap();
    let _first = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let second = Nats::start(NatsOptions::in_dir(dir.path())).await;
    assert!(
        matches!(second, Err(StartError::DirectoryInUse { .. })),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_cluster_forms_loses_its_leader_and_goes_on() {
    let dir = temp_dir().unwrap();
    let mut cluster = NatsCluster::start(ClusterOptions::in_dir(dir.path()))
        .await
        .unwrap();
    let url = cluster.url();
    let servers: Vec<&str> = url.split(',').collect();
    publish(&url, "first", 3).await;
    let jetstream = jetstream::new(async_nats::connect(servers.as_slice()).await.unwrap());
    let mut stream = jetstream.get_stream("T").await.unwrap();
    let leader = stream
        .info()
        .await
        .unwrap()
        .cluster
        .clone()
        .unwrap()
        .leader
        .unwrap();
    let leader = cluster.index_of(&leader).unwrap();
    cluster.node(leader).kill().await;

    let deadline = Instant::now() + PATIENCE;
    loop {
        let stored = match jetstream.publish("t", "second".into()).await {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(ack) => break assert!(ack.sequence >= 2),
            Err(error) => assert!(Instant::now() < deadline, "no new leader: {error}"),
        }
    }
    cluster.node(leader).restart().await.unwrap();
    cluster.formed().await.unwrap();
    assert_eq!(
        published(cluster.nodes()[leader].url().as_str(), 2).await,
        "second"
    );
}

#[tokio::test]
async fn postgres_killed_and_restarted_has_its_data_and_its_port() {
    let dir = temp_dir().unwrap();
    let options = PostgresOptions::in_dir(dir.path());
    let mut postgres = Postgres::start(options).await.unwrap();
    let url = postgres.url();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("create table t (n int); insert into t values (7)")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut pids = children_of(postgres.pid().unwrap());
    pids.push(postgres.pid().unwrap());
    postgres.kill().await;
    assert!(
        pids.iter().all(|&pid| !is_running(pid)),
        "of {pids:?} some still run"
    );

    postgres.restart().await.unwrap();
    assert_eq!(postgres.url(), url);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let n: i32 = sqlx::query_scalar("select n from t")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(n, 7);
}

#[tokio::test]
async fn postgres_stops_although_somebody_is_connected() {
    let dir = temp_dir().unwrap();
    let mut postgres = start_postgres(dir.path()).await;
    let _connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut pids = children_of(postgres.pid().unwrap());
    pids.push(postgres.pid().unwrap());
    postgres.stop().await.unwrap();
    wait_until_gone(&pids);
}

#[tokio::test]
async fn a_suspended_postgres_keeps_connections_silent_until_resumed() {
    let dir = temp_dir().unwrap();
    let postgres = start_postgres(dir.path()).await;
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    postgres.suspend().await;
    let query = sqlx::query_scalar("select 7").fetch_one(&mut connection);
    tokio::pin!(query);
    let asked = tokio::time::timeout(Duration::from_millis(300), &mut query).await;
    assert!(asked.is_err(), "a suspended server answered {asked:?}");
    postgres.resume();
    let answer: i32 = query.await.unwrap();
    assert_eq!(answer, 7);
}

#[tokio::test]
async fn as_root_postgres_runs_as_nobody_and_otherwise_as_ourselves() {
    let dir = temp_dir().unwrap();
    let postgres = start_postgres(dir.path()).await;
    let own = rustix::process::geteuid();
    let expected = if own.is_root() { NOBODY } else { own.as_raw() };
    assert_eq!(user_of(postgres.pid().unwrap()), Some(expected));
}

#[tokio::test]
async fn postgres_runs_although_its_directory_is_closed_to_nobody() {
    let dir = temp_dir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let wanted = dir.path().join("p");
    let postgres = start_postgres(&wanted).await;
    PgConnection::connect(&postgres.url()).await.unwrap();
    drop(postgres);
    if rustix::process::geteuid().is_root() {
        let place = std::fs::read_link(wanted.join("data")).unwrap();
        assert!(place.starts_with("/var/tmp"), "{place:?}");
        // It comes back to the same place.
        let again = start_postgres(&wanted).await;
        PgConnection::connect(&again.url()).await.unwrap();
        drop(again);
        std::fs::remove_dir_all(place.parent().unwrap()).unwrap();
    }
}

/// A `chat4all up`, killed at the end of the test.
struct Up {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Up {
    fn command(dir: &Path) -> Command {
        let mut command = Command::new(chat4all_program().unwrap());
        command.arg("up").arg("--dir").arg(dir);
        for variable in [
            "CHAT4ALL_NATS__URL",
            "CHAT4ALL_POSTGRES__URL",
            "CHAT4ALL_UP_STARTED",
            "UP_EXIT",
        ] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Returns when it says that it runs.
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut up = Self { child, output };
        let mut seen = String::new();
        while !seen.contains("running") {
            let read = up.output.read_line(&mut seen).unwrap();
            assert!(read > 0, "up ended: {seen}");
        }
        up
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ends, and what else it said.
    fn wait(mut self) -> (ExitStatus, String) {
        let status = wait_for("end of up", || {
            self.child.try_wait().unwrap().ok_or("still runs")
        });
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        (status, said)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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

#[test]
fn up_killed_with_kill_9_leaves_no_child() {
    let dir = temp_dir().unwrap();
    let up = Up::start(Up::command(dir.path()));
    let children = descendants_of(up.pid());
    assert!(
        children.len() > 2,
        "nats-server, Postgres and its children: {children:?}"
    );
    send(up.pid(), Signal::KILL);
    wait_until_gone(&children);
    // What is left behind does not keep the next one from starting.
    let (status, _) = {
        let next = Up::start(Up::command(dir.path()));
        send(next.pid(), Signal::TERM);
        next.wait()
    };
    assert!(status.success(), "{status:?}");
}

#[test]
fn a_second_up_in_the_same_directory_is_refused() {
    let dir = temp_dir().unwrap();
    let first = Up::start(Up::command(dir.path()));
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
    let up = Up::start(Up::command(dir.path()));
    let children = descendants_of(up.pid());
    send(up.pid(), Signal::INT);
    let (status, said) = up.wait();
    assert_eq!(status.code(), Some(0), "{said}");
    // In this order: nothing that uses the log may outlive it.
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "SIGINT: stopping",
            "postgres stopped",
            "nats-server stopped"
        ]
    );
    wait_until_gone(&children);
}

#[test]
fn a_second_ctrl_c_kills_and_exits_with_1() {
    let dir = temp_dir().unwrap();
    let mut up = Up::start(Up::command(dir.path()));
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
    let up = Up::start(Up::command(dir.path()));
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
        .env("CHAT4ALL_POSTGRES__URL", postgres.url());
    let up = Up::start(command);
    assert_eq!(children_of(up.pid()), Vec::<u32>::new());
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
