//! Random valid histories, folded in batches of random sizes, give the same tables as folded one by one.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::scenes::Scene;
use super::stack::{How, Stack, assert_same};
use super::story::Story;

fn words() -> impl Strategy<Value = String> {
    any::<String>()
        .prop_map(|text| text.replace('\0', "\u{fffd}"))
        .prop_filter("blank", |text| !text.trim().is_empty())
}

pub fn scene() -> impl Strategy<Value = Scene> {
    let (any8, n) = (any::<u8>(), 0..2_u8);
    prop_oneof![
        2 => any8.prop_map(|conversation| Scene::Start { conversation }),
        2 => (any8, any8).prop_map(|(conversation, who)| Scene::Join { conversation, who }),
        2 => (any8, any8).prop_map(|(conversation, who)| Scene::Leave { conversation, who }),
        4 => (any8, words(), any8)
            .prop_map(|(conversation, words, to)| Scene::Say { conversation, words, to }),
        5 => (any8, n.clone()).prop_map(|(message, n)| Scene::Attempt { message, n }),
        4 => (any8, n.clone()).prop_map(|(message, n)| Scene::Sent { message, n }),
        6 => (any8, n.clone(), any8, any8)
            .prop_map(|(message, n, step, at_s)| Scene::Receipt { message, n, step, at_s }),
        3 => (any8, n.clone()).prop_map(|(message, n)| Scene::Fail { message, n }),
        2 => (any8, n).prop_map(|(message, n)| Scene::Defer { message, n }),
        3 => any8.prop_map(|message| Scene::Redrive { message }),
        2 => (any8, any8).prop_map(|(who, message)| Scene::Read { who, message }),
        2 => (any8, proptest::option::of(words_of_a_name()))
            .prop_map(|(who, name)| Scene::Meet { who, name }),
    ]
}

fn words_of_a_name() -> impl Strategy<Value = String> {
    "[A-Z][a-zé'’]{0,20}"
}

/// Each case plays one more history onto the same log, and folds all of it twice more.
#[test]
fn any_history_folds_to_the_same_tables_in_batches_of_any_size() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stack = runtime.block_on(Stack::start());
    let story = Story::new(stack.log());
    let histories = AtomicU64::new(0);
    let config = Config {
        cases: 8,
        max_shrink_iters: 20,
        failure_persistence: None,
        ..Config::default()
    };
    let history = (vec(scene(), 60..120), 2..40_usize);
    TestRunner::new(config)
        .run(&history, |(scenes, batch)| {
            let base = 10 * histories.fetch_add(1, Ordering::Relaxed);
            runtime.block_on(async {
                story.play(base, &scenes).await;
                let [one, random, many] = schemas(base);
                let of = |schema, batch| How {
                    batch,
                    ..How::into(schema)
                };
                let expected = stack.fold(&of(one, 1)).await;
                assert!(expected["projector_dead_letter"].is_empty());
                assert_same(&expected, &stack.fold(&of(random, batch)).await);
                assert_same(&expected, &stack.fold(&of(many, 500)).await);
            });
            Ok(())
        })
        .unwrap();
}

fn schemas(base: u64) -> [&'static str; 3] {
    ["one", "random", "many"].map(|name| &*format!("{name}_{base}").leak())
}
