//! `--keep-old`, as the page says it: what was live is there until its operator drops it.

use super::process::run;
use super::scene::{LIVE, ask, identity, is_what_the_log_says, schemas, tamper, with_history};
use crate::operations::psql;
use crate::place::read_page;
use crate::projector::stack::assert_same;

const OLD: &str = "chat4all_old";

#[tokio::test(flavor = "multi_thread")]
async fn the_old_tables_are_kept_until_they_are_dropped_and_no_others_meanwhile() {
    let (stack, running) = with_history(5, 2).await;
    running.stop().await;
    let altered = "update messages set content_text = 'never said' where ctid = (select min(ctid) from messages)";
    assert_eq!(tamper(&stack, altered).await, 1);
    let (before, live) = (stack.dump(LIVE).await, identity(&stack).await);

    // Rows differ: that is said first, and what they were is kept.
    let refused = run(&stack, &["--keep-old"]).await;
    assert_eq!(refused.code, Some(3), "{}", refused.errors);
    assert_eq!(schemas(&stack).await, [LIVE]);
    let kept = run(&stack, &["--keep-old", "--accept-differences"]).await;
    assert_eq!(kept.code, Some(0), "{} {}", kept.output, kept.errors);
    assert_eq!(schemas(&stack).await, [LIVE, OLD]);
    let old = format!("select oid::bigint from pg_namespace where nspname = '{OLD}'");
    let old: i64 = ask(&stack, &old).await;
    assert_eq!(old, live, "the tables themselves, no copy");
    assert_same(&stack.dump(OLD).await, &before);
    is_what_the_log_says(&stack).await;

    // While they are there, nobody can keep others under that name, and who keeps none leaves them alone.
    let live = identity(&stack).await;
    let again = run(&stack, &["--keep-old"]).await;
    assert_eq!(again.code, Some(1), "{} {}", again.output, again.errors);
    let why = "schema chat4all_old is there already, from an earlier rebuild: drop it";
    assert!(again.errors.contains(why), "{}", again.errors);
    assert_eq!(identity(&stack).await, live);
    let other = run(&stack, &[]).await;
    assert_eq!(other.code, Some(0), "{} {}", other.output, other.errors);
    assert_ne!(identity(&stack).await, live);
    assert_eq!(schemas(&stack).await, [LIVE, OLD]);
    assert_same(&stack.dump(OLD).await, &before);

    let page = psql::commands(&read_page("docs/operations.md"));
    let drop = page.iter().find(|command| command.contains("drop schema"));
    let drop = drop.expect("the page says how to drop them");
    psql::typed(drop, &stack.postgres.url());
    assert_eq!(schemas(&stack).await, [LIVE]);
    let kept = run(&stack, &["--keep-old"]).await;
    assert_eq!(kept.code, Some(0), "{} {}", kept.output, kept.errors);
    assert_eq!(schemas(&stack).await, [LIVE, OLD]);
}
