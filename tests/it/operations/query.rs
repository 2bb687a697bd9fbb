//! The query of docs/operations.md that lists what needs a look.

use chat4all_service::auth::Scope;
use serde_json::Value;

use crate::journeys::system::System;
use crate::place::read_page;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_pages_query_of_dead_letters_is_answered_to_whom_the_page_says() {
    let page = read_page("docs/operations.md");
    let (_, command) = page.split_once("<<'QUERY'").unwrap();
    let (rest, query) = command.split_once("| jq\n").unwrap();
    let (query, _) = query.split_once("\nQUERY\n").unwrap();
    assert!(rest.contains("--scope dead-letters:read)"), "{rest}");
    let system = System::start();
    let token = system.token("me", &[Scope::DeadLettersRead]);
    let data = system.data(&token, query, Value::Null).await;
    assert!(data["deadLetters"]["nodes"].is_array(), "{data}");
}
