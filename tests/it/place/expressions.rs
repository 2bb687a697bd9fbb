//! What an expression of rules or dashboard takes for granted: metrics, their labels, and values of these.

use std::collections::BTreeSet;
use std::ops::Range;

/// Metrics of others: Prometheus' own, and node-exporter's.
pub const OF_OTHERS: &[&str] = &[
    "up",
    "ALERTS",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
];

/// A metric where an expression names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub metric: String,
    /// Labels that it is picked or divided by.
    pub labels: BTreeSet<String>,
    /// Values that it is picked by, with their label.
    pub values: Vec<(String, String)>,
}

/// Every metric in `expression`. Of PromQL it knows what our expressions have: matchers in braces, and `by (…)` before what
/// is divided.
pub fn named(expression: &str) -> Vec<Named> {
    let divided = divided(expression);
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(c) = expression[at..].chars().next() {
        let rest = &expression[at..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        // What stands in braces and brackets are labels, values and times.
        let length = match c {
            '{' => rest.find('}').unwrap() + 1,
            '[' => rest.find(']').unwrap() + 1,
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        if is_metric(word) {
            let values = matchers(after);
            let picked = values.iter().map(|(label, _)| label.clone());
            let around = divided.iter().filter(|(span, _)| span.contains(&at));
            let by = around.flat_map(|(_, labels)| labels.clone());
            all.push(Named {
                metric: word.to_owned(),
                labels: picked.chain(by).collect(),
                values,
            });
        }
        at += length;
    }
    all
}

/// Not a function, a label, a value or a word of the language.
fn is_metric(word: &str) -> bool {
    word.starts_with("chat4all_") || word.starts_with("node_") || OF_OTHERS.contains(&word)
}

/// What is divided by labels, and by which.
fn divided(expression: &str) -> Vec<(Range<usize>, Vec<String>)> {
    for other in [" without", " on (", " ignoring", " group_"] {
        assert!(!expression.contains(other), "{other} is not understood");
    }
    let by = expression.match_indices(" by (");
    by.map(|(at, word)| {
        let (labels, rest) = expression[at + word.len()..].split_once(')').unwrap();
        let what = rest.trim_start();
        assert!(what.starts_with('('), "no `by` before {what}");
        let begins = expression.len() - what.len();
        let labels = labels.split(',').map(|label| label.trim().to_owned());
        (begins..begins + closing(what), labels.collect())
    })
    .collect()
}

/// Where the parenthesis ends that `text` begins with.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    let mut brackets = text.match_indices(['(', ')']);
    let end = brackets.find(|(_, bracket)| {
        depth += if *bracket == "(" { 1 } else { -1 };
        depth == 0
    });
    end.unwrap_or_else(|| panic!("no end in {text}")).0
}

/// `{label="value", other=~"one|another"}`, if that comes next: a pair for each value.
fn matchers(after: &str) -> Vec<(String, String)> {
    let inside = after
        .strip_prefix('{')
        .and_then(|rest| rest.split_once('}'));
    let Some((inside, _)) = inside else {
        return Vec::new();
    };
    let each = inside.split(',').flat_map(|matcher| {
        let (label, value) = matcher.split_once(['=', '!']).unwrap();
        let value = value
            .trim_start_matches(['=', '~'])
            .trim()
            .trim_matches('"');
        let values = value.split('|');
        values.map(|value| (label.trim().to_owned(), value.to_owned()))
    });
    each.collect()
}

#[test]
fn a_metric_is_named_with_the_labels_it_is_picked_and_divided_by() {
    let found =
        named(r#"sum by (a, b) (rate(chat4all_x_total{c=~"one|two", d!="3"}[5m])) / sum(up) > 0"#);
    let text = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
    let pair = |label: &str, value: &str| (label.to_owned(), value.to_owned());
    let x = Named {
        metric: "chat4all_x_total".into(),
        labels: text(&["a", "b", "c", "d"]),
        values: vec![pair("c", "one"), pair("c", "two"), pair("d", "3")],
    };
    let up = Named {
        metric: "up".into(),
        labels: BTreeSet::new(),
        values: Vec::new(),
    };
    assert_eq!(found, [x, up]);
}
