//! The log on the broker: everything there, as it should be, with room left.

use std::collections::BTreeMap;

use async_nats::jetstream;
use chat4all_nats::fullness::ACCEPT_UP_TO_PERCENT;
use chat4all_nats::streams::{self, Drift, Error, Examined, Layout, Standing};
use chat4all_service::Chain;

use super::finding::{Area, Finding};

/// The only one that a restart of the broker takes away.
const IN_MEMORY: &str = "KV_LEASES";
/// From here on somebody should think of more room, in percent.
const FILLING_PERCENT: u64 = 80;
/// So many streams are named at most; the others are counted.
const NAMED: usize = 3;

/// What is wrong with the log, and whether it can be opened.
pub struct Look {
    /// Every stream is there, is of this log, and has a leader.
    pub is_whole: bool,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Looks at every stream and bucket.
pub async fn look(js: &jetstream::Context, layout: &Layout) -> Look {
    match streams::examine(js, layout).await {
        Ok(examined) => Look {
            is_whole: examined.missing.is_empty()
                && examined.standing.iter().all(|one| one.has_leader),
            findings: findings(&examined),
        },
        Err(error) => Look {
            is_whole: false,
            findings: vec![refused(&error)],
        },
    }
}

fn refused(error: &Error) -> Finding {
    let wrong =
        |right: &str, mend: String| Finding::wrong(Area::Log, error.to_string(), right, mend);
    match error {
        Error::Incompatible { found, .. } => wrong(
            "the number of partitions that the log was made for",
            format!(
                "set CHAT4ALL_LOG__PARTITIONS={found} if that is a number; otherwise this is another log: look at CHAT4ALL_NATS__URL"
            ),
        ),
        Error::Restoring { .. } => wrong(
            "a log that is complete",
            "end it: `chat4all restore DIR` with the same backup".into(),
        ),
        // Its own words are those of `provision`: nothing is set up here.
        Error::Broker { stream, source } => Finding::wrong(
            Area::Log,
            format!(
                "the broker did not answer for {stream}: {}",
                Chain(&**source)
            ),
            "a broker with JetStream and a leader",
            "look at `nats server report jetstream`, and at the nodes' logs",
        ),
    }
}

fn findings(examined: &Examined) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(missing(&examined.missing));
    found.extend(examined.drift.iter().map(differs));
    found.extend(examined.standing.iter().flat_map(standing));
    found.extend(behind(&examined.standing));
    found
}

fn missing(missing: &[String]) -> Option<Finding> {
    let mend = match missing {
        [] => return None,
        [only] if only == IN_MEMORY => {
            "nothing after a restart of the broker: the bucket is in its memory, and workers make it anew within some seconds; \
             `chat4all provision` makes it, too"
        }
        _ => {
            "`chat4all provision`; it changes nothing that is there. If events have been lost with them: `chat4all restore`"
        }
    };
    Some(Finding::wrong(
        Area::Log,
        format!("not on the broker: {}", missing.join(", ")),
        "every stream and bucket of the log",
        mend,
    ))
}

fn differs(drift: &Drift) -> Finding {
    let Drift {
        stream,
        setting,
        wanted,
        found,
    } = drift;
    let mend = match *setting {
        "max_bytes" => {
            format!("CHAT4ALL_NATS__MAX_BYTES, or `nats stream edit {stream} --max-bytes …`")
        }
        "replicas" => {
            format!("CHAT4ALL_NATS__REPLICAS, or `nats stream edit {stream} --replicas {wanted}`")
        }
        "allow_msg_ttl" => format!(
            "set allow_msg_ttl on {stream} (`nats stream edit`): until then bridges do not tell each other that a customer waits"
        ),
        "compression" => {
            return Finding::wrong(
                Area::Log,
                format!(
                    "{stream} is compressed ({found}): in a cluster, nats-server makes messages of it unreadable when a leader dies"
                ),
                wanted.clone(),
                format!(
                    "`nats stream edit {stream} --compression {wanted}`, then restart the nodes one after the other: docs/operations.md"
                ),
            );
        }
        _ => format!("`nats stream edit {stream}`, if nobody meant it"),
    };
    Finding::notice(
        Area::Log,
        format!("{stream}: {setting} is {found}"),
        format!("{wanted}, by this configuration; somebody may have had a reason"),
        mend,
    )
}

fn standing(one: &Standing) -> Vec<Finding> {
    let mut found = Vec::new();
    let stream = &one.stream;
    found.extend(filling(one));
    if !one.has_leader {
        found.push(Finding::wrong(
            Area::Log,
            format!("{stream} has no leader: nothing can be stored in it"),
            "two of its three nodes are up",
            "start the nodes that are away; `nats server report jetstream` names them",
        ));
    }
    found
}

/// One finding for each node that copies are away or behind on, however many: they are mended together.
fn behind(standing: &[Standing]) -> Vec<Finding> {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // Without a leader nobody knows how far the copies are, not even the one that is up.
    for one in standing.iter().filter(|one| one.has_leader) {
        for node in &one.behind {
            nodes.entry(node).or_default().push(&one.stream);
        }
    }
    let finding = |(node, streams): (&str, Vec<&str>)| {
        Finding::wrong(
            Area::Log,
            format!("{node} is away or behind with {}", copies(&streams)),
            "three copies that are current; with one more away nothing is accepted",
            "start the node; it catches up by itself",
        )
    };
    nodes.into_iter().map(finding).collect()
}

/// `its copies of 9 streams: EVT-00, EVT-01, EVT-02 and 6 more`
fn copies(streams: &[&str]) -> String {
    if let [only] = streams {
        return format!("its copy of {only}");
    }
    let (count, named) = (streams.len(), streams.len().min(NAMED));
    let names = streams[..named].join(", ");
    let more = match count - named {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("its copies of {count} streams: {names}{more}")
}

/// How full it is, if somebody should know.
fn filling(one: &Standing) -> Option<Finding> {
    let (stream, percent) = (&one.stream, one.percent());
    // What does not fit into this one pushes out the oldest; the others refuse.
    if stream == streams::PARKED || percent < FILLING_PERCENT {
        return None;
    }
    let mend = format!(
        "`nats stream edit {stream} --max-bytes …` where the broker's disk has room (NATS_MAX_FILE); docs/operations.md, \
         \"Is the log full?\""
    );
    // Only the log keeps room for what follows from the messages that it took in.
    let is_log = stream.starts_with("EVT-");
    let what = match (is_log, percent >= ACCEPT_UP_TO_PERCENT) {
        (true, true) => {
            "nothing new is taken in there, only what becomes of what is there".to_owned()
        }
        (true, false) => format!("at {ACCEPT_UP_TO_PERCENT} % nothing new is taken in"),
        (false, _) if stream == streams::INBOUND => {
            "webhook calls are taken in up to 100 %, and refused then: their providers call again"
                .to_owned()
        }
        (false, _) => "it takes up to 100 %, and refuses then".to_owned(),
    };
    let what = format!("{stream} is {percent} % full: {what}");
    Some(if percent >= ACCEPT_UP_TO_PERCENT {
        let right = format!("below {ACCEPT_UP_TO_PERCENT} %");
        Finding::wrong(Area::Log, what, right, mend)
    } else {
        let right = format!("below {FILLING_PERCENT} %");
        Finding::notice(Area::Log, what, right, mend)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::doctor::Weight;

    fn with_bytes(stream: &str, bytes: u64) -> Vec<Finding> {
        standing(&Standing {
            stream: stream.to_owned(),
            bytes,
            max_bytes: 1_000,
            has_leader: true,
            behind: Vec::new(),
        })
    }

    fn filled(stream: &str, bytes: u64) -> Vec<Weight> {
        let found = with_bytes(stream, bytes);
        found.iter().map(|finding| finding.weight).collect()
    }

    fn with_copies(stream: &str, has_leader: bool, behind: &[&str]) -> Standing {
        Standing {
            stream: stream.to_owned(),
            bytes: 0,
            max_bytes: 1_000,
            has_leader,
            behind: behind.iter().map(|&node| node.to_owned()).collect(),
        }
    }

    fn says(standing: Vec<Standing>) -> Vec<String> {
        let examined = Examined {
            standing,
            ..Examined::default()
        };
        let found = findings(&examined);
        found.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_stream_without_a_leader_says_that_and_nothing_of_its_copies() {
        let one = |has_leader| with_copies("EVT-00", has_leader, &["node-2", "node-3"]);
        assert_eq!(
            says(vec![one(false)]),
            ["EVT-00 has no leader: nothing can be stored in it"]
        );
        assert_eq!(
            says(vec![one(true)]),
            [
                "node-2 is away or behind with its copy of EVT-00",
                "node-3 is away or behind with its copy of EVT-00"
            ]
        );
    }

    #[test]
    fn a_node_is_named_once_with_how_many_of_its_copies_are_behind() {
        let names = ["A", "B", "C", "D", "E"];
        let all: Vec<_> = names
            .iter()
            .map(|name| with_copies(name, true, &["node-3"]))
            .collect();
        assert_eq!(
            says(all[..3].to_vec()),
            ["node-3 is away or behind with its copies of 3 streams: A, B, C"]
        );
        assert_eq!(
            says(all),
            ["node-3 is away or behind with its copies of 5 streams: A, B, C and 2 more"]
        );
    }

    #[test]
    fn what_a_restart_takes_away_is_no_reason_to_restore() {
        let mends = |missing: &[&str]| {
            let missing: Vec<_> = missing.iter().map(|&name| name.to_owned()).collect();
            super::missing(&missing).map(|finding| finding.mend)
        };
        assert_eq!(mends(&[]), None);
        let leases = mends(&["KV_LEASES"]).unwrap();
        assert!(
            !leases.contains("restore") && leases.contains("anew"),
            "{leases}"
        );
        for more in [&["EVT-00"][..], &["EVT-00", "KV_LEASES"]] {
            assert!(mends(more).unwrap().contains("chat4all restore"));
        }
        let definitions = streams::definitions(&Layout {
            partitions: chat4all_domain::PartitionCount::new(8).unwrap(),
            replicas: 1,
            max_bytes: 1 << 20,
        });
        let memory = definitions
            .into_iter()
            .filter(|one| one.storage == jetstream::stream::StorageType::Memory);
        let memory: Vec<_> = memory.map(|one| one.name).collect();
        assert_eq!(memory, [IN_MEMORY]);
    }

    #[test]
    fn a_stream_is_wrong_when_it_refuses_and_noticed_before() {
        assert_eq!(filled("EVT-00", 799), []);
        assert_eq!(filled("EVT-00", 800), [Weight::Notice]);
        assert_eq!(filled("EVT-00", 950), [Weight::Wrong]);
        assert_eq!(filled("PARKED", 1_000), [], "the oldest gives way");
    }

    #[test]
    fn only_a_partition_of_the_log_takes_nothing_new_before_it_is_full() {
        let says = |stream: &str, bytes| {
            let mut found = with_bytes(stream, bytes);
            assert_eq!(found.len(), 1, "{found:?}");
            found.remove(0).what
        };
        for (stream, bytes, words) in [
            (
                "EVT-00",
                810,
                "EVT-00 is 81 % full: at 95 % nothing new is taken in",
            ),
            (
                "EVT-00",
                960,
                "EVT-00 is 96 % full: nothing new is taken in there, only what becomes of what is there",
            ),
            (
                "INBOUND",
                810,
                "INBOUND is 81 % full: webhook calls are taken in up to 100 %, and refused then: their providers call again",
            ),
            (
                "INBOUND",
                960,
                "INBOUND is 96 % full: webhook calls are taken in up to 100 %, and refused then: their providers call again",
            ),
            (
                "KV_LANES",
                960,
                "KV_LANES is 96 % full: it takes up to 100 %, and refuses then",
            ),
        ] {
            assert_eq!(says(stream, bytes), words);
        }
        assert_eq!(filled("INBOUND", 960), [Weight::Wrong]);
    }
}
