//! The labels that rules, their cases and the dashboard speak of, and the values of these.

use std::collections::BTreeSet;

use chat4all_command_api::Outcome;

use super::dashboards::{PROMETHEUS, cases, expressions, named_in};
use super::expressions::{Named, OF_OTHERS};
use super::files::{words, yaml};

/// What rules and dashboard divide or pick by, and what the rules' cases give a series, are labels that it has: of a label
/// that is not there all series are one, and nothing is picked.
pub fn are_on(page: &str) {
    let series: Vec<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(labelled)
        .collect();
    let jobs = yaml(PROMETHEUS);
    let relabelled = jobs["scrape_configs"][0]["relabel_configs"]
        .as_array()
        .unwrap();
    let relabelled = relabelled
        .iter()
        .map(|one| one["target_label"].as_str().unwrap());
    // Where a series comes from is added to it.
    let added: BTreeSet<_> = relabelled.chain(["job", "instance"]).collect();
    let mut looked_at = 0;
    for Named { metric, labels, .. } in named_in(&[expressions(), cases()].concat()) {
        for (_, has) in series.iter().filter(|(name, _)| *name == metric) {
            let mut labels = labels.iter().map(String::as_str);
            let lacks = labels.find(|label| !has.contains(label) && !added.contains(label));
            assert_eq!(lacks, None, "a label that {metric} has not: {has:?}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 50, "only {looked_at} series were looked at");
}

/// The name of a series on the page, and those of its labels.
fn labelled(line: &str) -> (&str, BTreeSet<&str>) {
    let (name, rest) = line.split_once(['{', ' ']).unwrap();
    let Some((labels, _)) = rest.rsplit_once('}') else {
        return (name, BTreeSet::new());
    };
    let labels = labels
        .split("\",")
        .map(|label| label.split_once('=').unwrap().0);
    (name, labels.collect())
}

#[test]
fn what_rules_and_dashboard_pick_are_values_that_there_are() {
    let picked: Vec<_> = named_in(&expressions())
        .into_iter()
        .filter(|one| !OF_OTHERS[1..].contains(&one.metric.as_str()))
        .flat_map(|one| {
            one.values
                .into_iter()
                .map(move |of| (one.metric.clone(), of))
        })
        .collect();
    assert!(picked.len() > 5, "{picked:?}");
    for (metric, (label, value)) in picked {
        let values = values(&metric, &label);
        let values = values.unwrap_or_else(|| panic!("{metric}: who knows the values of {label}?"));
        assert!(values.contains(&value), "{metric}: no {label} is {value}");
    }
    // The cases also give series what nobody picks.
    for Named {
        metric,
        values: given,
        ..
    } in named_in(&cases())
    {
        for (label, value) in given {
            if let Some(values) = values(&metric, &label) {
                assert!(values.contains(&value), "{metric}: no {label} is {value}");
            }
        }
    }
}

/// What may stand in a label, where the code or the configuration says it.
fn values(metric: &str, label: &str) -> Option<Vec<String>> {
    let jobs = yaml(PROMETHEUS);
    let jobs = jobs["scrape_configs"].as_array().unwrap();
    match (metric, label) {
        ("chat4all_commands_total", "outcome") => {
            let all = Outcome::ALL.iter();
            Some(all.map(|outcome| outcome.as_str().to_owned()).collect())
        }
        ("up", "job") => {
            let names = jobs.iter().map(|job| job["job_name"].as_str().unwrap());
            Some(names.map(str::to_owned).collect())
        }
        (_, "role") => Some(words(&jobs[0]["dns_sd_configs"][0]["names"])),
        _ => None,
    }
}
