//! Reading what is shipped: YAML with its merges, files of variables, and Compose's way to put the ones into the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chat4all_cli::args::Cli;
use chat4all_service::Config;
use chat4all_service::config::{Loaded, Sources};
use clap::Parser as _;
use serde_json::{Map, Value};

pub type Variables = BTreeMap<String, String>;

/// What stands in for a secret: 64 hexadecimal digits.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A file of the repository.
pub fn path(file: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file)
}

pub fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The place and the text of every Rust file of our crates, tests and examples left out.
pub fn sources() -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    for member in std::fs::read_dir(path(".")).unwrap() {
        collect(&member.unwrap().path().join("src"), &mut sources);
    }
    sources
}

fn collect(directory: &Path, sources: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let place = entry.unwrap().path();
        if place.is_dir() {
            collect(&place, sources);
        } else if place.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&place).unwrap();
            sources.push((place, text));
        }
    }
}

/// A YAML file as it is meant: `<<` merged, what stands beside it wins.
pub fn yaml(file: &str) -> Value {
    let value: Value =
        serde_norway::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    merged(value)
}

fn merged(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut own: Map<_, _> = map
                .into_iter()
                .map(|(key, value)| (key, merged(value)))
                .collect();
            if let Some(Value::Object(base)) = own.remove("<<") {
                for (key, value) in base {
                    own.entry(key).or_insert(value);
                }
            }
            Value::Object(own)
        }
        Value::Array(all) => Value::Array(all.into_iter().map(merged).collect()),
        other => other,
    }
}

/// The variables of a file as Compose and systemd read it.
pub fn variables(file: &str) -> Variables {
    variables_in(&read(file))
}

pub fn variables_in(text: &str) -> Variables {
    let lines = text.lines().map(str::trim);
    let set = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    set.map(|line| {
        let (name, value) = line
            .split_once('=')
            .unwrap_or_else(|| panic!("no `=` in {line}"));
        (name.to_owned(), value.to_owned())
    })
    .collect()
}

/// With something in every variable that was left empty; no two have the same, so that one does not do for another.
pub fn filled(mut variables: Variables) -> Variables {
    let empty = variables.values_mut().filter(|value| value.is_empty());
    for (number, value) in empty.enumerate() {
        *value = format!("{number:02x}{}", &SECRET[2..]);
    }
    variables
}

/// Puts variables in: `${NAME}`, `${NAME:-default}`, `${NAME:?why not}`.
///
/// # Errors
/// One that must be there and is not, with what the file says of it.
pub fn interpolated(value: &Value, variables: &Variables) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(filled_in(text, variables)?),
        Value::Array(all) => {
            let all: Result<_, _> = all.iter().map(|one| interpolated(one, variables)).collect();
            Value::Array(all?)
        }
        Value::Object(map) => {
            let each = map
                .iter()
                .map(|(key, value)| Ok((key.clone(), interpolated(value, variables)?)));
            Value::Object(each.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

fn filled_in(text: &str, variables: &Variables) -> Result<String, String> {
    let (mut left, mut done) = (text, String::new());
    while let Some((before, rest)) = left.split_once("${") {
        let (inside, after) = rest
            .split_once('}')
            .unwrap_or_else(|| panic!("no end in {text}"));
        let (name, otherwise) = match inside.split_once(':') {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (inside, None),
        };
        let set = variables.get(name).filter(|value| !value.is_empty());
        let value = match (set, otherwise) {
            (Some(value), _) => value.as_str(),
            (None, Some(otherwise)) if otherwise.starts_with('-') => &otherwise[1..],
            (None, Some(otherwise)) => return Err(format!("{name}: {otherwise}")),
            (None, None) => "",
        };
        done += before;
        done += value;
        left = after;
    }
    Ok(done + left)
}

/// The settings that these variables make; whatever begins with our prefix must be one.
pub fn settings(variables: &Variables) -> Loaded {
    let sources = variables
        .iter()
        .fold(Sources::new(), |sources, (name, value)| {
            sources.with_variable(name, value)
        });
    Config::load(&sources).unwrap_or_else(|error| panic!("{error}"))
}

/// What the binary understands by these words.
pub fn command(words: &[String]) -> Cli {
    let words = std::iter::once("chat4all").chain(words.iter().map(String::as_str));
    Cli::try_parse_from(words.clone())
        .unwrap_or_else(|error| panic!("{:?}: {error}", words.collect::<Vec<_>>()))
}

/// A list of words.
pub fn words(value: &Value) -> Vec<String> {
    let all = value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"));
    all.iter()
        .map(|word| {
            word.as_str()
                .unwrap_or_else(|| panic!("no text: {word}"))
                .to_owned()
        })
        .collect()
}

/// What is mounted in a service, and where.
pub fn mounts(service: &Value) -> Vec<(String, String)> {
    let volumes = service["volumes"].as_array().into_iter().flatten();
    let mount = |volume: &Value| match volume {
        Value::String(short) => {
            let mut parts = short.split(':').map(str::to_owned);
            (parts.next().unwrap(), parts.next().unwrap())
        }
        long => {
            let part = |name: &str| long[name].as_str().unwrap().to_owned();
            (part("source"), part("target"))
        }
    };
    volumes.map(mount).collect()
}

/// `25s`, `1m0s`, `10m`, `25` (seconds).
pub fn seconds(text: &str) -> u64 {
    let text = text
        .strip_suffix("min")
        .map_or_else(|| text.to_owned(), |minutes| format!("{minutes}m"));
    let (minutes, rest) = text.split_once('m').unwrap_or(("0", &text));
    let rest = rest.trim_end_matches('s');
    let number = |text: &str| {
        if text.is_empty() {
            0
        } else {
            text.parse::<u64>().unwrap()
        }
    };
    number(minutes) * 60 + number(rest)
}
