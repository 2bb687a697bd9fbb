//! The raw limit: bare JetStream publishes of the same bytes, on a nats-server of its own with the same streams.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self};
use bytes::Bytes;
use chat4all_domain::{ConversationId, MessageId, message};
use chat4all_nats::streams::{self, Layout};
use chat4all_nats::{Log, connect, subject};
use uuid::Uuid;

use super::load::Operation;
use super::system::sync_of;
use crate::embedded::{Nats, NatsOptions, temp_dir};

/// A message as it stands on the log.
pub(super) struct Template {
    headers: HeaderMap,
    payload: Bytes,
}

impl Template {
    /// The last message of a conversation on `log`.
    ///
    /// # Errors
    /// There is none.
    pub async fn last(log: &Log, id: &message::Id) -> anyhow::Result<Self> {
        let stream = log.stream(log.partition_of(id));
        let subject = subject::of(log.partitions(), id);
        let stored = stream.get_last_raw_message_by_subject(&subject).await;
        let stored = stored.context("the message is not on the log")?;
        let mut headers = HeaderMap::new();
        for (name, values) in stored.headers.iter() {
            // What a publish sets by itself.
            if !name.to_string().starts_with("Nats-") {
                values
                    .iter()
                    .for_each(|value| headers.append(name.clone(), value.clone()));
            }
        }
        Ok(Self {
            headers,
            payload: stored.payload,
        })
    }

    pub fn bytes(&self) -> usize {
        self.payload.len()
    }
}

/// Publishes with id and expected revision 0, each to a subject of its own.
pub(super) struct Publish {
    log: Log,
    jetstream: jetstream::Context,
    conversations: Vec<ConversationId>,
    template: Template,
    server: Nats,
    _dir: tempfile::TempDir,
}

impl Publish {
    /// A nats-server with the streams of `layout`.
    ///
    /// # Errors
    /// It does not start.
    pub async fn prepare(
        layout: &Layout,
        conversations: usize,
        template: Template,
    ) -> anyhow::Result<Arc<Self>> {
        let dir = temp_dir()?;
        let server = Nats::start(NatsOptions::in_dir(dir.path().join("nats"))).await?;
        let client = connect::connect(&connect::Config::new(server.url(), "bench")).await?;
        let (log, _) = Log::provision(client.clone(), layout).await?;
        Ok(Arc::new(Self {
            jetstream: Log::context(&client),
            log,
            conversations: (0..conversations)
                .map(|_| ConversationId::new(Uuid::now_v7()))
                .collect(),
            template,
            server,
            _dir: dir,
        }))
    }

    /// What this nats-server says about its syncing.
    ///
    /// # Errors
    /// Its monitoring does not answer.
    pub async fn sync(&self, client: &reqwest::Client) -> anyhow::Result<String> {
        sync_of(client, &self.server.monitor_url()).await
    }
}

impl Operation for Publish {
    async fn once(&self, n: u64, _: Instant) -> anyhow::Result<()> {
        let conversation = self.conversations[n as usize % self.conversations.len()];
        let id = message::Id {
            conversation,
            message: MessageId::new(Uuid::now_v7()),
        };
        let message = PublishMessage::build()
            .headers(self.template.headers.clone())
            .message_id(Uuid::now_v7().to_string())
            .expected_stream(streams::name(self.log.partition_of(&id)))
            .expected_last_subject_sequence(0)
            .payload(self.template.payload.clone());
        let subject = subject::of(self.log.partitions(), &id);
        let ack = self.jetstream.send_publish(subject, message).await?;
        ack.await?;
        Ok(())
    }
}
