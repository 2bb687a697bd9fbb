//! One value as somebody wrote it, before a setting has made its type of it.

use config::ValueKind;

/// What was written, before a setting has made its type of it.
pub(crate) enum Raw {
    Text(String),
    Whole(i128),
    Number(f64),
    Flag(bool),
    List(Vec<Raw>),
    Nothing,
}

impl Raw {
    pub fn of(kind: ValueKind) -> Self {
        match kind {
            ValueKind::Nil => Self::Nothing,
            ValueKind::Boolean(flag) => Self::Flag(flag),
            ValueKind::I64(n) => Self::Whole(n.into()),
            ValueKind::I128(n) => Self::Whole(n),
            ValueKind::U64(n) => Self::Whole(n.into()),
            ValueKind::U128(n) => i128::try_from(n).map_or(Self::Nothing, Self::Whole),
            ValueKind::Float(n) => Self::Number(n),
            ValueKind::String(text) => Self::Text(text),
            ValueKind::Array(items) => {
                Self::List(items.into_iter().map(|item| Self::of(item.kind)).collect())
            }
            ValueKind::Table(_) => Self::Nothing,
        }
    }

    /// As a whole number, also from text.
    pub fn whole(&self) -> Option<u64> {
        match self {
            Self::Whole(n) => u64::try_from(*n).ok(),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Number(_) | Self::Flag(_) | Self::List(_) | Self::Nothing => None,
        }
    }

    /// As a number, also from text.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Whole(_) => self
                .whole()
                .and_then(|n| u32::try_from(n).ok())
                .map(f64::from),
            Self::Flag(_) | Self::List(_) | Self::Nothing => None,
        }
    }

    /// As text: a whole number in the file is taken for its digits.
    pub fn plain(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Whole(n) => Some(n.to_string()),
            Self::Number(_) | Self::Flag(_) | Self::List(_) | Self::Nothing => None,
        }
    }

    /// As a list: commas divide a text.
    pub fn items(&self) -> Option<Vec<Raw>> {
        match self {
            Self::Text(text) => Some(
                text.split(',')
                    .map(|item| Self::Text(item.trim().to_owned()))
                    .collect(),
            ),
            Self::Whole(n) => Some(vec![Self::Whole(*n)]),
            Self::List(items) => items
                .iter()
                .map(|item| item.plain().map(Self::Text))
                .collect(),
            Self::Number(_) | Self::Flag(_) | Self::Nothing => None,
        }
    }

    /// For a report: what was found. Never call it for a secret. Text with an @ may be an address with a password, and is not shown either.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) if text.contains('@') => "text with an @ (not shown)".to_owned(),
            Self::Text(text) => {
                let short: String = text.chars().take(80).collect();
                let rest = if short.len() < text.len() { "…" } else { "" };
                format!("\"{}\"{rest}", short.escape_debug())
            }
            Self::Whole(n) => n.to_string(),
            Self::Number(n) => n.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Nothing => "nothing".to_owned(),
        }
    }
}
