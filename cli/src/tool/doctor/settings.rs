//! The configuration: its mistakes, and what is allowed in it and still a surprise.

use chat4all_service::Config;
use chat4all_service::config::{self, Channel, Mistake, Origin, Sync};
use url::Host;

use super::finding::{Area, Finding};
use crate::tool::{Common, FROM_UP};

/// The settings, or what is wrong with them.
///
/// # Errors
/// The file cannot be read at all.
pub fn read(common: &Common) -> anyhow::Result<Result<Config, Vec<Finding>>> {
    let sources = config::Sources::of_process(common.config.as_deref())?;
    Ok(match Config::load(&sources) {
        Ok(loaded) => Ok(loaded.config),
        Err(config::Error::Mistakes(mistakes)) => Err(mistakes.0.iter().map(mistake).collect()),
        Err(error) => Err(vec![Finding::wrong(
            Area::Config,
            error.to_string(),
            "a file in TOML, as docs/configuration.md describes it",
            "put the file right, and run this again",
        )]),
    })
}

fn mistake(mistake: &Mistake) -> Finding {
    let (what, right, mend) = match mistake {
        Mistake::Value {
            key,
            variable,
            origin,
            found,
            expected,
        } => {
            let mend = match origin {
                Origin::File(path) => format!("set {key} in {}, or {variable}", path.display()),
                Origin::Variable(_) => format!("set {variable}"),
                Origin::Default => format!("set {variable}; {FROM_UP}"),
            };
            (format!("{key} is {found}"), expected.clone(), mend)
        }
        Mistake::Unknown { key, origin, .. } => (
            mistake.to_string(),
            "only names that docs/configuration.md has".to_owned(),
            match origin {
                Origin::Variable(name) => format!("rename or unset {name}"),
                Origin::File(_) | Origin::Default => format!("rename {key} or take it out"),
            },
        ),
        Mistake::Pair { one, other, rule } => (
            format!("{} is {} and {} is {}", one.0, one.1, other.0, other.1),
            (*rule).to_owned(),
            format!("change {} or {}", variable(&one.0), variable(&other.0)),
        ),
    };
    Finding::wrong(Area::Config, what, right, mend)
}

fn variable(key: &str) -> String {
    format!("CHAT4ALL_{}", key.replace('.', "__").to_uppercase())
}

/// What is allowed, and may not have been meant.
pub fn notices(config: &Config) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut notice = |what: String, right: &str, mend: &str| {
        all.push(Finding::notice(Area::Config, what, right, mend));
    };
    if config.nats.sync == Sync::Relaxed {
        notice(
            "nats.sync is `relaxed`: a power cut takes back what was accepted in the last two minutes".into(),
            "`always`, unless that loss is acceptable",
            "set CHAT4ALL_NATS__SYNC=always, and `sync_interval: always` on every node",
        );
    }
    if config.channels.is_empty() {
        notice(
            "there is no account in [channels]: nothing is delivered to the outside, and nothing comes in".into(),
            "an account for each provider that is to be used",
            "set CHAT4ALL_CHANNELS__<ID>__KIND and what belongs to it (docs/configuration.md)",
        );
    }
    let nodes = config.nats.url.len();
    if config.nats.replicas > 1 && nodes == 1 {
        notice(
            "there are three copies of everything, and nats.url names one node: while that one is away nobody connects".into(),
            "every node of the cluster, divided by commas",
            "set CHAT4ALL_NATS__URL",
        );
    }
    if config.nats.sync == Sync::Always && config.nats.monitor_url.len() < nodes {
        notice(
            format!(
                "nats.url names {nodes} nodes and nats.monitor_url {}: of the others nobody knows whether they write before \
                 they acknowledge",
                config.nats.monitor_url.len()
            ),
            "the monitoring of every node",
            "set CHAT4ALL_NATS__MONITOR_URL",
        );
    }
    for (id, Channel::WhatsApp(account)) in &config.channels {
        if account.api_base.scheme() == "http" && !is_near(account.api_base.host()) {
            notice(
                format!(
                    "account `{id}` calls its provider without TLS: its token can be read on the way"
                ),
                "https, except for a simulator on this machine or on a private network",
                "set api_base of the account",
            );
        }
    }
    all
}

/// This machine, or a name without a dot as container networks have them.
fn is_near(host: Option<Host<&str>>) -> bool {
    match host {
        Some(Host::Domain(name)) => !name.contains('.'),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_private(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use chat4all_service::config::Sources;

    use super::*;
    use crate::tool::doctor::Weight;

    /// Nothing in it is a surprise: an account, one node, and its monitoring.
    const PLAIN: &[(&str, &str)] = &[
        (
            "CHAT4ALL_AUTH__HS256_SECRET",
            "a-signing-secret-of-enough-characters",
        ),
        (
            "CHAT4ALL_IDS__SECRET",
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        ),
        ("CHAT4ALL_CHANNELS__MAIN__KIND", "whatsapp"),
        (
            "CHAT4ALL_CHANNELS__MAIN__PHONE_NUMBER_ID",
            "100000000000001",
        ),
        ("CHAT4ALL_CHANNELS__MAIN__TOKEN", "x"),
        ("CHAT4ALL_CHANNELS__MAIN__APP_SECRET", "x"),
        ("CHAT4ALL_CHANNELS__MAIN__VERIFY_TOKEN", "x"),
    ];
    const API_BASE: &str = "CHAT4ALL_CHANNELS__MAIN__API_BASE";
    const THREE: &str = "nats://n1:4222,nats://n2:4222,nats://n3:4222";

    /// What is noticed of the plain configuration with these variables over it; an account only if there is to be one.
    fn said(account: bool, more: &[(&str, &str)]) -> Vec<Finding> {
        let plain = PLAIN
            .iter()
            .filter(|(name, _)| account || !name.starts_with("CHAT4ALL_CHANNELS"));
        let sources = plain
            .chain(more)
            .fold(Sources::new(), |sources, (name, value)| {
                sources.with_variable(*name, *value)
            });
        let loaded = Config::load(&sources).unwrap_or_else(|error| panic!("{error}"));
        notices(&loaded.config)
    }

    #[test]
    fn what_may_not_have_been_meant_is_noticed_with_the_variable_that_changes_it() {
        let copies = ("CHAT4ALL_NATS__REPLICAS", "3");
        let one_node = ("CHAT4ALL_NATS__URL", "nats://n1:4222");
        let three_nodes = ("CHAT4ALL_NATS__URL", THREE);
        let monitors = "http://n1:8222,http://n2:8222,http://n3:8222";
        let watched = ("CHAT4ALL_NATS__MONITOR_URL", monitors);
        let far = (API_BASE, "http://graph.example.com/v25.0");
        let nothing_more: &[(&str, &str)] = &[];
        for (account, more, expected) in [
            (true, nothing_more, None),
            (
                true,
                &[("CHAT4ALL_NATS__SYNC", "relaxed")],
                Some((
                    "nats.sync is `relaxed`: a power cut takes back",
                    "CHAT4ALL_NATS__SYNC=always",
                )),
            ),
            (
                false,
                nothing_more,
                Some((
                    "there is no account in [channels]",
                    "CHAT4ALL_CHANNELS__<ID>__KIND",
                )),
            ),
            (
                true,
                &[copies, one_node],
                Some(("nats.url names one node", "CHAT4ALL_NATS__URL")),
            ),
            (
                true,
                &[copies, three_nodes],
                Some((
                    "nats.url names 3 nodes and nats.monitor_url 1",
                    "CHAT4ALL_NATS__MONITOR_URL",
                )),
            ),
            (true, &[copies, three_nodes, watched], None),
            (
                true,
                &[far],
                Some((
                    "account `main` calls its provider without TLS",
                    "set api_base of the account",
                )),
            ),
            // A simulator on this machine, or on a network of its own.
            (true, &[(API_BASE, "http://127.0.0.1:9000/v25.0")], None),
            (true, &[(API_BASE, "http://10.0.0.5:9000/v25.0")], None),
            (true, &[(API_BASE, "http://simulator:9000/v25.0")], None),
        ] {
            let found = said(account, more);
            let Some((what, mend)) = expected else {
                assert_eq!(found, [], "{more:?}");
                continue;
            };
            let [one] = &found[..] else {
                panic!("not one with {more:?}: {found:?}");
            };
            assert_eq!((one.area, one.weight), (Area::Config, Weight::Notice));
            assert!(one.what.contains(what), "{one:?}");
            assert!(one.mend.contains(mend), "{one:?}");
        }
    }
}
