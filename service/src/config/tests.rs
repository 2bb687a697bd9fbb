use secrecy::ExposeSecret;
use serde_json::json;

use super::{Channel, Config, Error, Loaded, Milliseconds, Poison, Sources, Sync, reference};

const SECRETS: &str = "
[auth]
hs256_secret = 'a-signing-secret-of-enough-characters'
[ids]
secret = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'
";

const CHANNEL: &str = "
[channels.whatsapp-main]
kind = 'whatsapp'
phone_number_id = '106540352242922'
token = 'EAAG-token'
app_secret = 'app-secret-value'
verify_token = 'verify-token-value'
";

fn file(text: &str) -> Sources {
    Sources::new().with_file("chat4all.toml", format!("{text}{SECRETS}"))
}

#[track_caller]
fn load(sources: Sources) -> Loaded {
    Config::load(&sources).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn report(sources: Sources) -> String {
    let error = Config::load(&sources).expect_err("a mistake");
    assert!(matches!(error, Error::Mistakes(_)), "{error:?}");
    error.to_string()
}

#[test]
fn two_secrets_are_enough_and_everything_else_has_a_default() {
    let config = load(file("")).config;
    assert_eq!(config.nats.url[0].as_str(), "nats://127.0.0.1:4222");
    assert_eq!(config.nats.sync, Sync::Always);
    assert_eq!(config.log.partitions, 8);
    assert_eq!(config.http.body_limit_bytes, 256 * 1024);
    assert_eq!(config.bridges.unsure_wait_ms, Milliseconds(15_000));
    assert_eq!(config.projector.poison, Poison::Park);
    assert!(config.channels.is_empty());
}

#[test]
fn a_variable_wins_over_the_file_and_the_file_over_the_default() {
    let sources = file("[log]\npartitions = 4\ncached_states = 10\n")
        .with_variable("CHAT4ALL_LOG__PARTITIONS", "16");
    let loaded = load(sources);
    assert_eq!(loaded.config.log.partitions, 16);
    assert_eq!(loaded.config.log.cached_states, 10);
    let effective = loaded.effective().to_json();
    assert_eq!(
        effective["log.partitions"]["origin"],
        "CHAT4ALL_LOG__PARTITIONS"
    );
    assert_eq!(effective["log.cached_states"]["origin"], "chat4all.toml");
    assert_eq!(effective["nats.replicas"]["origin"], "default");
}

#[test]
fn a_secret_of_digits_stays_text_when_a_variable_sets_it() {
    let digits = "1".repeat(64);
    let config = load(file("").with_variable("CHAT4ALL_IDS__SECRET", &digits)).config;
    assert_eq!(config.ids.secret.expose_secret(), digits);
}

#[test]
fn a_variable_reaches_an_account_whose_id_has_a_hyphen() {
    let sources = file(CHANNEL).with_variable(
        "CHAT4ALL_CHANNELS__WHATSAPP_MAIN__TOKEN",
        "from the variable",
    );
    let config = load(sources).config;
    let Channel::WhatsApp(account) = &config.channels["whatsapp-main"];
    assert_eq!(account.token.expose_secret(), "from the variable");
    assert_eq!((account.concurrency, account.rate_per_s), (64, 80));
    assert_eq!(
        account.api_base.as_str(),
        "https://graph.facebook.com/v25.0"
    );
}

#[test]
fn lists_are_commas_in_a_variable_and_arrays_in_the_file() {
    let in_file = file("[bridges]\ntransient_schedule_ms = [10, 20]\n");
    let in_variable = file("").with_variable("CHAT4ALL_BRIDGES__TRANSIENT_SCHEDULE_MS", "10, 20");
    for sources in [in_file, in_variable] {
        let waits = load(sources).config.bridges.transient_schedule_ms;
        assert_eq!(waits, [Milliseconds(10), Milliseconds(20)]);
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let sources = Sources::new()
        .with_file(
            "chat4all.toml",
            "
[nats]
urll = 'nats://127.0.0.1:4222'
replicas = 2
sync = 'sometimes'
[log]
partitions = 'eight'
[auth]
hs256_secret = 'too short'
[bridges]
provider_timeout_ms = 30000
[channels.whatsapp-main]
kind = 'whatsapp'
phone_number_id = '+49 151'
[channels.fax]
kind = 'fax'
number = '1'
[weather]
today = true
",
        )
        .with_variable("CHAT4ALL_HTTP__LISTEN", "8080")
        .with_variable("CHAT4ALL_POSTGRES__URL", "mysql://root:hunter2@db/chat4all")
        .with_variable("CHAT4ALL_NATS__URL", "nats://admin:hunter2@127.0.0.1")
        .with_variable("CHAT4ALL_NATS_NAME", "one underscore")
        .with_variable("CHAT4ALL_CONFIG", "chat4all.toml")
        .with_variable("CHAT4ALL_TEST_SEED", "7");
    let report = report(sources);
    insta::assert_snapshot!(report);
    for secret in ["hunter2", "too short"] {
        assert!(!report.contains(secret), "a secret in the report");
    }
}

#[test]
fn timeouts_that_do_not_nest_are_refused_in_every_pair() {
    let sources = file(
        "
[http]
command_deadline_ms = 25000
request_timeout_ms = 20000
[bridges]
provider_timeout_ms = 30000
[nats]
user = 'u'
credentials_file = '/etc/chat4all/nats.creds'
[postgres]
acquire_timeout_ms = 20000
statement_timeout_ms = 20000
",
    );
    insta::assert_snapshot!(report(sources));
}

#[test]
fn two_accounts_cannot_have_one_number() {
    let second = CHANNEL.replace("whatsapp-main", "whatsapp-other");
    let report = report(file(&format!("{CHANNEL}{second}")));
    assert!(
        report.contains("channels.whatsapp-other.phone_number_id"),
        "{report}"
    );
    assert!(report.contains("`whatsapp-main`"), "{report}");
}

#[test]
fn an_account_without_settings_is_not_silently_left_out() {
    assert!(report(file("[channels.empty]\n")).contains("channels.empty"));
}

#[test]
fn a_file_that_is_not_toml_says_where_but_does_not_show_the_line() {
    let text = "[nats]\n[channels.main]\ntoken = EAAG-token\n";
    let error = Config::load(&file(text)).expect_err("not TOML");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("EAAG"), "{shown}");
    insta::assert_snapshot!(error);
}

#[test]
fn the_effective_configuration_hides_every_secret() {
    let url = "postgres://app:hunter2@db/chat4all?sslpassword=hunter3";
    let sources = file(CHANNEL).with_variable("CHAT4ALL_POSTGRES__URL", url);
    let loaded = load(sources);
    let (text, json) = (loaded.effective().to_string(), loaded.effective().to_json());
    let debug = format!("{:?}", loaded.config);
    for secret in [
        "hunter",
        "EAAG",
        "app-secret",
        "verify-token",
        "a-signing",
        "00112233",
    ] {
        for shown in [&text, &json.to_string(), &debug] {
            assert!(!shown.contains(secret), "`{secret}` is visible in {shown}");
        }
    }
    assert_eq!(json["ids.secret"]["value"], json!("***"));
    assert_eq!(
        json["postgres.url"]["value"],
        json!("postgres://app:***@db/chat4all?sslpassword=***")
    );
    assert!(text.contains("log.partitions "), "{text}");
}

#[test]
fn the_reference_page_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if std::env::var_os("CHAT4ALL_TEST_UPDATE").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == reference(),
        "docs/configuration.md is not what the code says; write it anew with \
         CHAT4ALL_TEST_UPDATE=1 and this test"
    );
}
