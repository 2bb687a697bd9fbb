use std::collections::BTreeSet;

use crate::message::{
    Accept, Accepted, AcceptedPersonal, Command, Event, Id, Message, PlannedDelivery, Recipient,
    Rejection, Standing,
};

impl Message {
    /// What `command` means for this message now. Same inputs, same answer.
    ///
    /// # Errors
    /// A [`Rejection`]. Whether the message exists already is looked at first: somebody who has left meanwhile still
    /// gets the old answer. Who is neither in the conversation nor the message's author does not learn that it exists.
    pub fn decide(&self, command: &Command) -> Result<Vec<Event>, Rejection> {
        match (self, command) {
            (
                Self::Accepted {
                    author,
                    fingerprint,
                    ..
                },
                Command::Accept(accept),
            ) => {
                let knows_of_it =
                    accept.standing == Standing::Participant || accept.author == *author;
                if *fingerprint == accept.fingerprint {
                    Ok(vec![])
                } else if knows_of_it {
                    Err(Rejection::DifferentContent)
                } else {
                    Err(Rejection::NotAParticipant)
                }
            }
            (Self::Absent, Command::Accept(accept)) => match accept.standing {
                Standing::Participant => Ok(vec![accepted(accept)]),
                Standing::Outsider => Err(Rejection::NotAParticipant),
            },
        }
    }
}

fn accepted(accept: &Accept) -> Event {
    // Each recipient once, and never the author: a second delivery would be a second message on their phone.
    let mut seen = BTreeSet::from([accept.author]);
    let recipients: Vec<&Recipient> = accept
        .recipients
        .iter()
        .filter(|recipient| seen.insert(recipient.participant))
        .collect();
    let planned = recipients.iter().map(|recipient| PlannedDelivery {
        participant: recipient.participant,
        kind: recipient.kind,
        account: recipient.account.clone(),
    });
    Event::Accepted {
        facts: Accepted {
            origin: accept.origin.clone(),
            author: accept.author,
            fingerprint: accept.fingerprint,
            deliveries: planned.collect(),
            occurred_at: accept.at,
            valid_until: accept.at.plus(accept.valid_for),
        },
        personal: AcceptedPersonal {
            content: accept.content.clone(),
            addresses: recipients
                .iter()
                .map(|recipient| recipient.address.clone())
                .collect(),
            provider_id: accept.provider_id.clone(),
        },
    }
}

crate::event::aggregate!(Message, Id, Command, Event, Rejection, "message");
