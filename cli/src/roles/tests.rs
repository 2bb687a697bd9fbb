use chat4all_service::config::Sources;

use super::*;

/// Nobody answers anywhere.
const NOWHERE: &str = "
[nats]
url = 'nats://127.0.0.1:1'
monitor_url = 'http://127.0.0.1:1'
[postgres]
url = 'postgres://nobody@127.0.0.1:1/nothing'
[auth]
hs256_secret = 'a-signing-secret-of-enough-characters'
[ids]
secret = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'
";

#[tokio::test]
async fn no_role_is_ready_before_it_listens() {
    let sources = Sources::new().with_file("chat4all.toml", NOWHERE);
    let config = Config::load(&sources).unwrap().config;
    for role in [
        Role::All,
        Role::CommandApi,
        Role::Projector,
        Role::QueryApi,
        Role::Bridges,
    ] {
        let prepared = prepare(role, &config, &Shutdown::new()).await.unwrap();
        let report = prepared.checks.report().await;
        assert!(!report.ready(), "{role:?}: {report:?}");
        let nats = report.needed.get("nats");
        assert_eq!(nats.is_some(), role.needs_the_log(), "{role:?}");
        assert!(nats.is_none_or(Result::is_err), "{role:?}: {nats:?}");
    }
}
