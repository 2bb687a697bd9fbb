//! The image's recipe: it has what the build needs, nobody's secrets, and no root.

use std::collections::BTreeSet;

use super::files::{command, path, read, sources};

#[test]
fn the_build_gets_every_crate_and_nothing_else() {
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let members = members.split(',').map(|name| name.trim().trim_matches('"'));
    let needed: BTreeSet<_> = members.chain(["Cargo.toml", "Cargo.lock"]).collect();
    let let_in = let_in();
    assert_eq!(let_in, needed.into_iter().map(str::to_owned).collect());
}

/// What the build is compiled from, for the binary needs no tests and examples.
#[test]
fn every_file_that_the_sources_include_gets_into_the_build() {
    let root = path(".").canonicalize().unwrap();
    let let_in = let_in();
    let mut included = 0;
    for (place, source) in sources() {
        for macro_of in ["include_str!(", "include_bytes!(", "include!("] {
            for rest in source.split(macro_of).skip(1) {
                let literal = rest.trim_start().strip_prefix('"');
                let (file, _) = literal
                    .and_then(|rest| rest.split_once('"'))
                    .unwrap_or_else(|| {
                        panic!("{}: {macro_of} without a plain path", place.display())
                    });
                let file = place.parent().unwrap().join(file).canonicalize().unwrap();
                let member = file.strip_prefix(&root).unwrap().iter().next().unwrap();
                assert!(
                    let_in.contains(member.to_str().unwrap()),
                    "{} includes {}, which the build does not get",
                    place.display(),
                    file.display()
                );
                included += 1;
            }
        }
    }
    assert!(included > 10, "only {included} were found");
}

/// What `.dockerignore` lets into the build.
fn let_in() -> BTreeSet<String> {
    let ignored = read(".dockerignore");
    let mut lines = ignored
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    assert_eq!(lines.next(), Some("*"), "whatever is not named stays out");
    let names = lines.map(|line| line.strip_prefix('!').unwrap());
    names.map(str::to_owned).collect()
}

#[test]
fn the_image_runs_one_known_command_as_nobody() {
    let recipe = read("Dockerfile");
    let stages: Vec<_> = recipe.split("\nFROM ").skip(1).collect();
    let [build, image] = stages.as_slice() else {
        panic!("{} stages", stages.len());
    };
    let rust = read("Cargo.toml")
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned))
        .unwrap();
    assert!(
        build.starts_with(&format!("rust:{}-", rust.trim_matches('"'))),
        "another Rust: {build}"
    );
    assert!(build.contains("--locked"));
    let of = |name: &str| {
        let line = image.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).trim()
    };
    let (user, group) = of("USER").split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    assert_eq!(of("ENTRYPOINT"), r#"["chat4all"]"#);
    let words: Vec<String> = serde_json::from_str(of("CMD")).unwrap();
    command(&words);
    let set: Vec<_> = image
        .lines()
        .filter(|line| line.contains("CHAT4ALL_"))
        .collect();
    assert_eq!(
        set,
        ["ENV CHAT4ALL_HTTP__LISTEN=0.0.0.0:8080"],
        "settings do not belong into an image, secrets least of all"
    );
}
