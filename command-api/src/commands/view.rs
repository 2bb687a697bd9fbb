//! Participants as answers show them.

use chat4all_domain::conversation::{Member, Present, Who};
use chat4all_domain::{AccountId, Address, ParticipantId, UserId};
use serde::Serialize;
use utoipa::ToSchema;

/// Somebody who is in a conversation: a user, or an address on a channel.
#[derive(Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub(super) struct Participant {
    /// Names them in this conversation, and nowhere else.
    #[schema(value_type = uuid::Uuid)]
    pub participant_id: ParticipantId,
    /// A user of this installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub user_id: Option<UserId>,
    /// The account that somebody outside is reached through.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub channel: Option<AccountId>,
    /// Their address there, in canonical form.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<Address>,
}

impl Participant {
    pub fn of(participant_id: ParticipantId, who: &Who, address: Option<&Address>) -> Self {
        let (user_id, channel) = match who {
            Who::User { user } => (Some(*user), None),
            Who::Contact { account, .. } => (None, Some(account.clone())),
        };
        Self {
            participant_id,
            user_id,
            channel,
            address: address.cloned(),
        }
    }
}

impl From<&Member> for Participant {
    fn from(member: &Member) -> Self {
        Self::of(member.participant(), &member.who(), member.address())
    }
}

impl From<(ParticipantId, &Present)> for Participant {
    fn from((id, present): (ParticipantId, &Present)) -> Self {
        Self::of(id, &present.who, present.address.as_ref())
    }
}
