//! Subjects are pure functions of ids: `chat.evt.<pp>.<path>`. Nothing that can change stands in one.

use chat4all_domain::{
    AggregateId, ConversationId, Partition, PartitionCount, delivery, message, reader,
};

/// What every event's subject starts with.
pub const EVENTS: &str = "chat.evt";

/// The subject of one aggregate: `chat.evt.07.message.<conversation>.<message>`.
pub fn of<I: AggregateId>(count: PartitionCount, id: &I) -> String {
    let partition = count.of(id.partition_key());
    format!("{EVENTS}.{partition}.{}", id.path())
}

/// Everything in one partition: `chat.evt.07.>`.
pub fn partition(partition: Partition) -> String {
    format!("{EVENTS}.{partition}.>")
}

/// Every aggregate of one type in one partition: `chat.evt.07.conversation.>`.
pub fn of_type(partition: Partition, aggregate: &str) -> String {
    format!("{EVENTS}.{partition}.{aggregate}.>")
}

/// Takes a subject apart: the partition, and the path that an [`AggregateId`] can be read from.
pub fn parse(subject: &str) -> Option<(Partition, &str)> {
    let (number, path) = subject
        .strip_prefix(EVENTS)?
        .strip_prefix('.')?
        .split_once('.')?;
    if number.len() != 2 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((Partition::new(number.parse().ok()?)?, path))
}

/// The conversation that a subject names: all but those of identities do.
pub fn conversation(subject: &str) -> Option<ConversationId> {
    let (_, path) = parse(subject)?;
    ConversationId::from_path(path)
        .or_else(|| message::Id::from_path(path).map(|id| id.conversation))
        .or_else(|| delivery::Id::from_path(path).map(|id| id.conversation))
        .or_else(|| reader::Id::from_path(path).map(|id| id.conversation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_says_partition_and_path_and_reads_back() {
        let count = PartitionCount::new(8).unwrap();
        let id: chat4all_domain::ConversationId =
            "0191e2f4-7c1e-7a3b-8f00-000000000001".parse().unwrap();
        let subject = of(count, &id);
        let (partition, path) = parse(&subject).unwrap();
        assert_eq!(partition, count.of(id.uuid()));
        assert_eq!(path, format!("conversation.{id}"));
        assert_eq!(chat4all_domain::ConversationId::from_path(path), Some(id));
        assert!(subject.starts_with("chat.evt.0"));
    }

    #[test]
    fn a_subject_says_which_conversation_it_is_about() {
        let id = "0191e2f4-7c1e-7a3b-8f00-000000000001";
        for path in [
            format!("conversation.{id}"),
            format!("message.{id}.{id}"),
            format!("delivery.whatsapp.{id}.{id}"),
            format!("reader.{id}.{id}"),
        ] {
            let found = conversation(&format!("chat.evt.07.{path}"));
            assert_eq!(found, Some(id.parse().unwrap()), "{path}");
        }
        for path in [
            format!("identity.{id}"),
            format!("planet.{id}"),
            format!("message.{id}"),
        ] {
            assert_eq!(conversation(&format!("chat.evt.07.{path}")), None, "{path}");
        }
    }

    #[test]
    fn what_is_not_an_event_subject_is_refused() {
        for subject in [
            "chat.evt",
            "chat.evt.1.x",
            "chat.evt.64.x",
            "chat.in.whatsapp",
            "chat.evt.+1.x",
        ] {
            assert_eq!(parse(subject), None, "{subject}");
        }
    }
}
