//! The reference page, written from the code: `docs/configuration.md`.

use std::fmt::Write as _;

use super::effective::shown;
use super::source::Sources;
use super::{Config, Entry};

const HEAD: &str = "\
# Configuration

One configuration for every role: a TOML file, named by `--config` or `CHAT4ALL_CONFIG`, and variables that win over it.
`nats.url` is `url` in the section `[nats]` of the file and `CHAT4ALL_NATS__URL` as a variable. Mistakes are reported all
at once, unknown names are mistakes, and `chat4all config` prints what holds and who said so, secrets hidden.

This page is written from the code; a test keeps it true.
";

/// What every setting must have before it can be listed.
const EXAMPLE: &str = "\
[auth]
hs256_secret = '0123456789abcdef0123456789abcdef'
[ids]
secret = '0000000000000000000000000000000000000000000000000000000000000000'
[channels.ID]
kind = 'whatsapp'
phone_number_id = '1'
token = 'x'
app_secret = 'x'
verify_token = 'x'
";

/// The reference of all settings, as Markdown.
pub fn reference() -> String {
    let example = EXAMPLE.replace("ID", "id");
    let loaded = Config::load(&Sources::new().with_file("example", example))
        .expect("the example above sets everything that must be set; a test reads it");
    let mut page = HEAD.to_owned();
    let mut section = "";
    for entry in &loaded.entries {
        let (name, _) = entry.key.rsplit_once('.').expect("every key has a section");
        if name != section {
            section = name;
            let heading = name.replace("channels.id", "channels.<id>");
            write!(page, "\n## `[{heading}]`\n\n").expect("writing to a String");
        }
        write_entry(&mut page, entry);
    }
    page
}

fn write_entry(page: &mut String, entry: &Entry) {
    let name = entry
        .key
        .rsplit('.')
        .next()
        .expect("a split has a first part");
    let variable = entry.variable.replace("CHANNELS__ID", "CHANNELS__<ID>");
    let default = match &entry.default {
        None => "must be set".to_owned(),
        Some(value) if value.is_null() => "not set by default".to_owned(),
        Some(value) => format!("default `{}`", shown(value)),
    };
    write!(
        page,
        "**`{name}`** (`{variable}`): {}  \n{}; {default}.\n\n",
        entry.about, entry.expected
    )
    .expect("writing to a String");
}
