//! Somebody who is to be in a conversation, as a request names them: a user, or an address on a channel.

use chat4all_domain::conversation::Member;
use chat4all_domain::{
    AccountId, Address, ChannelKind, ConversationId, IdSecret, ParticipantId, UserId,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BodyId, Mistakes};
use crate::Accounts;

/// `{"user_id": …}` or `{"channel": …, "address": …}`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Party)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartyBody {
    /// A user of this installation.
    #[schema(value_type = Option<uuid::Uuid>)]
    user_id: Option<BodyId>,
    /// An account (`whatsapp-main`), or a kind (`whatsapp`) that has exactly one account.
    channel: Option<String>,
    /// The address there; for WhatsApp a phone number in E.164, with or without `+`.
    address: Option<String>,
}

/// The same, understood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    User(UserId),
    Contact {
        account: AccountId,
        kind: ChannelKind,
        address: Address,
    },
}

impl PartyBody {
    /// Understands it. `at` is where it stands in the body, `/participants/0`.
    pub fn understand(
        &self,
        at: &str,
        accounts: &Accounts,
        mistakes: &mut Mistakes,
    ) -> Option<Party> {
        match (self.user_id, &self.channel, &self.address) {
            (Some(user), None, None) => {
                let user = user.understand(&format!("{at}/user_id"), mistakes);
                user.map(|user| Party::User(UserId::new(user)))
            }
            (None, Some(channel), Some(address)) => {
                contact(channel, address, at, accounts, mistakes)
            }
            _ => {
                mistakes.add(
                    at,
                    "expected either `user_id`, or `channel` and `address` together",
                );
                None
            }
        }
    }
}

/// An address on a channel, both as the client wrote them.
pub(crate) fn contact(
    channel: &str,
    address: &str,
    at: &str,
    accounts: &Accounts,
    mistakes: &mut Mistakes,
) -> Option<Party> {
    let (account, kind) = mistakes.check(&format!("{at}/channel"), accounts.resolve(channel))?;
    let address = mistakes.check(&format!("{at}/address"), Address::parse(kind, address))?;
    Some(Party::Contact {
        account,
        kind,
        address,
    })
}

impl Party {
    /// Who this is in `conversation`.
    pub fn member(&self, secret: &IdSecret, conversation: ConversationId) -> Member {
        match self {
            Self::User(user) => Member::User {
                participant: ParticipantId::of_user(conversation, *user),
                user: *user,
            },
            Self::Contact {
                account,
                kind,
                address,
            } => {
                let identity = secret.identity(*kind, address);
                Member::Contact {
                    participant: ParticipantId::of_contact(
                        conversation,
                        account.as_str(),
                        identity,
                    ),
                    identity,
                    kind: *kind,
                    account: account.clone(),
                    address: address.clone(),
                }
            }
        }
    }

    /// The direct conversation of `user` with this party.
    pub fn direct_with(&self, secret: &IdSecret, user: UserId) -> ConversationId {
        match self {
            Self::User(other) => secret.direct_of_users(user, *other),
            Self::Contact {
                account, address, ..
            } => secret.direct_with_address(account, address),
        }
    }
}
