use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::request::PartyBody;

fn document() -> Value {
    let (_, document) = routes().split_for_parts();
    serde_json::from_str(&document.to_json().unwrap()).unwrap()
}

fn operation<'a>(document: &'a Value, method: &str, path: &str) -> &'a Value {
    let operation = &document["paths"][path][method];
    assert!(
        operation.is_object(),
        "{method} {path} is not in the document"
    );
    operation
}

#[test]
fn the_document_is_openapi_3_1_and_has_every_route() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let routes: Vec<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .keys()
                .map(move |method| format!("{method} {path}"))
        })
        .collect();
    insta::assert_snapshot!(routes.join("\n"));
}

/// Every `$ref` leads somewhere: what is named in an answer is described.
#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    found.push(to.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let (document, mut found) = (document(), Vec::new());
    references(&document, &mut found);
    assert!(found.len() > 20, "only {} references", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
}

#[test]
fn every_route_wants_a_token_and_may_answer_with_each_common_problem() {
    let document = document();
    assert_eq!(document["security"][0]["bearer"], serde_json::json!([]));
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            for status in ["400", "401", "403", "413", "422", "503"] {
                assert!(
                    operation["responses"][status].is_object(),
                    "{status} of {operation}"
                );
            }
        }
    }
}

#[track_caller]
fn request<T: DeserializeOwned>(document: &Value, method: &str, path: &str) {
    let content = &operation(document, method, path)["requestBody"]["content"]["application/json"];
    let mut examples: Vec<&Value> = content.get("example").into_iter().collect();
    if let Some(named) = content.get("examples") {
        examples.extend(
            named
                .as_object()
                .unwrap()
                .values()
                .map(|example| &example["value"]),
        );
    }
    assert!(!examples.is_empty(), "{method} {path} has no example");
    for example in examples {
        if let Err(error) = serde_json::from_value::<T>(example.clone()) {
            panic!("{method} {path}: {error}: {example}");
        }
    }
}

#[track_caller]
fn response<T: DeserializeOwned>(document: &Value, method: &str, path: &str, status: &str) {
    let response = &operation(document, method, path)["responses"][status];
    let example = &response["content"]["application/json"]["example"];
    if let Err(error) = serde_json::from_value::<T>(example.clone()) {
        panic!("{method} {path} {status}: {error}: {example}");
    }
}

#[test]
fn every_example_is_what_the_code_reads_and_writes() {
    let document = document();
    request::<send_message::SendMessage>(&document, "post", "/v1/messages");
    response::<send_message::MessageAccepted>(&document, "post", "/v1/messages", "202");
    let conversations = "/v1/conversations";
    request::<start_conversation::StartConversation>(&document, "post", conversations);
    response::<start_conversation::Conversation>(&document, "post", conversations, "201");
    let participants = "/v1/conversations/{conversation_id}/participants";
    request::<PartyBody>(&document, "post", participants);
    response::<add_participant::ParticipantAdded>(&document, "post", participants, "200");
    let participant = "/v1/conversations/{conversation_id}/participants/{participant_id}";
    response::<remove_participant::ParticipantRemoved>(&document, "delete", participant, "200");
    let read = "/v1/conversations/{conversation_id}/read";
    request::<mark_read::MarkRead>(&document, "post", read);
    response::<mark_read::ReadUpTo>(&document, "post", read, "200");
}
