//! The systemd units: commands that parse, settings that are some, and more time to stop than the role takes.

use std::collections::{BTreeMap, BTreeSet};

use chat4all_cli::args::Command;
use chat4all_cli::embedded::{NatsTools, temp_dir};

use super::files::{self, Variables, command, filled, path, read, seconds, variables};

const ROLES: [&str; 4] = ["command-api", "query-api", "projector", "bridges"];

/// The lines of a unit, by key.
fn unit(file: &str) -> BTreeMap<String, Vec<String>> {
    let text = read(&format!("deploy/systemd/{file}"));
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, value) in lines.filter_map(|line| line.split_once('=')) {
        keys.entry(key.to_owned())
            .or_default()
            .push(value.to_owned());
    }
    keys
}

/// What is in a file of `/etc/chat4all`, by what is shipped for it.
fn shipped(file: &str) -> Variables {
    let name = file.strip_prefix("/etc/chat4all/").unwrap();
    let shipped = format!("deploy/systemd/etc/{name}");
    if path(&shipped).exists() {
        variables(&shipped)
    } else {
        filled_example(&shipped)
    }
}

/// The example with everything in it, what is commented out too.
fn filled_example(file: &str) -> Variables {
    let text = read(&format!("{file}.example")).replace("\n#CHAT4ALL_", "\nCHAT4ALL_");
    let mut all = filled(files::variables_in(&text));
    all.insert(
        "CHAT4ALL_POSTGRES__URL".into(),
        "postgres://chat4all:x@127.0.0.1/chat4all".into(),
    );
    let number = all
        .keys()
        .find(|name| name.ends_with("__PHONE_NUMBER_ID"))
        .unwrap()
        .clone();
    all.insert(number, "1".into());
    all
}

#[test]
fn each_role_starts_with_settings_of_its_own_and_is_given_time_to_stop() {
    let unit = unit("chat4all@.service");
    assert_eq!(unit["EnvironmentFile"].len(), 2);
    let mut places = BTreeSet::new();
    for role in ROLES {
        let exec = unit["ExecStart"][0].replace("%i", role);
        let words: Vec<String> = exec.split(' ').map(str::to_owned).collect();
        assert_eq!(words[0], "/usr/local/bin/chat4all");
        command(&words[1..]);
        let files = unit["EnvironmentFile"]
            .iter()
            .map(|file| shipped(&file.replace("%i", role)));
        let config = files::settings(&files.flatten().collect()).config;
        assert_eq!(config.channels.len(), 1);
        assert!(
            places.insert(config.http.listen),
            "two roles on {}",
            config.http.listen
        );
        let stop = seconds(&unit["TimeoutStopSec"][0]);
        let grace = config.shutdown.grace_ms.duration().as_secs();
        assert!(
            stop > grace,
            "{role} is killed after {stop} s, within its {grace} s of grace"
        );
    }
    assert_eq!(unit["Restart"], ["on-failure"]);
    for hardening in [
        "NoNewPrivileges",
        "ProtectSystem",
        "PrivateTmp",
        "DynamicUser",
        "CapabilityBoundingSet",
    ] {
        assert!(unit.contains_key(hardening), "no {hardening}");
    }
}

#[test]
fn provisioning_is_a_command_with_the_same_settings() {
    let unit = unit("chat4all-provision.service");
    let words: Vec<String> = unit["ExecStart"][0]
        .split(' ')
        .skip(1)
        .map(str::to_owned)
        .collect();
    assert!(matches!(command(&words).command, Command::Provision(_)));
    files::settings(&shipped(&unit["EnvironmentFile"][0]));
}

/// nats-server reads the configuration with the variables of the units and of compose.yaml, and finds nothing missing.
#[test]
fn the_broker_understands_what_it_is_given() {
    let store = temp_dir().unwrap();
    let server = NatsTools::find().unwrap().server;
    let check = |file: &str, variables: &Variables| {
        let mut command = std::process::Command::new(&server);
        command
            .args(["-t", "-c"])
            .arg(path(file))
            .env_clear()
            .envs(variables);
        let output = command
            .env("NATS_STORE_DIR", store.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{file}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let unit = unit("chat4all-nats.service");
    assert!(unit["ExecStart"][0].ends_with("nats-server -c /etc/chat4all/nats.conf"));
    check("nats/nats-server.conf", &variables("nats/nats-server.env"));
    let compose = files::interpolated(
        &files::yaml("compose.yaml"),
        &filled(variables(".env.example")),
    )
    .unwrap();
    for node in ["nats", "nats-2", "nats-3"] {
        let set = compose["services"][node]["environment"]
            .as_object()
            .unwrap();
        let set = set
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        check("nats/nats-server.conf", &set);
        check("nats/nats-cluster.conf", &set);
    }
}
