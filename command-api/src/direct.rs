//! The direct conversation of a user with one party: made on first use, by whoever comes first.
//!
//! Three appends at most, each under a derived id and each of them harmless the second time: the identity is met, the
//! conversation started, the user added to it if others had started it. A crash in between is completed by repeating.

use chat4all_domain::conversation::{self, Kind};
use chat4all_domain::identity::{self, Identity};
use chat4all_domain::{Address, ChannelKind, Conversation, ConversationId, Position, UserId};
use chat4all_nats::execute::{Assume, Purpose};
use chat4all_service::problem::Problem;

use crate::CommandApi;
use crate::problem::{Repeat, of_execute};
use crate::request::{Call, Party};

/// The conversation as it is now, with the user in it.
pub(crate) struct Established {
    pub conversation: ConversationId,
    pub state: Conversation,
    pub position: Position,
    /// Whether it was started just now.
    pub started: bool,
}

/// Makes sure that the direct conversation of `user` with `party` exists, and that the user is in it.
///
/// # Errors
/// What the log could not do; a part may have been stored, and repeating completes it.
pub(crate) async fn establish(
    api: &CommandApi,
    call: &Call,
    user: UserId,
    party: &Party,
) -> Result<Established, Problem> {
    meet(api, call, party).await?;
    let (secret, conversation) = (api.id_secret(), party.direct_with(api.id_secret(), user));
    let me = Party::User(user).member(secret, conversation);
    let start = conversation::Command::Start {
        kind: Kind::Direct,
        members: vec![me.clone(), party.member(secret, conversation)],
        title: None,
        fingerprint: None,
        by: Some(user),
        at: call.now,
    };
    let store = &api.stores().conversations;
    let context = call.context(Purpose::Accept, Assume::Absent);
    let done = api
        .execute(store, &conversation, (start.name(), start), context)
        .await;
    let mut done = done.map_err(|error| of_execute(error, Repeat::Safe))?;
    let started = !done.events.is_empty();
    if done.state.participant_of(user).is_none() {
        let add = conversation::Command::Add {
            member: me,
            by: None,
            at: call.now,
        };
        let context = call.context(Purpose::Accept, Assume::Nothing);
        let added = api
            .execute(store, &conversation, (add.name(), add), context)
            .await;
        done = added.map_err(|error| of_execute(error, Repeat::Safe))?;
    }
    Ok(Established {
        conversation,
        state: done.state,
        position: done.position,
        started,
    })
}

/// Makes sure that the identity behind a party outside exists. Users need none.
///
/// # Errors
/// What the log could not do; repeating is safe.
pub(crate) async fn meet(api: &CommandApi, call: &Call, party: &Party) -> Result<(), Problem> {
    match party {
        Party::User(_) => Ok(()),
        Party::Contact { kind, address, .. } => meet_address(api, call, *kind, address).await,
    }
}

async fn meet_address(
    api: &CommandApi,
    call: &Call,
    kind: ChannelKind,
    address: &Address,
) -> Result<(), Problem> {
    let (store, id) = (
        &api.stores().identities,
        api.id_secret().identity(kind, address),
    );
    // Who is known stays known, however old the cached state is.
    if store
        .cached(&id)
        .is_some_and(|known| known.state != Identity::Unknown)
    {
        return Ok(());
    }
    let meet = identity::Command::Meet {
        kind,
        address: address.clone(),
        name: None,
        at: call.now,
    };
    let context = call.context(Purpose::Accept, Assume::Absent);
    let met = api.execute(store, &id, (meet.name(), meet), context).await;
    met.map(|_| ())
        .map_err(|error| of_execute(error, Repeat::Safe))
}
