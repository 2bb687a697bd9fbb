-- Dead letters are shown by GraphQL: by page, newest first, of one account or of one conversation.
--
-- Runs beside the old code: what is new may be null. Building an index holds up the projector for as long as its table is
-- read once; the projector tries again, nobody else waits.

-- What the event calls itself: the types in the header of its message, `MessageAccepted`, several with commas. Null when it
-- has no such header, and for those that were parked before this migration.
alter table projector_dead_letter add column event_types text;
-- The conversation its subject names; null when it names none.
alter table projector_dead_letter add column conversation_id uuid;

with parked as (
    select partition,
           sequence,
           regexp_match(
               subject,
               '^chat\.evt\.[0-9]{2}\.(?:conversation\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|(?:message|reader|delivery\.whatsapp)\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$'
           ) as found
    from projector_dead_letter
)
update projector_dead_letter d
set conversation_id = coalesce(parked.found[1], parked.found[2])::uuid
from parked
where d.partition = parked.partition
  and d.sequence = parked.sequence
  and parked.found is not null;

create index projector_dead_letter_by_time on projector_dead_letter (recorded_at, partition, sequence);
create index projector_dead_letter_by_conversation
    on projector_dead_letter (conversation_id, recorded_at, partition, sequence)
    where conversation_id is not null;

-- As `deliveries_failed`, which stays: no column in these changes with the steps of a delivery that does not fail, so that
-- its row is still updated in place.
create index deliveries_failed_by_account
    on deliveries (account, failed_at, conversation_id, message_id, n)
    where failed_at is not null;
create index deliveries_failed_by_conversation
    on deliveries (conversation_id, failed_at, message_id, n)
    where failed_at is not null;
