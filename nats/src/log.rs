//! The log: a connection and the handles of its partitions' streams.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::{self, stream};
use chat4all_domain::{AggregateId, Partition, PartitionCount};
use tokio::time::Instant;

use crate::fullness::Fullness;
use crate::resolved::Resolved;
use crate::streams;

/// How long one publish waits for its acknowledgement before it counts as ambiguous and the leader is asked.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of this installation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
    /// For publishing.
    publishing: jetstream::Context,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    js: jetstream::Context,
    partitions: PartitionCount,
    replicas: usize,
    streams: Vec<stream::Stream<()>>,
    fullness: Fullness,
    resolved: Resolved,
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or was made for other partitions.
    #[error("failed to open the log")]
    Open(#[source] streams::Error),
    /// The broker did not answer.
    #[error("failed to look at stream {stream}; does it exist? `chat4all provision` makes it")]
    Look {
        /// The stream.
        stream: String,
        /// Why not.
        #[source]
        source: jetstream::context::GetStreamError,
    },
}

impl Error {
    /// Whether waiting may mend it: the broker is away or without a leader, nobody has made the log yet, or a restore
    /// is under way. A log that was
    /// made for other partitions stays what it is.
    pub fn passes(&self) -> bool {
        match self {
            Self::Open(streams::Error::Incompatible { .. }) => false,
            Self::Open(streams::Error::Broker { .. } | streams::Error::Restoring { .. })
            | Self::Look { .. } => true,
        }
    }
}

impl Log {
    /// The JetStream context this log uses: short waits, because what is ambiguous is resolved by asking the leader.
    pub fn context(client: &Client) -> jetstream::Context {
        ContextBuilder::new()
            .timeout(ACK_TIMEOUT)
            .build(client.clone())
    }

    /// Makes what is missing on the broker, then opens the log.
    ///
    /// # Errors
    /// See [`streams::provision`] and [`Log::open`].
    pub async fn provision(
        client: Client,
        layout: &streams::Layout,
    ) -> Result<(Self, streams::Report), Error> {
        let js = Self::context(&client);
        let report = streams::provision(&js, layout).await.map_err(Error::Open)?;
        Ok((Self::open(client, layout).await?, report))
    }

    /// Opens a log that exists, after comparing what can never change.
    ///
    /// # Errors
    /// [`Error::Look`] when a stream is missing or the broker away, [`Error::Open`] when it was made for other partitions,
    /// or while not all of it is restored.
    pub async fn open(client: Client, layout: &streams::Layout) -> Result<Self, Error> {
        Self::open_for(client, layout, None).await
    }

    /// As [`Log::open`], also in the middle of the restore of `backup`.
    pub(crate) async fn open_for(
        client: Client,
        layout: &streams::Layout,
        backup: Option<&str>,
    ) -> Result<Self, Error> {
        let js = Self::context(&client);
        let mut handles = Vec::new();
        let mut fullness = Vec::new();
        for (partition, wanted) in layout.partitions.all().zip(streams::definitions(layout)) {
            let stream = streams::name(partition);
            let found = js.get_stream(&stream).await.map_err(|source| Error::Look {
                stream: stream.clone(),
                source,
            })?;
            let info = found.cached_info();
            streams::compatible(&wanted, &info.config).map_err(Error::Open)?;
            streams::not_restoring(&info.config, backup).map_err(Error::Open)?;
            fullness.push((info.state.bytes, info.config.max_bytes));
            let handle = js.get_stream_no_info(&stream).await;
            handles.push(handle.map_err(|source| Error::Look { stream, source })?);
        }
        let fullness = Fullness::new(fullness);
        let (partitions, replicas) = (layout.partitions, layout.replicas);
        Ok(Self {
            publishing: js.clone(),
            inner: Arc::new(Inner {
                client,
                js,
                partitions,
                replicas,
                streams: handles,
                fullness,
                resolved: Resolved::default(),
            }),
        })
    }

    /// The same log, whose publishes wait so long for their acknowledgement before they count as ambiguous and the leader
    /// is asked. One second, if nothing is said. Shorter finds a lost one sooner, and asks more often while the broker is
    /// slow; whatever it is, every answer is true.
    #[must_use]
    pub fn with_ack_timeout(self, ack_timeout: Duration) -> Self {
        let publishing = ContextBuilder::new().timeout(ack_timeout);
        Self {
            publishing: publishing.build(self.inner.client.clone()),
            inner: self.inner,
        }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> PartitionCount {
        self.inner.partitions
    }
    /// How many copies there are of everything.
    pub fn replicas(&self) -> usize {
        self.inner.replicas
    }
    /// The partition an aggregate lives in.
    pub fn partition_of<I: AggregateId>(&self, id: &I) -> Partition {
        self.inner.partitions.of(id.partition_key())
    }
    /// The connection.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }
    /// The JetStream context.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.inner.js
    }
    /// The JetStream context for publishing events.
    pub(crate) fn publishing(&self) -> &jetstream::Context {
        &self.publishing
    }
    /// How full the partitions are.
    pub fn fullness(&self) -> &Fullness {
        &self.inner.fullness
    }
    /// What became of appends that were not simply acknowledged.
    pub fn resolved(&self) -> &Resolved {
        &self.inner.resolved
    }
    /// The stream of a partition.
    ///
    /// # Panics
    /// For a partition that this log does not have.
    pub fn stream(&self, partition: Partition) -> &stream::Stream<()> {
        &self.inner.streams[usize::from(partition.number())]
    }

    /// Whether the connection is up now.
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == State::Connected
    }

    /// Which connection is up now, counted from 1; `None` when none is. Another one may lead to another broker.
    pub fn connection(&self) -> Option<u64> {
        let up = self.is_connected();
        // In this order: the count goes up before the connection is up.
        let count = self
            .inner
            .client
            .statistics()
            .connects
            .load(Ordering::Acquire);
        up.then_some(count)
    }

    /// Waits for the connection to be up; `false` when `deadline` comes first. A publish into a connection that is down
    /// is kept and sent after the reconnect, long after its caller has given up: so look first.
    pub async fn connected_by(&self, deadline: Instant) -> bool {
        while !self.is_connected() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }
}
