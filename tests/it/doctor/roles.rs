//! Roles that are there, and not as they should be.

use std::time::Duration;

use tokio::task::block_in_place;

use super::said::{Said, Variables, doctor, doctor_until, on, with};
use crate::live::alone::QueryApi;

const PATIENCE: Duration = Duration::from_secs(60);
/// Where nobody listens.
const NOBODY: &str = "nats://127.0.0.1:1";
const CHAPTER: &str = "Is everything up?";

#[test]
fn a_red_check_of_a_role_is_wrong_in_its_own_words() {
    let role = QueryApi::start(NOBODY);
    let variables = on(NOBODY.into(), "http://127.0.0.1:1".into());
    let arguments = ["--only", "roles", "--role", &role.base];
    let said = doctor_until(&variables, &arguments, PATIENCE, looked_into);
    let place = role.base.trim_start_matches("http://");
    let red = format!(
        "`query-api` on {place}, check `postgres`: Postgres does not answer: reads are 503"
    );
    said.has("wrong", "roles", &red, CHAPTER);
    assert_eq!(said.wrong("roles"), [red.as_str()]);
    assert_eq!(said.code, 1);

    // As a health check asks: whoever listens on `http.listen`.
    let here = with(&variables, "CHAT4ALL_HTTP__LISTEN", place);
    let said = doctor(&here, &["--only", "roles"]);
    said.has("wrong", "roles", &red, CHAPTER);
    assert_eq!(said.code, 1);
}

/// Of a system that is well otherwise, with these settings.
pub fn an_amber_check_is_a_notice(variables: &Variables) {
    let role = QueryApi::between(NOBODY, &variables["CHAT4ALL_POSTGRES__URL"]);
    let arguments = ["--only", "roles", "--role", &role.base];
    let said = block_in_place(|| doctor_until(variables, &arguments, PATIENCE, looked_into));
    let place = role.base.trim_start_matches("http://");
    let amber = format!("`query-api` on {place}, check `parked_inbound`: ");
    said.has("notice", "roles", &amber, CHAPTER);
    said.is_well();
}

/// Whether the role told of its checks.
fn looked_into(said: &Said) -> bool {
    said.answer.to_string().contains("check `parked_inbound`")
}
