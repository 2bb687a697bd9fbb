//! `chat4all token`: a bearer token for development, where no identity provider issues them.

use std::time::Duration;

use chat4all_domain::UserId;
use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::clock;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{Common, line};

/// Flags of `chat4all token`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  export CHAT4ALL_TOKEN=$(chat4all token --sub alice)
  chat4all token --sub bob --json | jq -r .user_id          what others name bob by
  chat4all token --sub auditor --scope conversations:read --scope conversations:read:all --ttl 8h

The secret and the issuer are those of the configuration (`auth`). Production tokens come from your identity provider.")]
pub struct TokenCommand {
    #[command(flatten)]
    common: Common,
    /// Whom it is for: the `sub` claim.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    sub: String,
    /// What it allows; may be repeated or separated by commas. Without it: writing and reading one's own.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', value_parser = parse_scope)]
    scopes: Vec<Scope>,
    /// How long it counts: a number and s, m, h or d.
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    ttl: Duration,
    /// Print JSON: `{"token": …, "expires_in_s": …, "user_id": …}`.
    #[arg(long)]
    json: bool,
}

/// Prints a token.
///
/// # Errors
/// The configuration is not complete.
pub async fn run(command: &TokenCommand) -> anyhow::Result<()> {
    let auth = command.common.load()?.config.auth;
    let own = [
        Scope::MessagesWrite,
        Scope::ConversationsWrite,
        Scope::ConversationsRead,
    ];
    let scopes = if command.scopes.is_empty() {
        &own[..]
    } else {
        &command.scopes
    };
    let grant = Grant {
        sub: &command.sub,
        scopes,
        ttl: command.ttl,
    };
    let token = mint(
        &auth.hs256_secret,
        &auth.issuer,
        auth.audience.as_deref(),
        &grant,
        clock::now(),
    );
    if command.json {
        let user = UserId::derive(&auth.issuer, &command.sub);
        line(serde_json::json!({
            "token": token, "expires_in_s": command.ttl.as_secs(), "user_id": user,
        }))?;
    } else {
        line(token)?;
    }
    Ok(())
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::ALL
        .iter()
        .copied()
        .find(|scope| scope.as_str() == text)
        .ok_or_else(|| {
            let known: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            format!(
                "there is no such scope; the scopes are {}",
                known.join(", ")
            )
        })
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let wrong = || "a time to live is a number and s, m, h or d, such as 30m".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(seconds) if (1..=366 * 86_400).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) | None => Err("a token lives for at least 1s and at most 366d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_has_a_unit_and_a_limit() {
        assert_eq!(parse_ttl("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_ttl("8h"), Ok(Duration::from_secs(28_800)));
        for bad in [
            "",
            "h",
            "0s",
            "1",
            "-1h",
            "1w",
            "367d",
            "99999999999999999999d",
            "1µ",
        ] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_scope_is_told_the_known_ones() {
        assert!(parse_scope("messages:write").is_ok());
        assert!(
            parse_scope("messages:erase")
                .unwrap_err()
                .contains("conversations:read:all")
        );
    }
}
