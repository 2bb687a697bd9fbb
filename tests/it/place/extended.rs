//! The same files, given to the tools that will read them: Compose's own `config`, promtool, systemd-analyze. `make
//! test-extended` fetches them and runs this, or `make test-compose`, `test-rules` and `test-units` for one of them; without
//! them these tests fail and say so.

use std::path::PathBuf;
use std::process::{Command, Output};

use chat4all_cli::embedded::{chat4all_program, temp_dir};
use serde_json::{Value, json};

use super::compose::{FORMS, SECRETS, check};
use super::dashboards::panels;
use super::files::{filled, path, read, variables};

/// What the exposure of a unit may be by `systemd-analyze security`, in tenths: 1.2 when this was written.
const EXPOSURE: &str = "15";

/// A tool that was fetched, by its place below `.tools`.
fn tool(place: &str) -> PathBuf {
    let tool = path(".tools").join(place);
    assert!(
        tool.exists(),
        "{place} is not there: `make test-extended` fetches it"
    );
    tool
}

fn compose(arguments: &[&str]) -> Output {
    let mut command = Command::new(tool("compose/bin/docker-compose"));
    // Only what the files say counts.
    command
        .env_clear()
        .env("HOME", "/nonexistent")
        .current_dir(path("."));
    command.args(arguments).output().unwrap()
}

fn succeeded(output: &Output) -> String {
    let (said, complained) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(said).into_owned();
    assert!(output.status.success(), "{said}\n{complained}");
    said
}

#[test]
#[ignore = "needs Compose: make test-extended"]
fn compose_itself_resolves_every_form_of_it() {
    let dir = temp_dir().unwrap();
    let env = dir.path().join("env");
    let lines = filled(variables(".env.example")).into_iter();
    let lines: Vec<_> = lines
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    std::fs::write(&env, lines.concat()).unwrap();
    let env = env.to_str().unwrap();
    for form in FORMS {
        let mut arguments = vec!["--env-file", env];
        form.more
            .iter()
            .for_each(|file| arguments.extend(["--env-file", file]));
        form.profiles
            .iter()
            .for_each(|profile| arguments.extend(["--profile", profile]));
        arguments.extend(["config", "--format", "json"]);
        let project: Value = serde_json::from_str(&succeeded(&compose(&arguments))).unwrap();
        check(&project, &form);
    }
}

#[test]
#[ignore = "needs Compose: make test-extended"]
fn compose_itself_refuses_without_secrets_and_names_them() {
    let output = compose(&["--env-file", ".env.example", "config", "--quiet"]);
    assert!(!output.status.success());
    let complained = String::from_utf8_lossy(&output.stderr);
    for secret in SECRETS {
        assert!(
            complained.contains(&format!("required variable {secret} is missing")),
            "{complained}"
        );
    }
}

fn promtool(arguments: &[&str]) -> String {
    let mut command = Command::new(tool("promtool/promtool"));
    let output = command
        .args(arguments)
        .current_dir(path("deploy/prometheus"))
        .output();
    succeeded(&output.unwrap())
}

#[test]
#[ignore = "needs promtool: make test-extended"]
fn prometheus_reads_its_configuration_and_each_alert_rings_when_it_should() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "rules.yml"]);
    let said = promtool(&["test", "rules", "rules_test.yml"]);
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
#[ignore = "needs promtool: make test-extended"]
fn prometheus_understands_every_panel_of_the_dashboard() {
    let panels = panels();
    assert!(panels.len() > 20, "{panels:?}");
    let rules = panels.iter().enumerate().map(|(number, expression)| {
        // What Grafana puts in.
        let expression = expression.replace("$__rate_interval", "5m");
        assert!(!expression.contains('$'), "who fills in {expression}?");
        json!({ "record": format!("panel:{number}"), "expr": expression })
    });
    let rules: Vec<_> = rules.collect();
    let dir = temp_dir().unwrap();
    let file = dir.path().join("panels.yml");
    let text = json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string();
    std::fs::write(&file, text).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
#[ignore = "needs systemd-analyze: make test-extended"]
fn systemd_understands_every_unit_and_finds_little_exposed() {
    let dir = temp_dir().unwrap();
    let program = chat4all_program().unwrap();
    let mut names = Vec::new();
    for unit in std::fs::read_dir(path("deploy/systemd")).unwrap() {
        let unit = unit.unwrap().path();
        if unit.is_file() {
            let name = unit
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .replace("@.", "@command-api.");
            // Where it will be is not where it is here.
            let text = std::fs::read_to_string(&unit).unwrap();
            let text = text.replace("/usr/local/bin/chat4all", program.to_str().unwrap());
            let text = text.replace("/usr/local/bin/nats-server", program.to_str().unwrap());
            std::fs::write(dir.path().join(&name), text).unwrap();
            names.push(name);
        }
    }
    assert_eq!(names.len(), 4, "{names:?}");
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        let output = command.args(arguments).args(&names).current_dir(dir.path());
        let output = output
            .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
            .output();
        output.unwrap_or_else(|error| panic!("systemd-analyze cannot be run here: {error}"))
    };
    let output = analyze(&["verify", "--man=no"]);
    succeeded(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    for name in names.iter().filter(|name| name.ends_with(".service")) {
        let mut command = Command::new("systemd-analyze");
        let place = dir.path().join(name);
        command
            .args([
                "security",
                "--offline=true",
                "--no-pager",
                "--threshold",
                EXPOSURE,
            ])
            .arg(place);
        succeeded(&command.output().unwrap());
    }
}

/// A filter that fits nothing runs nothing, and nobody would notice.
#[test]
fn each_test_that_needs_a_tool_is_run_by_one_part_of_make_test_extended() {
    let makefile = read("Makefile");
    let parts = makefile.lines();
    let parts: Vec<_> = parts
        .filter_map(|line| line.split_once("-- --ignored "))
        .map(|(_, filter)| filter)
        .collect();
    let listed = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--ignored", "--format", "terse"])
        .output()
        .unwrap();
    let listed = succeeded(&listed);
    let tests: Vec<_> = listed
        .lines()
        .filter(|name| name.starts_with("place::extended::") || name.starts_with("browser::"))
        .collect();
    assert!(tests.len() > 5, "{listed}");
    for test in &tests {
        let runs = parts.iter().filter(|part| test.contains(**part)).count();
        assert_eq!(runs, 1, "{test} by {parts:?}");
    }
    for part in parts {
        let fits = tests.iter().any(|test| test.contains(part));
        assert!(fits, "{part} fits no test");
    }
}
