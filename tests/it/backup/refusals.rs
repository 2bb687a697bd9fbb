//! What is damaged, incomplete or from elsewhere is refused in words, before the first byte is written.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use chat4all_cli::embedded::temp_dir;

use super::stage::{backup, chat4all, content, copy, done, js, refused, restore, streams};
use crate::projector::story::Story;
use crate::support::log::{client, empty_node, one_node};

type Damage = fn(&Path);

const DAMAGES: [(&str, Damage, &str); 8] = [
    (
        "one bit",
        |dir| flip(&dir.join("EVT-03.tar.s2")),
        "EVT-03.tar.s2 is damaged",
    ),
    (
        "a file is missing",
        |dir| fs::remove_file(dir.join("INBOUND.tar.s2")).unwrap(),
        "INBOUND.tar.s2 is missing",
    ),
    (
        "a file was cut",
        |dir| cut(&dir.join("EVT-07.tar.s2")),
        "1 bytes are missing at its end",
    ),
    (
        "a file is longer",
        |dir| {
            let path = dir.join("EVT-00.tar.s2");
            let mut bytes = fs::read(&path).unwrap();
            bytes.push(0);
            fs::write(path, bytes).unwrap();
        },
        "it is too long",
    ),
    (
        "the manifest was cut",
        |dir| cut(&dir.join("manifest.json")),
        "manifest.json is damaged",
    ),
    (
        "the manifest was changed",
        |dir| flip(&dir.join("manifest.json")),
        "manifest.json is damaged",
    ),
    (
        "there is no manifest",
        |dir| fs::remove_file(dir.join("manifest.json")).unwrap(),
        "not a complete backup: it has no manifest.json",
    ),
    (
        "there are no checksums",
        |dir| fs::remove_file(dir.join("SHA256SUMS")).unwrap(),
        "not a complete backup: it has no SHA256SUMS",
    ),
];

fn flip(path: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    byte[0] ^= 1;
    file.write_all_at(&byte, middle).unwrap();
}

fn cut(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_nothing_is_written() {
    let place = temp_dir().unwrap();
    let dir = place.path().join("b");
    let (old, new) = tokio::join!(one_node(), empty_node());
    let (old_url, new_url) = (old.nats.url(), new.nats.url());
    let story = Story::new(&old.log);
    for number in 1..=8 {
        story.whole_journeys(number, 1).await;
    }
    done(&mut backup(&old_url, &dir));
    let there = async_nats::jetstream::new(client(&new_url, "looks").await);
    for (name, damage, words) in DAMAGES {
        let damaged = place.path().join(name.replace(' ', "-"));
        copy(&dir, &damaged);
        damage(&damaged);
        for mut command in [
            restore(&new_url, &damaged),
            chat4all(&new_url, &["backup", "--verify", damaged.to_str().unwrap()]),
        ] {
            let said = refused(&mut command);
            assert!(said.contains(words), "{name}: {said}");
        }
        assert!(streams(&there).await.is_empty(), "{name}");
    }

    let partial = place.path().join("c.partial");
    copy(&dir, &partial);
    let said = refused(&mut restore(&new_url, &partial));
    assert!(
        said.contains("was interrupted before it was complete"),
        "{said}"
    );

    let said = refused(restore(&new_url, &dir).env("CHAT4ALL_IDS__SECRET", "8".repeat(64)));
    assert!(said.contains("made with another ids.secret"), "{said}");
    let said = refused(restore(&new_url, &dir).env("CHAT4ALL_LOG__PARTITIONS", "4"));
    assert!(
        said.contains("has 8 partitions, log.partitions says 4"),
        "{said}"
    );
    assert!(streams(&there).await.is_empty());

    // Into itself: it is not empty, and stays as it is.
    let before = content(&js(&old.log), "EVT-00").await;
    let said = refused(&mut restore(&old_url, &dir));
    assert!(
        said.contains("the broker is not empty: it has EVT-00 EVT-01"),
        "{said}"
    );
    assert_eq!(content(&js(&old.log), "EVT-00").await, before);

    done(&mut restore(&new_url, &dir));
    let before = content(&there, "EVT-00").await;
    let said = done(&mut restore(&new_url, &dir));
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(content(&there, "EVT-00").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_refused_where_it_cannot_be_one() {
    let place = temp_dir().unwrap();
    let (old, empty) = tokio::join!(one_node(), empty_node());
    let exists = place.path().join("exists");
    fs::create_dir(&exists).unwrap();
    let said = refused(&mut backup(&old.nats.url(), &exists));
    assert!(
        said.contains("a backup is made in a new directory"),
        "{said}"
    );

    let dir = place.path().join("b");
    let said = refused(&mut backup(&empty.nats.url(), &dir));
    assert!(
        said.contains("does it exist? `chat4all provision` makes it"),
        "{said}"
    );
    let said = refused(backup(&old.nats.url(), &dir).env("CHAT4ALL_LOG__PARTITIONS", "4"));
    assert!(
        said.contains("was made for chat4all.partitions = 8"),
        "{said}"
    );
    let nowhere = place.path().join("no/such/place");
    let said = refused(&mut backup(&old.nats.url(), &nowhere));
    assert!(said.contains("cannot write"), "{said}");

    // Nothing of all this is left.
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
