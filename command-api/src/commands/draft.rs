//! A message that somebody wants to send, understood and named, but not yet decided. Pure.

use std::time::Duration;

use chat4all_domain::conversation::{Present, Who};
use chat4all_domain::message::{self, Accept, Content, Origin, Recipient, Standing};
use chat4all_domain::{
    ChannelKind, Conversation, ConversationId, Fingerprint, IdSecret, ParticipantId, Text,
    Timestamp, UserId,
};
use serde::Serialize;

use crate::request::Party;

/// What is to be sent, by whom, under which name.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub id: message::Id,
    pub author: UserId,
    pub text: Text,
    /// The address that was named instead of a conversation.
    pub to: Option<Party>,
    pub fingerprint: Fingerprint,
}

/// Why it cannot be sent, as far as the conversation that was looked at tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The author is not in the conversation, or there is none.
    NotAParticipant,
    /// A recipient's channel does not carry that much.
    TooLong { kind: ChannelKind },
    /// Somebody outside has no address: history is broken.
    NoAddress,
}

impl Draft {
    /// The command, as this state of the conversation has it.
    pub fn command(
        &self,
        conversation: &Conversation,
        at: Timestamp,
        valid_for: Duration,
    ) -> Result<message::Command, Refusal> {
        let author = conversation
            .participant_of(self.author)
            .ok_or(Refusal::NotAParticipant)?;
        let mut recipients = Vec::new();
        for (participant, present) in conversation.present() {
            let Some(recipient) = recipient(participant, present)? else {
                continue;
            };
            self.fits(recipient.kind)?;
            recipients.push(recipient);
        }
        Ok(message::Command::Accept(Accept {
            origin: Origin::Api,
            author,
            standing: Standing::Participant,
            content: Content::Text {
                text: self.text.clone(),
            },
            provider_id: None,
            fingerprint: self.fingerprint,
            recipients,
            at,
            valid_for,
        }))
    }

    /// Whether a channel of `kind` carries the text.
    pub fn fits(&self, kind: ChannelKind) -> Result<(), Refusal> {
        if self.text.chars() <= kind.max_text_chars() {
            Ok(())
        } else {
            Err(Refusal::TooLong { kind })
        }
    }
}

/// Users read here and get no delivery.
fn recipient(participant: ParticipantId, present: &Present) -> Result<Option<Recipient>, Refusal> {
    match &present.who {
        Who::User { .. } => Ok(None),
        Who::Contact { kind, account, .. } => {
            let address = present.address.clone().ok_or(Refusal::NoAddress)?;
            let (kind, account) = (*kind, account.clone());
            Ok(Some(Recipient {
                participant,
                kind,
                account,
                address,
            }))
        }
    }
}

/// What makes two requests under one id the same: the conversation and what is said in it, however it was named.
///
/// The text of this lasts as long as the log. A field that is added must be left out where it has its old meaning.
#[derive(Serialize)]
struct Canonical<'a> {
    conversation: ConversationId,
    content: CanonicalContent<'a>,
}

#[derive(Serialize)]
struct CanonicalContent<'a> {
    r#type: &'static str,
    text: &'a str,
}

/// The fingerprint of a text that `author` sends to `conversation`.
pub(super) fn fingerprint(
    secret: &IdSecret,
    author: UserId,
    conversation: ConversationId,
    text: &Text,
) -> Fingerprint {
    secret.fingerprint(author, &canonical(conversation, text))
}

fn canonical(conversation: ConversationId, text: &Text) -> String {
    let content = CanonicalContent {
        r#type: "text",
        text: text.reveal(),
    };
    serde_json::to_string(&Canonical {
        conversation,
        content,
    })
    .expect("ids and text are JSON")
}

#[cfg(test)]
mod tests;
