-- The read models. Every row is a pure function of events: no now(), no serial, no default that is not a constant, so
-- that a second fold of the same log gives the same tables, byte for byte.
--
-- Every row is written by exactly one partition, the one whose log it was folded from. Everything of a conversation is in
-- one partition. There are no foreign keys: an event that cannot be read is parked, and what refers to it goes on.
--
-- No table names its schema: the connection's search_path decides, so that a rebuild can fold into another schema and
-- swap the two by renaming them.
--
-- `sequence` columns are stream sequences within `partition`: together they are a position. Times named `occurred_at` are
-- those of whoever noticed (a provider's clock among them), `recorded_at` is ours.

create table conversations (
    conversation_id uuid not null,
    partition smallint not null,
    kind text not null,
    title text,
    -- The user who started it; null when somebody outside wrote first.
    started_by uuid,
    started_at timestamptz not null,
    started_sequence bigint not null,
    -- The latest of: started, joined, left, message accepted; by our clock.
    last_activity_at timestamptz not null,
    -- The event that was the last activity.
    last_sequence bigint not null,
    -- The last message, if there is one.
    last_message_id uuid,
    message_count bigint not null,
    constraint conversations_pk primary key (conversation_id),
    constraint conversations_kind_known check (kind in ('direct', 'group'))
);

-- Conversations by last activity, newest first.
create index conversations_by_activity on conversations (last_activity_at desc, conversation_id);

-- One row per stay: who leaves and joins again has two. A participant sees the messages whose sequence lies between join
-- and leave of one of their stays.
create table participants (
    conversation_id uuid not null,
    participant_id uuid not null,
    joined_sequence bigint not null,
    -- Null while they are in it.
    left_sequence bigint,
    joined_at timestamptz not null,
    left_at timestamptz,
    -- A user has a user_id; somebody outside has the other four.
    user_id uuid,
    identity_id uuid,
    channel_kind text,
    account text,
    address text,
    constraint participants_pk primary key (conversation_id, participant_id, joined_sequence),
    constraint participants_user_or_contact check (
        (user_id is not null) = (identity_id is null)
        and (identity_id is null) = (channel_kind is null)
        and (identity_id is null) = (account is null)
    )
);

-- My conversations.
create index participants_by_user on participants (user_id, conversation_id) where user_id is not null;
-- The conversations of somebody outside.
create index participants_by_identity on participants (identity_id, conversation_id) where identity_id is not null;

create table messages (
    conversation_id uuid not null,
    message_id uuid not null,
    partition smallint not null,
    -- The order of messages within a conversation, and their cursor.
    sequence bigint not null,
    -- A participant_id.
    author uuid not null,
    -- `api` or `channel`; the account is that of the channel.
    origin text not null,
    account text,
    -- `text` or `unsupported`.
    content_type text not null,
    content_text text,
    -- What stands in the place of content that cannot be shown yet: the provider's word for it.
    placeholder text,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    valid_until timestamptz not null,
    constraint messages_pk primary key (conversation_id, message_id),
    constraint messages_in_order unique (conversation_id, sequence),
    constraint messages_origin_known check (origin in ('api', 'channel'))
);

-- One row per outside recipient of a message, numbered as in the event.
create table deliveries (
    conversation_id uuid not null,
    message_id uuid not null,
    n integer not null,
    partition smallint not null,
    kind text not null,
    account text not null,
    participant_id uuid not null,
    address text,
    status text not null,
    -- How often it was redriven. The steps below are those of this generation.
    generation bigint not null,
    -- The first attempt that belongs to this generation.
    first_attempt bigint not null,
    -- The last attempt made; 0 when none was.
    attempts bigint not null,
    -- One time per step; a step that nobody told us about stays null.
    attempted_at timestamptz,
    sent_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    failed_at timestamptz,
    -- Why it failed; null unless it did.
    failure_class text,
    failure_reason text,
    provider_code text,
    -- It waits, and why; null unless it does.
    deferred_until timestamptz,
    deferred_class text,
    deferred_reason text,
    -- The last event about it.
    last_sequence bigint not null,
    constraint deliveries_pk primary key (conversation_id, message_id, n),
    constraint deliveries_status_known check (status in ('PENDING', 'SENT', 'DELIVERED', 'READ', 'FAILED'))
)
-- Each row is updated once per step; with room on the page and no changing column in an index, in place.
with (fillfactor = 70);

-- Failed deliveries are dead letters.
create index deliveries_failed on deliveries (failed_at, conversation_id, message_id, n) where failed_at is not null;

-- What happened to a delivery, step by step.
create table delivery_events (
    conversation_id uuid not null,
    message_id uuid not null,
    n integer not null,
    sequence bigint not null,
    -- Which of its envelope's events it is, from 0.
    event_index integer not null,
    -- `DeliveryAttempted`, …
    type text not null,
    -- The attempt it is about; null for a redrive.
    attempt bigint,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    -- Nothing personal: generation and by (a user id) of a redrive, class, reason, provider_code, until, owner.
    details jsonb not null,
    constraint delivery_events_pk primary key (conversation_id, message_id, n, sequence, event_index)
);

-- How far each participant has read.
create table readers (
    conversation_id uuid not null,
    participant_id uuid not null,
    message_id uuid not null,
    up_to_sequence bigint not null,
    read_at timestamptz not null,
    constraint readers_pk primary key (conversation_id, participant_id)
);

-- Somebody outside.
create table identities (
    identity_id uuid not null,
    partition smallint not null,
    kind text not null,
    address text not null,
    name text,
    first_seen_at timestamptz not null,
    -- The event that made it.
    first_sequence bigint not null,
    constraint identities_pk primary key (identity_id)
);

create index identities_by_address on identities (kind, address);

-- How far each partition has been folded. Moves in the same transaction as the rows.
create table projector_checkpoint (
    partition smallint not null,
    -- The last event folded; 0 for none.
    sequence bigint not null,
    -- When that event was recorded.
    recorded_at timestamptz,
    constraint projector_checkpoint_pk primary key (partition),
    constraint projector_checkpoint_not_negative check (sequence >= 0)
)
with (fillfactor = 50);

-- Events that could not be folded, as they stand on the log.
create table projector_dead_letter (
    partition smallint not null,
    sequence bigint not null,
    subject text not null,
    -- What is wrong, without anything personal.
    error text not null,
    payload bytea not null,
    recorded_at timestamptz not null,
    constraint projector_dead_letter_pk primary key (partition, sequence)
);
