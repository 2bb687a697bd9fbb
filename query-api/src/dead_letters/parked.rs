//! Parked inbound: read from its stream, newest first, as a part like those of the read models.

use std::collections::BTreeMap;
use std::time::Duration;

use chat4all_domain::AccountId;
use chat4all_nats::parked::{Item, Parked, Part};
use chat4all_postgres::read::{Range, Slice};
use chat4all_service::Problem;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::problem;

/// How long the broker may take for one part.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// So many single items are asked for side by side.
const AT_A_TIME: usize = 16;

/// A part of the list, newest first; cursors are sequences.
pub async fn page(
    parked: &Parked,
    account: Option<&AccountId>,
    range: Range<u64>,
) -> Result<Slice<Item>, Problem> {
    let deadline = Instant::now() + DEADLINE;
    let part = Part {
        account,
        below: range.after,
        above: range.before,
    };
    let with_one_more = range.size + 1;
    let items = async {
        if range.from_end {
            parked.oldest(&part, with_one_more, deadline).await
        } else {
            parked.newest(&part, with_one_more, deadline).await
        }
    };
    let is_there = async |above: Option<u64>, below: Option<u64>| {
        let part = Part {
            account,
            above,
            below,
        };
        Ok(!parked.oldest(&part, 1, deadline).await?.is_empty())
    };
    let read = async {
        let items = items.await?;
        // The cursor's own item counts, if it is still there.
        let behind_cursors = (
            match range.after {
                Some(at) => is_there(Some(at.saturating_sub(1)), None).await?,
                None => false,
            },
            match range.before {
                Some(at) => is_there(None, Some(at.saturating_add(1))).await?,
                None => false,
            },
        );
        let (size, from_end) = (range.size, range.from_end);
        Ok(Slice::cut(items, size, from_end, behind_cursors))
    };
    read.await.map_err(|error| problem::of_parked(&error))
}

/// The items at these sequences that are still there.
pub async fn by_sequence(
    parked: &Parked,
    sequences: Vec<u64>,
) -> Result<BTreeMap<u64, Item>, Problem> {
    let deadline = Instant::now() + DEADLINE;
    let read = stream::iter(sequences)
        .map(|sequence| parked.get(sequence, deadline))
        .buffer_unordered(AT_A_TIME)
        .try_collect::<Vec<_>>();
    let items = read.await.map_err(|error| problem::of_parked(&error))?;
    let items = items.into_iter().flatten();
    Ok(items.map(|item| (item.sequence, item)).collect())
}
