//! The list of dead letters, from the field's arguments to its answer.

use std::collections::HashSet;

use async_graphql::connection::Connection;
use async_graphql::{Context, ID, InputObject, Result};
use chat4all_service::Problem;

use super::connection::connection;
use super::dead_letter::DeadLetter;
use super::error::error;
use super::global_id::named;
use super::scalar::Place;
use super::words::DeadLetterKind;
use crate::dead_letters::{Cursor, Kind, Wanted};
use crate::page;
use crate::session::Session;

/// Which dead letters.
#[derive(InputObject, Default)]
pub struct DeadLetterFilter {
    /// Only those of this account. Events have none, so they are not among them.
    channel: Option<String>,
    /// Only those of this conversation, by its `conversationId` or its `id`. What came in and was put aside has none, so it is
    /// not among them.
    conversation_id: Option<ID>,
}

/// Answers the field. A kind whose store is away is left out, and an error says so.
pub async fn answer(
    ctx: &Context<'_>,
    kinds: Option<Vec<DeadLetterKind>>,
    filter: Option<DeadLetterFilter>,
    arguments: page::Arguments,
    at_least: Option<Place>,
) -> Result<Connection<String, DeadLetter>> {
    let session = ctx.data_unchecked::<Session>();
    let page = async {
        session
            .open_dead_letters(at_least.map(|place| place.0))
            .await?;
        let wanted = wanted(kinds, filter.unwrap_or_default())?;
        let range = page::parse(arguments)?;
        session.dead_letter_page(&wanted, range).await
    };
    let page = page.await.map_err(|p| error(&p))?;
    for problem in &page.left_out {
        let said = error(problem).into_server_error(ctx.item.pos);
        ctx.add_error(ctx.set_error_path(said));
    }
    Ok(connection(
        page.slice,
        |letter| Cursor::from(letter).to_string(),
        DeadLetter::from,
    ))
}

fn wanted(
    kinds: Option<Vec<DeadLetterKind>>,
    filter: DeadLetterFilter,
) -> std::result::Result<Wanted, Problem> {
    let kinds = match kinds {
        None => Kind::ALL.to_vec(),
        Some(kinds) => kinds.into_iter().map(Kind::from).collect(),
    };
    let mut seen = HashSet::new();
    if kinds.is_empty() || !kinds.iter().all(|kind| seen.insert(kind.as_str())) {
        return Err(Problem::field(
            "/kinds",
            "names no kind, or one twice; leave it out for all of them",
        ));
    }
    let account = filter.channel.map(|text| text.parse()).transpose();
    let account = account.map_err(|_| {
        Problem::field(
            "/filter/channel",
            "is no account id such as `whatsapp-main`",
        )
    })?;
    let conversation = filter.conversation_id;
    let conversation = conversation.map(|id| named("filter/conversationId", &id));
    Ok(Wanted {
        kinds,
        account,
        conversation: conversation.transpose()?,
    })
}
