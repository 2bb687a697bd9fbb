use super::*;
use crate::request::testing::{read, told};

async fn understand(body: &str, planned: usize) -> Result<BTreeSet<u16>, Problem> {
    read::<Redrive>(body).await?.understand(planned)
}

#[tokio::test]
async fn what_is_not_named_means_all_and_numbers_are_those_of_the_message() {
    assert_eq!(understand("{}", 3).await.unwrap(), [0, 1, 2].into());
    assert_eq!(
        understand(r#"{"deliveries":null}"#, 1).await.unwrap(),
        [0].into()
    );
    let doubled = understand(r#"{"deliveries":[2,0,2]}"#, 3).await;
    assert_eq!(doubled.unwrap(), [0, 2].into());
    assert!(understand("{}", 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn every_mistake_is_named_with_its_place() {
    let mut all = String::new();
    for (body, planned) in [
        (r#"{"deliveries":[]}"#, 3),
        (r#"{"deliveries":[0,3,70000]}"#, 3),
        (r#"{"deliveries":[3,0,9]}"#, 3),
        (r#"{"deliveries":[0]}"#, 0),
        (r#"{"deliveries":"all"}"#, 3),
        (r#"{"delivery":[0]}"#, 3),
    ] {
        all.push_str(&told(body, understand(body, planned).await));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_wanted_numbers_are_grouped_by_the_kind_of_their_channel() {
    let whatsapp = PlannedDelivery {
        participant: chat4all_domain::ParticipantId::new(uuid::Uuid::nil()),
        kind: ChannelKind::WhatsApp,
        account: "whatsapp-main".parse().unwrap(),
    };
    let planned = vec![whatsapp; 3];
    let grouped = by_kind(&planned, &[0, 2].into());
    assert_eq!(grouped, [(ChannelKind::WhatsApp, vec![0, 2])].into());
}
