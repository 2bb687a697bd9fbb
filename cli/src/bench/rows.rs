//! A conversation with any number of messages, loaded with `COPY` in the shape that the projector gives its rows.
//!
//! The conversation itself is started through the API: it, its participants and the recipient's identity are the projector's.
//! Messages are not on the log, so nothing may be sent into it afterwards. Each has one delivery, which is READ. Their history
//! (`delivery_events`) is left out: no page looks at it.

use std::fmt::Write as _;

use anyhow::Context as _;
use chat4all_domain::ConversationId;
use chat4all_service::clock;
use sqlx::PgConnection;
use uuid::Uuid;

use super::system::System;

/// What a chunk of copied rows has, at most.
const CHUNK_BYTES: usize = 256 * 1024;
/// The account of the recipient.
const ACCOUNT: &str = "whatsapp-main";

/// A conversation that is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    pub conversation: ConversationId,
    pub partition: i16,
    /// The sequence before that of its first message; theirs have no holes.
    pub before: i64,
    pub messages: usize,
}

/// What rows repeat.
#[derive(sqlx::FromRow)]
struct Parties {
    partition: i16,
    last_sequence: i64,
    author: Uuid,
    recipient: Uuid,
}

/// One with a recipient of that number, and so many messages.
///
/// # Errors
/// The conversation is refused, or Postgres refuses rows.
pub(super) async fn load(
    system: &System,
    connection: &mut PgConnection,
    address: &str,
    messages: usize,
) -> anyhow::Result<Full> {
    let recipient = serde_json::json!({"channel": ACCOUNT, "address": address});
    let body = serde_json::json!({"kind": "direct", "participants": [recipient]});
    let started = system.conversations(std::iter::once(body)).await?;
    let id: Uuid = started.first().context("no conversation")?.parse()?;
    let log = system.log().await?;
    system.catch_up(&log).await?;
    let parties: Parties = sqlx::query_as(
        "select c.partition, c.last_sequence, me.participant_id as author, they.participant_id as recipient
         from chat4all.conversations c
         join chat4all.participants me on me.conversation_id = c.conversation_id and me.user_id is not null
         join chat4all.participants they on they.conversation_id = c.conversation_id and they.identity_id is not null
         where c.conversation_id = $1",
    )
    .bind(id)
    .fetch_one(&mut *connection)
    .await?;
    let ids: Vec<Uuid> = (0..messages).map(|_| Uuid::now_v7()).collect();
    let now = clock::now();
    let rows = |n: usize, message: &Uuid, text: &mut String| {
        let Parties {
            partition, author, ..
        } = parties;
        let sequence = parties.last_sequence + 1 + n as i64;
        writeln!(
            text,
            "{id}\t{message}\t{partition}\t{sequence}\t{author}\tapi\ttext\tmessage number {n:012}\t{now}\t{now}\t{now}"
        )
    };
    let columns = "conversation_id, message_id, partition, sequence, author, origin, content_type, content_text, \
                   occurred_at, recorded_at, valid_until";
    copy(connection, "messages", columns, &ids, rows).await?;
    let rows = |n: usize, message: &Uuid, text: &mut String| {
        let Parties {
            partition,
            recipient,
            ..
        } = parties;
        let sequence = parties.last_sequence + 1 + n as i64;
        writeln!(
            text,
            "{id}\t{message}\t0\t{partition}\twhatsapp\t{ACCOUNT}\t{recipient}\t{address}\tREAD\t0\t1\t1\t{now}\t{now}\t{now}\t{now}\t{sequence}"
        )
    };
    let columns = "conversation_id, message_id, n, partition, kind, account, participant_id, address, status, \
                   generation, first_attempt, attempts, attempted_at, sent_at, delivered_at, read_at, last_sequence";
    copy(connection, "deliveries", columns, &ids, rows).await?;
    sqlx::query(
        "update chat4all.conversations
         set message_count = $2, last_message_id = $3, last_sequence = $4, last_activity_at = $5
         where conversation_id = $1",
    )
    .bind(id)
    .bind(messages as i64)
    .bind(ids.last())
    .bind(parties.last_sequence + messages as i64)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    Ok(Full {
        conversation: ConversationId::new(id),
        partition: parties.partition,
        before: parties.last_sequence,
        messages,
    })
}

/// Copies one row for each message into a table.
async fn copy(
    connection: &mut PgConnection,
    table: &str,
    columns: &str,
    ids: &[Uuid],
    row: impl Fn(usize, &Uuid, &mut String) -> std::fmt::Result,
) -> anyhow::Result<()> {
    let statement = format!("copy chat4all.{table} ({columns}) from stdin");
    let mut copy = connection.copy_in_raw(&statement).await?;
    let mut chunk = String::with_capacity(2 * CHUNK_BYTES);
    for (n, id) in ids.iter().enumerate() {
        row(n, id, &mut chunk)?;
        if chunk.len() >= CHUNK_BYTES {
            copy.send(chunk.as_bytes()).await?;
            chunk.clear();
        }
    }
    copy.send(chunk.as_bytes()).await?;
    copy.finish().await?;
    Ok(())
}
