//! `messages`: one row per accepted message.

use chat4all_domain::Recorded;
use chat4all_domain::message::{Content, Event, Id, Origin};
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::message::{self, Row};
use sqlx::{Error, PgConnection};

use crate::rows::Writing;

#[derive(Default)]
pub(crate) struct Messages(Vec<Row>);

impl Messages {
    pub fn fold(&mut self, change: &Change) {
        match change {
            Change::Message(id, events) => self.0.extend(events.iter().map(|event| row(id, event))),
            Change::Conversation(..)
            | Change::Delivery(..)
            | Change::Reader(..)
            | Change::Identity(..) => {}
        }
    }

    pub async fn write(&self, tx: &mut PgConnection, writing: Writing) -> Result<(), Error> {
        match writing {
            _ if self.0.is_empty() => Ok(()),
            Writing::Upsert => message::insert(tx, &self.0).await,
            Writing::Copy => message::copy(tx, &self.0).await,
        }
    }

    pub fn committed(&mut self) {
        self.0.clear();
    }
}

fn row(id: &Id, recorded: &Recorded<Event>) -> Row {
    match &recorded.event {
        Event::Accepted { facts, personal } => {
            let (origin, account) = match &facts.origin {
                Origin::Api => ("api", None),
                Origin::Channel { account } => ("channel", Some(account.as_str().to_owned())),
            };
            let (content_text, placeholder) = match &personal.content {
                Content::Text { text } => (Some(text.reveal().to_owned()), None),
                Content::Unsupported { what } => (None, Some(what.clone())),
            };
            Row {
                conversation_id: id.conversation.uuid(),
                message_id: id.message.uuid(),
                partition: i16::from(recorded.position.partition.number()),
                sequence: to_i64(recorded.position.sequence),
                author: facts.author.uuid(),
                origin: origin.to_owned(),
                account,
                content_type: personal.content.kind().to_owned(),
                content_text,
                placeholder,
                occurred_at: facts.occurred_at.to_datetime(),
                recorded_at: recorded.recorded_at.to_datetime(),
                valid_until: facts.valid_until.to_datetime(),
            }
        }
    }
}
