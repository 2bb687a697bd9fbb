//! Who is or was in a conversation, as a reader knows it: whoever joined or left after the reader had left for good is not
//! in it, or not gone.

use std::collections::BTreeMap;

use chat4all_domain::conversation::Who;
use chat4all_domain::{Address, ConversationId, ParticipantId, Timestamp, UserId};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::horizon::horizon;
use super::{Error, Reader, Reads, column};

/// The columns of a stay; one that ended behind the reader's horizon has not ended for them.
macro_rules! participants {
    () => {
        "select p.conversation_id, p.participant_id, p.user_id, p.identity_id, p.channel_kind, p.account, p.address,
                p.joined_sequence, p.joined_at,
                case when p.left_sequence <= known.sequence then p.left_sequence end as left_sequence,
                case when p.left_sequence <= known.sequence then p.left_at end as left_at "
    };
}

/// One participant with all their stays.
#[derive(Clone, Debug, PartialEq)]
pub struct Participant {
    /// The conversation.
    pub conversation: ConversationId,
    /// Names them there.
    pub id: ParticipantId,
    /// A user, or somebody outside.
    pub who: Who,
    /// The address of somebody outside.
    pub address: Option<Address>,
    /// When they were in it, earliest first; at least one.
    pub stays: Vec<Stay>,
}

/// From joining to leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Messages with a higher sequence are theirs to see.
    pub joined_sequence: u64,
    /// When they joined.
    pub joined_at: Timestamp,
    /// The sequence and the time at which they left; `None` while they are in it.
    pub left: Option<(u64, Timestamp)>,
}

impl Stay {
    /// Whether a message at `sequence` was said while they were in it.
    pub fn covers(&self, sequence: u64) -> bool {
        self.joined_sequence < sequence && self.left.is_none_or(|(left, _)| sequence < left)
    }
}

/// Everybody whom `reader` knows in each of these conversations, in the order they first joined.
///
/// # Errors
/// See [`Error`].
pub async fn of_conversations(
    reads: &Reads,
    reader: Reader,
    conversations: &[ConversationId],
) -> Result<BTreeMap<ConversationId, Vec<Participant>>, Error> {
    let wanted: Vec<Uuid> = conversations.iter().map(ConversationId::uuid).collect();
    let rows = reads.all(
        sqlx::query_as(concat!(
            participants!(),
            "from unnest($1::uuid[]) as wanted (conversation_id)
             cross join lateral (",
            horizon!("$2", "$3"),
            ") known
             join participants p on p.conversation_id = wanted.conversation_id
             where known.sequence > p.joined_sequence
             order by p.conversation_id, p.joined_sequence, p.participant_id",
        ))
        .bind(wanted)
        .bind(reader.user.uuid())
        .bind(reader.sees_all),
    );
    let mut everybody: BTreeMap<ConversationId, Vec<Participant>> = BTreeMap::new();
    for participant in joined(rows.await?) {
        everybody
            .entry(participant.conversation)
            .or_default()
            .push(participant);
    }
    Ok(everybody)
}

/// The participants under `keys`, those that `reader` knows.
///
/// # Errors
/// See [`Error`].
pub async fn by_key(
    reads: &Reads,
    reader: Reader,
    keys: &[(ConversationId, ParticipantId)],
) -> Result<BTreeMap<(ConversationId, ParticipantId), Participant>, Error> {
    let (conversations, participants): (Vec<Uuid>, Vec<Uuid>) = keys
        .iter()
        .map(|(conversation, participant)| (conversation.uuid(), participant.uuid()))
        .unzip();
    let rows = reads.all(
        sqlx::query_as(concat!(
            participants!(),
            "from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, participant_id)
             cross join lateral (",
            horizon!("$3", "$4"),
            ") known
             join participants p
               on p.conversation_id = wanted.conversation_id
              and p.participant_id = wanted.participant_id
             where known.sequence > p.joined_sequence
             order by p.conversation_id, p.joined_sequence, p.participant_id",
        ))
        .bind(conversations)
        .bind(participants)
        .bind(reader.user.uuid())
        .bind(reader.sees_all),
    );
    Ok(joined(rows.await?)
        .into_iter()
        .map(|participant| ((participant.conversation, participant.id), participant))
        .collect())
}

/// Puts the stays of one participant together; everybody keeps the place of their first stay.
fn joined(rows: Vec<Participant>) -> Vec<Participant> {
    let mut places = BTreeMap::new();
    let mut everybody: Vec<Participant> = Vec::new();
    for row in rows {
        match places.get(&(row.conversation, row.id)) {
            Some(&place) => {
                let known: &mut Participant = &mut everybody[place];
                known.stays.extend(row.stays);
            }
            None => {
                places.insert((row.conversation, row.id), everybody.len());
                everybody.push(row);
            }
        }
    }
    everybody
}

impl FromRow<'_, PgRow> for Participant {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let user: Option<Uuid> = row.try_get("user_id")?;
        let who = match user {
            Some(user) => Who::User {
                user: UserId::new(user),
            },
            None => Who::Contact {
                identity: chat4all_domain::IdentityId::new(row.try_get("identity_id")?),
                kind: column::parsed(row, "channel_kind")?,
                account: column::parsed(row, "account")?,
            },
        };
        let left_sequence = column::optional_count(row, "left_sequence")?;
        let stay = Stay {
            joined_sequence: column::count(row, "joined_sequence")?,
            joined_at: column::moment(row, "joined_at")?,
            left: left_sequence.zip(column::optional_moment(row, "left_at")?),
        };
        Ok(Self {
            conversation: ConversationId::new(row.try_get("conversation_id")?),
            id: ParticipantId::new(row.try_get("participant_id")?),
            who,
            address: column::optional_address(row, "address")?,
            stays: vec![stay],
        })
    }
}
