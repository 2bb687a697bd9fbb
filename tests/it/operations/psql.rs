//! The `psql` commands of the pages: each is typed into a shell as it stands there, against tables with something in them.

use std::process::Command;

use chat4all_cli::embedded::PostgresTools;
use chat4all_domain::{MessageId, message};

use crate::place::read_page;
use crate::projector::stack::{How, Stack};
use crate::projector::story::{Story, conversation, user};
use crate::rebuild::process::run;
use crate::rebuild::scene::{LIVE, schemas};

/// How each begins; a statement in quotes follows.
const BEGINNING: &str = "psql -c ";

#[tokio::test(flavor = "multi_thread")]
async fn every_psql_command_of_the_pages_is_done_by_the_tables_it_names() {
    let pages = ["docs/operations.md", "docs/deploy.md"].map(read_page);
    let all: Vec<_> = pages.iter().flat_map(|page| commands(page)).collect();
    assert!(all.len() >= 5, "only {}: {all:#?}", all.len());
    let stack = Stack::start().await;
    fails_and_cannot_be_folded(&stack).await;
    stack.fold(&How::into(LIVE)).await;
    // One of them drops what this keeps.
    let kept = run(&stack, &["--keep-old"]).await;
    assert_eq!(kept.code, Some(0), "{} {}", kept.output, kept.errors);
    for command in &all {
        let said = typed(command, &stack.postgres.url());
        assert!(!said.contains("(0 rows)"), "{command}: {said}");
    }
    assert_eq!(schemas(&stack).await, [LIVE]);
}

/// A delivery that has failed, and a dead letter of the projector.
async fn fails_and_cannot_be_folded(stack: &Stack) {
    let story = Story::new(stack.log());
    let conversation = conversation(1);
    let message = message::Id {
        conversation,
        message: MessageId::derive(conversation, user(0), "fails"),
    };
    story.start(conversation, 1, 1).await.unwrap();
    story.accept(message, "hello", &[0]).await.unwrap();
    story.attempt(message, 0, 1).await.unwrap();
    story.fail(message, (0, 0, 1)).await.unwrap();
    let js = stack.log().jetstream();
    let bad = js.publish("chat.evt.03.conversation.nobody", "{not json".into());
    bad.await.unwrap().await.unwrap();
}

/// Types a command of a page, where `psql` is what the page says it is; what it printed. It must succeed.
#[track_caller]
pub fn typed(command: &str, url: &str) -> String {
    // Without what somebody has set for themselves.
    let psql = r#"psql() { "$PSQL" -X "$CHAT4ALL_POSTGRES__URL" "$@"; }"#;
    let output = Command::new("sh")
        .args(["-c", &format!("{psql}\n{command}")])
        .env("PSQL", PostgresTools::find().unwrap().bin.join("psql"))
        .env("CHAT4ALL_POSTGRES__URL", url)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every command of the page that begins so, up to the quote that ends its statement, perhaps some lines below.
pub fn commands(page: &str) -> Vec<String> {
    let command = |(at, _): (usize, &str)| {
        let (beginning, statement) = page[at..].split_at(BEGINNING.len());
        let quote = statement.chars().next().filter(|one| "'\"".contains(*one));
        let quote = quote.unwrap_or_else(|| panic!("no quote behind `{beginning}`: {statement}"));
        let inside = statement[1..].split(quote).next().unwrap_or_default();
        format!("{beginning}{quote}{inside}{quote}")
    };
    page.match_indices(BEGINNING).map(command).collect()
}

#[test]
fn commands_are_found_in_blocks_and_in_sentences_with_either_quote_and_over_lines() {
    let page = "`psql` is there.\n```sh\npsql -c 'select 1' | less\n```\n1. Or `psql -c \"select 'a'\n   from b\"`.";
    let wanted = ["psql -c 'select 1'", "psql -c \"select 'a'\n   from b\""];
    assert_eq!(commands(page), wanted);
}
