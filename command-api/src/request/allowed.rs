//! Who calls, and that they may. Looked at before the body: who may not, is not told what is wrong with it.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chat4all_domain::UserId;
use chat4all_service::auth::{Caller, Scope};
use chat4all_service::problem::Problem;

use crate::CommandApi;

/// A scope, as a type.
pub(crate) trait Needs {
    const SCOPE: Scope;
}

/// Send messages, mark them as read.
pub(crate) enum MessagesWrite {}
/// Start conversations, change who is in them.
pub(crate) enum ConversationsWrite {}
/// Try failed deliveries again, whoever is in the conversation.
pub(crate) enum DeliveriesRedrive {}

impl Needs for MessagesWrite {
    const SCOPE: Scope = Scope::MessagesWrite;
}

impl Needs for ConversationsWrite {
    const SCOPE: Scope = Scope::ConversationsWrite;
}

impl Needs for DeliveriesRedrive {
    const SCOPE: Scope = Scope::DeliveriesRedrive;
}

/// A caller whose token has the scope `N`; 401 or 403 otherwise.
pub(crate) struct Allowed<N> {
    pub user: UserId,
    scope: PhantomData<N>,
}

impl<N: Needs> FromRequestParts<CommandApi> for Allowed<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &CommandApi) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, api).await?;
        caller.require(N::SCOPE)?;
        let user = UserId::derive(caller.issuer(), caller.sub());
        Ok(Self {
            user,
            scope: PhantomData,
        })
    }
}
