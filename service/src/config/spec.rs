//! What one setting accepts, what holds when nothing is set, and how it is shown.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::raw::Raw;
use super::types::{Milliseconds, Seconds};

/// What is shown in place of a secret.
pub(crate) const HIDDEN: &str = "***";

type Parse<T> = Box<dyn Fn(&Raw) -> Option<T>>;
type Show<T> = Box<dyn Fn(&T) -> Value>;

/// One setting.
pub(crate) struct Spec<T> {
    /// What would be right, to follow "expected".
    pub expected: Cow<'static, str>,
    /// `None`: it must be set.
    pub default: Option<T>,
    /// Never repeated in a report.
    pub secret: bool,
    pub parse: Parse<T>,
    pub show: Show<T>,
}

impl<T: 'static> Spec<T> {
    fn new(
        expected: impl Into<Cow<'static, str>>,
        parse: impl Fn(&Raw) -> Option<T> + 'static,
        show: impl Fn(&T) -> Value + 'static,
    ) -> Self {
        Self {
            expected: expected.into(),
            default: None,
            secret: false,
            parse: Box::new(parse),
            show: Box::new(show),
        }
    }

    /// What holds when nothing is set.
    pub fn or(mut self, default: impl Into<T>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// May be left out, and then there is none.
    pub fn optional(self) -> Spec<Option<T>> {
        let (parse, show) = (self.parse, self.show);
        Spec {
            expected: self.expected,
            default: Some(None),
            secret: self.secret,
            parse: Box::new(move |raw| parse(raw).map(Some)),
            show: Box::new(move |value| value.as_ref().map_or(Value::Null, &show)),
        }
    }

    fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// A whole number between two bounds, both included.
pub(crate) fn whole(least: u64, most: u64) -> Spec<u64> {
    let expected = format!("a whole number from {least} to {most}");
    Spec::new(
        expected,
        move |raw| raw.whole().filter(|n| (least..=most).contains(n)),
        |n| Value::from(*n),
    )
}

/// A size that fits in memory, in whatever its name says.
pub(crate) fn count(least: u32, most: u32) -> Spec<usize> {
    let inner = whole(least.into(), most.into());
    Spec::new(
        inner.expected,
        move |raw| (inner.parse)(raw).and_then(|n| usize::try_from(n).ok()),
        |n| Value::from(*n),
    )
}

/// A number of milliseconds, at least one.
pub(crate) fn milliseconds(most: u64) -> Spec<Milliseconds> {
    Spec::new(
        format!("a whole number of milliseconds from 1 to {most}"),
        move |raw| {
            raw.whole()
                .filter(|n| (1..=most).contains(n))
                .map(Milliseconds)
        },
        |n| Value::from(n.0),
    )
}

/// A number of seconds, at least one.
pub(crate) fn seconds(most: u64) -> Spec<Seconds> {
    Spec::new(
        format!("a whole number of seconds from 1 to {most}"),
        move |raw| raw.whole().filter(|n| (1..=most).contains(n)).map(Seconds),
        |n| Value::from(n.0),
    )
}

/// Several numbers of milliseconds: a list in the file, commas in a variable.
pub(crate) fn schedule() -> Spec<Vec<Milliseconds>> {
    Spec::new(
        "one or more whole numbers of milliseconds, such as 1000,5000,30000",
        |raw| {
            let waits: Option<Vec<_>> = raw
                .items()?
                .iter()
                .map(|item| item.whole().map(Milliseconds))
                .collect();
            waits.filter(|waits| !waits.is_empty())
        },
        |waits| waits.iter().map(|wait| wait.0).collect(),
    )
}

/// A share between nothing and everything.
pub(crate) fn ratio() -> Spec<f64> {
    Spec::new(
        "a number from 0 to 1",
        |raw| raw.number().filter(|n| (0.0..=1.0).contains(n)),
        |n| Value::from(*n),
    )
}

/// One of a few words.
pub(crate) fn one_of<T: Copy + PartialEq + 'static>(
    words: &'static [(&'static str, T)],
) -> Spec<T> {
    let quoted: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    Spec::new(
        quoted.join(" or "),
        move |raw| {
            let text = raw.plain()?;
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
        },
        move |value| {
            words
                .iter()
                .find(|(_, known)| known == value)
                .map_or(Value::Null, |(word, _)| Value::from(*word))
        },
    )
}

/// One of a few numbers.
pub(crate) fn one_number_of(numbers: &'static [u32]) -> Spec<usize> {
    let words: Vec<_> = numbers.iter().map(u32::to_string).collect();
    Spec::new(
        words.join(" or "),
        |raw| {
            let n = u32::try_from(raw.whole()?)
                .ok()
                .filter(|n| numbers.contains(n))?;
            usize::try_from(n).ok()
        },
        |n| Value::from(*n),
    )
}

/// Text that is not blank.
pub(crate) fn text(expected: &'static str) -> Spec<String> {
    checked_text(expected, |_| true)
}

/// Text that a function finds right.
pub(crate) fn checked_text(expected: &'static str, right: fn(&str) -> bool) -> Spec<String> {
    Spec::new(
        expected,
        move |raw| {
            raw.plain()
                .filter(|text| !text.trim().is_empty() && right(text))
        },
        |text| Value::from(text.as_str()),
    )
}

/// Anything that has a text form of its own.
pub(crate) fn parsed<T: FromStr + Display + 'static>(expected: &'static str) -> Spec<T> {
    Spec::new(
        expected,
        |raw| raw.plain()?.parse().ok(),
        |value: &T| Value::from(value.to_string()),
    )
}

/// The path of a file.
pub(crate) fn path(expected: &'static str) -> Spec<PathBuf> {
    Spec::new(
        expected,
        |raw| {
            raw.plain()
                .filter(|text| !text.is_empty())
                .map(PathBuf::from)
        },
        |path| Value::from(path.to_string_lossy()),
    )
}

/// An address of one of the schemes, without user and password.
pub(crate) fn address(expected: &'static str, schemes: &'static [&'static str]) -> Spec<Url> {
    Spec::new(
        expected,
        move |raw| url_of(&raw.plain()?, schemes),
        |url| Value::from(url.as_str()),
    )
}

/// Addresses of one of the schemes, divided by commas, without user and password.
pub(crate) fn addresses(
    expected: &'static str,
    schemes: &'static [&'static str],
) -> Spec<Vec<Url>> {
    Spec::new(
        expected,
        move |raw| {
            raw.items()?
                .iter()
                .map(|item| url_of(&item.plain()?, schemes))
                .collect()
        },
        |urls: &Vec<Url>| urls.iter().map(Url::as_str).collect(),
    )
}

fn url_of(text: &str, schemes: &[&str]) -> Option<Url> {
    let url: Url = text.trim().parse().ok()?;
    let anonymous = url.username().is_empty() && url.password().is_none();
    (schemes.contains(&url.scheme()) && url.has_host() && anonymous).then_some(url)
}

/// A secret that a function finds right.
pub(crate) fn secret(expected: &'static str, right: fn(&str) -> bool) -> Spec<SecretString> {
    Spec::new(
        expected,
        move |raw| {
            raw.plain()
                .filter(|text| right(text))
                .map(SecretString::from)
        },
        |_| Value::from(HIDDEN),
    )
    .secret()
}

/// The address of a database, shown without its password.
pub(crate) fn database(expected: &'static str) -> Spec<SecretString> {
    let right = |text: &str| {
        text.parse::<Url>().is_ok_and(|url| {
            ["postgres", "postgresql"].contains(&url.scheme()) && url.path().len() > 1
        })
    };
    let mut spec = secret(expected, right);
    spec.show = Box::new(|url| Value::from(without_password(url.expose_secret())));
    spec
}

/// The address with its password hidden, also where a password is a parameter.
pub(crate) fn without_password(text: &str) -> String {
    let Ok(mut url) = text.parse::<Url>() else {
        return HIDDEN.to_owned();
    };
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return HIDDEN.to_owned();
    }
    let hidden: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| match name.as_ref() {
            "password" | "sslpassword" => (name.into_owned(), HIDDEN.to_owned()),
            _ => (name.into_owned(), value.into_owned()),
        })
        .collect();
    if !hidden.is_empty() {
        url.query_pairs_mut().clear().extend_pairs(hidden);
    }
    url.into()
}
