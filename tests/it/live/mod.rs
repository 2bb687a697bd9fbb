//! Following live, through `chat4all up`: as those see it who subscribe, are cut off, come back, fall behind, or may not see it.

pub mod alone;
mod client;
mod connections;
mod elsewhere;
mod expired;
mod far_behind;
mod follower;
mod letters;
mod limits;
mod long_log;
mod page;
mod poison;
mod replaced;
mod resume;
mod sight;
mod silent;
mod slow;
mod unread;

use chat4all_domain::UserId;
use serde_json::json;

use crate::journeys::system::System;

fn user(sub: &str) -> UserId {
    UserId::derive("chat4all", sub)
}

/// A group of this user and ben, with nobody outside.
async fn of_users(system: &System, token: &str) -> String {
    let body = json!({"kind": "group", "participants": [{"user_id": user("ben")}]});
    let group = system.posted(token, "/v1/conversations", &body, 201).await;
    group["conversation_id"].as_str().unwrap().to_owned()
}
