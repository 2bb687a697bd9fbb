//! The accounts we have at providers, and what a request may call them.

use std::collections::BTreeMap;

use chat4all_domain::{AccountId, ChannelKind};
use chat4all_service::config::Channel;

/// Every account, by id.
#[derive(Clone, Debug, Default)]
pub struct Accounts(BTreeMap<AccountId, ChannelKind>);

/// No account goes by that name. Says which names there are, and does not repeat the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownChannel {
    /// There are others.
    #[error("is not a channel here; expected one of {}", .0.join(", "))]
    Expected(Vec<String>),
    /// There is none at all.
    #[error("is not a channel here; none is configured")]
    NoneConfigured,
}

impl Accounts {
    /// From ids and kinds.
    pub fn new(accounts: impl IntoIterator<Item = (AccountId, ChannelKind)>) -> Self {
        Self(accounts.into_iter().collect())
    }

    /// Those of `[channels.<id>]`.
    ///
    /// # Panics
    /// If an id is not an account id; the configuration has checked that.
    pub fn configured(channels: &BTreeMap<String, Channel>) -> Self {
        Self::new(channels.iter().map(|(id, channel)| {
            let id = id.parse().expect("the configuration has checked the ids");
            let kind = match channel {
                Channel::WhatsApp(_) => ChannelKind::WhatsApp,
            };
            (id, kind)
        }))
    }

    /// The account that `name` means: its id, or its kind where that has exactly one account.
    ///
    /// # Errors
    /// [`UnknownChannel`] lists the names that would do.
    pub fn resolve(&self, name: &str) -> Result<(AccountId, ChannelKind), UnknownChannel> {
        if let Some((id, kind)) = self.0.iter().find(|(id, _)| id.as_str() == name) {
            return Ok((id.clone(), *kind));
        }
        name.parse()
            .ok()
            .and_then(|kind| self.only(kind))
            .ok_or_else(|| self.unknown())
    }

    /// The account of `kind`, if there is exactly one.
    fn only(&self, kind: ChannelKind) -> Option<(AccountId, ChannelKind)> {
        let mut of_kind = self.0.iter().filter(|(_, other)| **other == kind);
        match (of_kind.next(), of_kind.next()) {
            (Some((id, _)), None) => Some((id.clone(), kind)),
            (Some(_), Some(_)) | (None, _) => None,
        }
    }

    fn unknown(&self) -> UnknownChannel {
        if self.0.is_empty() {
            return UnknownChannel::NoneConfigured;
        }
        let kinds = ChannelKind::ALL.into_iter();
        let kinds = kinds
            .filter(|kind| self.only(*kind).is_some())
            .map(|kind| kind.to_string());
        let quoted = |name: String| format!("`{name}`");
        UnknownChannel::Expected(
            self.0
                .keys()
                .map(ToString::to_string)
                .chain(kinds)
                .map(quoted)
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(ids: &[&str]) -> Accounts {
        Accounts::new(
            ids.iter()
                .map(|id| (id.parse().unwrap(), ChannelKind::WhatsApp)),
        )
    }

    fn resolved(accounts: &Accounts, name: &str) -> Result<String, String> {
        let found = accounts.resolve(name);
        found
            .map(|(id, _)| id.to_string())
            .map_err(|unknown| unknown.to_string())
    }

    #[test]
    fn a_kind_will_do_while_it_has_one_account() {
        let one = accounts(&["whatsapp-main"]);
        assert_eq!(resolved(&one, "whatsapp"), Ok("whatsapp-main".to_owned()));
        assert_eq!(
            resolved(&one, "whatsapp-main"),
            Ok("whatsapp-main".to_owned())
        );
        let two = accounts(&["whatsapp-main", "whatsapp-shop"]);
        assert_eq!(
            resolved(&two, "whatsapp-shop"),
            Ok("whatsapp-shop".to_owned())
        );
        assert_eq!(
            resolved(&two, "whatsapp"),
            Err(
                "is not a channel here; expected one of `whatsapp-main`, `whatsapp-shop`"
                    .to_owned()
            )
        );
    }

    #[test]
    fn an_account_that_is_called_like_its_kind_is_meant_first() {
        let two = accounts(&["whatsapp", "whatsapp-shop"]);
        assert_eq!(resolved(&two, "whatsapp"), Ok("whatsapp".to_owned()));
    }

    #[test]
    fn an_unknown_name_is_told_what_there_is_and_not_repeated() {
        assert_eq!(
            resolved(&accounts(&["main"]), "+4915112345678"),
            Err("is not a channel here; expected one of `main`, `whatsapp`".to_owned())
        );
        assert_eq!(
            resolved(&accounts(&[]), "whatsapp"),
            Err("is not a channel here; none is configured".to_owned())
        );
    }
}
