//! `compose.yaml`, held against the binary: every variable is a setting with a value that may be, every command parses, every
//! port is the one that the role listens on, every name that is called is a service.

use std::collections::BTreeSet;

use chat4all_cli::args::Command;
use chat4all_service::Config;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::files::{
    self, Variables, command, filled, interpolated, mounts, path, seconds, variables, words, yaml,
};
use super::{broker, watching};

/// Started as the page says.
pub struct Form {
    pub profiles: &'static [&'static str],
    /// Files of variables beside `.env`.
    pub more: &'static [&'static str],
    nodes: usize,
}

const ONE_NODE: Form = Form {
    profiles: &[],
    more: &[],
    nodes: 1,
};
const CLUSTER: Form = Form {
    profiles: &["cluster"],
    more: &["deploy/cluster.env"],
    nodes: 3,
};
const SIMULATOR: Form = Form {
    profiles: &["simulator"],
    more: &["deploy/simulator/simulator.env"],
    nodes: 1,
};
const METRICS: Form = Form {
    profiles: &["metrics"],
    more: &[],
    nodes: 1,
};
const TOOLS: Form = Form {
    profiles: &["tools"],
    more: &[],
    nodes: 1,
};
pub const FORMS: [Form; 5] = [ONE_NODE, CLUSTER, SIMULATOR, METRICS, TOOLS];
/// What every form starts.
const ALWAYS: &[&str] = &[
    "nats",
    "postgres",
    "provision",
    "command-api",
    "query-api",
    "projector",
    "bridges",
];
/// What a profile adds.
const ADDED: &[(&str, &[&str])] = &[
    ("cluster", &["nats-2", "nats-3"]),
    ("simulator", &["simulator"]),
    ("metrics", &["prometheus", "grafana", "node-exporter"]),
    ("tools", &["tool"]),
];
/// Services that do one thing and end.
const ONCE: &[&str] = &["provision", "tool"];
/// What must be said before anything starts.
pub const SECRETS: &[&str] = &[
    "CHAT4ALL_IDS__SECRET",
    "CHAT4ALL_AUTH__HS256_SECRET",
    "POSTGRES_PASSWORD",
    "GRAFANA_ADMIN_PASSWORD",
];

#[test]
fn every_form_of_it_is_one_that_the_binary_understands() {
    for form in FORMS {
        check(&form.project(), &form);
    }
}

#[test]
fn the_profile_of_the_cluster_starts_no_broker_of_its_own_without_the_variables_of_the_cluster() {
    let forgotten = Form {
        more: &[],
        ..CLUSTER
    };
    for (form, clustered) in [(CLUSTER, true), (forgotten, false)] {
        let project = form.project();
        for node in ["nats-2", "nats-3"] {
            let service = &project["services"][node];
            let file = words(&service["command"]).pop().unwrap();
            let file = file.strip_prefix("/etc/nats/").unwrap();
            assert_eq!(file == "nats-cluster.conf", clustered, "{node}: {file}");
            // What it says when it does not start.
            assert_eq!(file.contains("deploy-cluster.env"), !clustered, "{file}");
            assert_eq!(path("nats").join(file).exists(), clustered, "{file}");
            // Nothing of ours begins before it is well.
            let needs = &project["services"]["provision"]["depends_on"][node];
            assert_eq!(needs["condition"], "service_healthy", "{node}");
        }
    }
}

#[test]
fn without_a_secret_nothing_starts_and_it_says_which() {
    let compose = yaml("compose.yaml");
    let all = filled(variables(".env.example"));
    assert!(interpolated(&compose, &all).is_ok());
    for secret in SECRETS {
        assert_eq!(
            variables(".env.example")[*secret],
            "",
            "{secret} has a value in the example"
        );
        let mut without = all.clone();
        without.insert((*secret).to_owned(), String::new());
        let refused = interpolated(&compose, &without).unwrap_err();
        assert!(refused.starts_with(secret), "{refused}");
    }
}

#[test]
fn every_variable_of_the_example_is_asked_for_by_somebody() {
    let asked = files::read("compose.yaml");
    for name in variables(".env.example").keys() {
        assert!(
            asked.contains(&format!("${{{name}:")),
            "nobody asks for {name}"
        );
    }
    let example = variables("deploy/channels.env.example");
    let secrets = SECRETS[..2]
        .iter()
        .map(|name| ((*name).to_owned(), files::SECRET.to_owned()));
    let one = |(name, value): (String, String)| {
        (
            name,
            if value.is_empty() {
                "1".to_owned()
            } else {
                value
            },
        )
    };
    let settings: Variables = secrets.chain(example.into_iter().map(one)).collect();
    assert_eq!(files::settings(&settings).config.channels.len(), 1);
}

impl Form {
    /// The services that this form starts, as Compose's own `config` would show them.
    fn project(&self) -> Value {
        let mut env = filled(variables(".env.example"));
        self.more
            .iter()
            .for_each(|file| env.extend(variables(file)));
        let mut project = interpolated(&yaml("compose.yaml"), &env).unwrap();
        let services = project["services"].as_object_mut().unwrap();
        services.retain(|_, service| match service["profiles"].as_array() {
            Some(profiles) => profiles
                .iter()
                .any(|one| self.profiles.contains(&one.as_str().unwrap())),
            None => true,
        });
        for service in services.values_mut() {
            for file in service["env_file"].as_array().cloned().unwrap_or_default() {
                let (file, required) = (
                    file["path"].as_str().unwrap(),
                    file["required"] != Value::Bool(false),
                );
                assert!(path(file).exists() || !required, "{file}");
                // Variables that a file sets give way to those of the service.
                if path(file).exists() {
                    let environment = service["environment"].as_object_mut().unwrap();
                    for (name, value) in variables(file) {
                        environment.entry(name).or_insert(Value::String(value));
                    }
                }
            }
        }
        project
    }
}

/// Everything that must be true of a project, whoever has resolved it.
pub fn check(project: &Value, form: &Form) {
    let services = project["services"].as_object().unwrap();
    let added = ADDED
        .iter()
        .filter(|(profile, _)| form.profiles.contains(profile));
    let expected: BTreeSet<_> = added.flat_map(|(_, names)| *names).chain(ALWAYS).collect();
    let names: Vec<_> = services.keys().collect();
    assert!(
        names.len() == expected.len() && names.iter().all(|name| expected.contains(&name.as_str())),
        "{names:?} with the profiles {:?}",
        form.profiles
    );
    for (name, service) in services {
        println!("service {name}");
        bounded(name, service);
        refers(project, name, service);
        connected(project, name, service);
        if service["image"].as_str().unwrap().starts_with("chat4all:") {
            ours(project, name, service, form.nodes);
        }
    }
    if let Some(simulator) = services.get("simulator") {
        simulated(project, simulator);
    }
    if form.profiles.contains(&"metrics") {
        watching::is(project);
    }
}

/// It cannot take the machine, comes back, and says whether it is well.
fn bounded(name: &str, service: &Value) {
    let limits = &service["deploy"]["resources"]["limits"];
    assert!(
        !limits["cpus"].is_null() && !limits["memory"].is_null(),
        "{name} has no limits"
    );
    assert!(
        !limits["pids"].is_null(),
        "{name} has no limit of processes"
    );
    assert_eq!(service["cap_drop"][0], "ALL", "{name}");
    assert_eq!(service["read_only"], true, "{name}");
    if name == "provision" {
        // Servers that are not there yet are tried again; what cannot be, is not for ever.
        assert_eq!(service["restart"], "on-failure:10", "{name}");
    }
    if !ONCE.contains(&name) {
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert_eq!(
            service["healthcheck"]["test"][0], "CMD",
            "{name} has no health check"
        );
    }
}

/// What it names is there.
fn refers(project: &Value, name: &str, service: &Value) {
    for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
        let there = !project["services"][other].is_null();
        assert!(
            there || how["required"] == Value::Bool(false),
            "{name} depends on {other}"
        );
    }
    for (source, _) in &mounts(service) {
        if source.starts_with(['.', '/']) {
            assert!(path(source).exists(), "{name}: {source} is not there");
        } else {
            assert!(
                !project["volumes"][source.as_str()].is_null(),
                "{name}: no volume {source}"
            );
        }
    }
}

/// Its networks are there, and who has no TLS is on none that leads out.
fn connected(project: &Value, name: &str, service: &Value) {
    let networks: Vec<&str> = match &service["networks"] {
        Value::Array(short) => short.iter().map(|one| one.as_str().unwrap()).collect(),
        Value::Object(long) => long.keys().map(String::as_str).collect(),
        other => panic!("{name} is on no network that is named: {other}"),
    };
    let known = project["networks"].as_object().unwrap();
    for network in &networks {
        assert!(known.contains_key(*network), "{name}: no network {network}");
    }
    if name == "postgres" || name.starts_with("nats") {
        assert_eq!(networks, ["inside"], "{name}");
        assert_eq!(known["inside"]["internal"], true);
        assert!(service["ports"].is_null(), "{name} is published");
    }
}

/// A service of our own image.
fn ours(project: &Value, name: &str, service: &Value, nodes: usize) {
    let words_of = words(&service["command"]);
    let environment = service["environment"].as_object().unwrap();
    let environment: Variables = environment
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    let config = files::settings(&environment).config;
    broker::is(project, &config, nodes);
    database_is(project, &config);
    let grace = config.shutdown.grace_ms.duration().as_secs();
    let stop = seconds(service["stop_grace_period"].as_str().unwrap());
    assert!(
        stop > grace,
        "{name} is killed after {stop} s, within its {grace} s of grace"
    );

    let listens = match command(&words_of).command {
        Command::CommandApi(_)
        | Command::QueryApi(_)
        | Command::Projector(_)
        | Command::Bridges(_) => {
            assert_eq!(words_of, [name], "{name} is another role");
            let probe = words(&service["healthcheck"]["test"]);
            assert_eq!(probe[1], "chat4all");
            let Command::Doctor(_) = command(&probe[2..]).command else {
                panic!("{name}: {probe:?}");
            };
            let asked = url::Url::parse(probe.last().unwrap()).unwrap();
            assert_eq!(asked.port(), Some(config.http.listen.port()), "{name}");
            config.http.listen
        }
        Command::Simulator(command) => command.args.listen.unwrap(),
        Command::Provision(_) => return,
        Command::Doctor(_) => {
            return every_role_is_asked(project, &words_of, config.http.listen.port());
        }
        other => panic!("{name} runs {other:?}"),
    };
    assert!(
        listens.ip().is_unspecified(),
        "{name} is not heard outside of its container"
    );
    for port in service["ports"].as_array().into_iter().flatten() {
        let (host, target) = match port {
            Value::String(short) => (
                short.split(':').next().unwrap(),
                short.rsplit(':').next().unwrap().parse().unwrap(),
            ),
            long => (
                long["host_ip"].as_str().unwrap(),
                long["target"].as_u64().unwrap(),
            ),
        };
        assert_eq!(host, "127.0.0.1", "{name} is published to everybody");
        assert_eq!(target, u64::from(listens.port()), "{name}");
    }
}

fn every_role_is_asked(project: &Value, words: &[String], port: u16) {
    let asked: BTreeSet<_> = words
        .iter()
        .filter_map(|word| word.strip_prefix("http://"))
        .collect();
    let roles =
        ["command-api", "query-api", "projector", "bridges"].map(|role| format!("{role}:{port}"));
    assert_eq!(asked, roles.iter().map(String::as_str).collect());
    assert!(!project["services"]["command-api"].is_null());
}

/// Where the roles look for Postgres a service makes that user and that database, with that password, when it is new.
fn database_is(project: &Value, config: &Config) {
    let url = url::Url::parse(config.postgres.url.expose_secret()).unwrap();
    let host = url.host_str().unwrap();
    assert_eq!((host, url.port()), ("postgres", Some(5432)));
    let postgres = &project["services"][host];
    let made = |variable: &str| postgres["environment"][variable].as_str();
    let (user, database) = (url.username(), url.path().trim_start_matches('/'));
    assert_eq!(made("POSTGRES_USER"), Some(user));
    assert_eq!(made("POSTGRES_DB"), Some(database));
    // Not by `assert_eq`: it would be shown.
    let password = made("POSTGRES_PASSWORD");
    assert!(
        password.is_some() && password == url.password(),
        "the roles have another password than Postgres"
    );
    let probe = words(&postgres["healthcheck"]["test"]);
    assert!(probe.ends_with(&["-U", user, "-d", database].map(str::to_owned)));
}

/// The simulator knows the account that the roles have, and calls the bridges back.
fn simulated(project: &Value, simulator: &Value) {
    let words = words(&simulator["command"]);
    assert_eq!(words[3..], ["--config", "/etc/chat4all/accounts.json"]);
    let accounts: Value =
        serde_json::from_str(&files::read("deploy/simulator/accounts.json")).unwrap();
    let known: chat4all_simulator::Config = serde_json::from_value(accounts.clone()).unwrap();
    let account = &known.accounts[0];
    let bridges = project["services"]["bridges"]["environment"]
        .as_object()
        .unwrap();
    let ours = |name: &str| {
        bridges[&format!("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__{name}")]
            .as_str()
            .unwrap()
    };
    assert_eq!(ours("TOKEN"), account.token);
    assert_eq!(ours("APP_SECRET"), account.app_secret);
    assert_eq!(ours("VERIFY_TOKEN"), account.verify_token);
    assert_eq!(ours("PHONE_NUMBER_ID"), account.phone_number_id);
    assert!(ours("API_BASE").starts_with("http://simulator:4600/"));
    let hook = account.webhook_url.as_ref().unwrap();
    assert_eq!(
        hook.as_str(),
        "http://bridges:8080/webhooks/whatsapp/whatsapp-main"
    );
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
