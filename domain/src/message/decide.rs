use crate::message::{
    Accept, Accepted, AcceptedPersonal, Command, Event, Id, Message, PlannedDelivery, Rejection,
    Standing,
};

impl Message {
    /// What `command` means for this message now. Same inputs, same answer.
    ///
    /// # Errors
    /// A [`Rejection`]. Whether the message exists already is looked at first: somebody who has left meanwhile still
    /// gets the old answer.
    pub fn decide(&self, command: &Command) -> Result<Vec<Event>, Rejection> {
        match (self, command) {
            (Self::Accepted { fingerprint, .. }, Command::Accept(accept)) => {
                if *fingerprint == accept.fingerprint {
                    Ok(vec![])
                } else {
                    Err(Rejection::DifferentContent)
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
    let planned = accept.recipients.iter().map(|recipient| PlannedDelivery {
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
            addresses: accept
                .recipients
                .iter()
                .map(|recipient| recipient.address.clone())
                .collect(),
            provider_id: accept.provider_id.clone(),
        },
    }
}

crate::event::aggregate!(Message, Id, Command, Event, Rejection, "message");
