//! How a rebuild ended: in words, or as one JSON object.

use chat4all_postgres::rebuild::compare::{Comparison, Difference, How};
use chat4all_projector::rebuild::Outcome;
use serde_json::{Value, json};

use super::report::Report;
use crate::tool::{Unheard, say};

pub(super) fn tell(outcome: &Outcome, report: &Report, as_json: bool) -> Result<(), Unheard> {
    if as_json {
        return say(json(outcome, report));
    }
    match outcome {
        Outcome::Compared(comparison) => {
            folded(report)?;
            compared(comparison)
        }
        Outcome::Refused(comparison) => {
            folded(report)?;
            compared(comparison)?;
            say(
                "refused      the live tables stay as they are. If what the log says is right, run it again with \
                 --accept-differences",
            )
        }
        Outcome::Swapped(swapped) => {
            folded(report)?;
            compared(&swapped.comparison)?;
            if !swapped.compared_to_the_end && swapped.comparison.is_equal() {
                say("not compared what was written between the comparison and the swap")?;
            }
            say(format_args!(
                "swapped      the new tables are live; projectors waited {} ms",
                swapped.held.as_millis()
            ))?;
            if let Some(error) = &swapped.left_behind {
                say(format_args!(
                    "left behind  the old tables could not be put away ({error}); the next rebuild drops them"
                ))?;
            }
            Ok(())
        }
        Outcome::DoneByAnother => {
            say("done         somebody else has just rebuilt them; there is nothing left to do")
        }
        Outcome::Stopped => say("stopped      the live tables stay as they are"),
    }
}

fn folded(report: &Report) -> Result<(), Unheard> {
    say(format_args!(
        "folded       {} events; {:.1} s altogether",
        report.folded(),
        report.took().as_secs_f64()
    ))
}

fn compared(comparison: &Comparison) -> Result<(), Unheard> {
    for table in &comparison.tables {
        let (name, rows, differing) = (&table.name, table.rows, table.differing);
        if differing == 0 {
            say(format_args!("equal        {name}: {rows} rows"))?;
            continue;
        }
        say(format_args!(
            "differs      {name}: {differing} of {rows} rows"
        ))?;
        for difference in &table.differences {
            say(format_args!(
                "               {name} ({}): {}",
                difference.key,
                how(difference)
            ))?;
        }
        let more = differing - table.differences.len() as u64;
        if more > 0 {
            say(format_args!("               and {more} more"))?;
        }
    }
    Ok(())
}

fn how(difference: &Difference) -> String {
    match &difference.how {
        How::Missing => "missing in the live table".to_owned(),
        How::Extra => "only in the live table; nothing on the log says so".to_owned(),
        How::Columns(columns) => format!("other {}", columns.join(", ")),
    }
}

fn json(outcome: &Outcome, report: &Report) -> Value {
    let (word, comparison) = match outcome {
        Outcome::Compared(comparison) => ("compared", Some(comparison)),
        Outcome::Refused(comparison) => ("refused", Some(comparison)),
        Outcome::Swapped(swapped) => ("swapped", Some(&swapped.comparison)),
        Outcome::DoneByAnother => ("done_by_another", None),
        Outcome::Stopped => ("stopped", None),
    };
    let mut json = json!({
        "outcome": word,
        "events": report.folded(),
        "seconds": report.took().as_secs_f64(),
        "equal": comparison.map(Comparison::is_equal),
        "tables": comparison.map(tables),
    });
    if let Outcome::Swapped(swapped) = outcome {
        json["compared_to_the_end"] = json!(swapped.compared_to_the_end);
        json["held_ms"] = json!(swapped.held.as_millis() as u64);
        json["left_behind"] = json!(swapped.left_behind.is_some());
    }
    json
}

fn tables(comparison: &Comparison) -> Vec<Value> {
    let difference = |difference: &Difference| {
        let columns = match &difference.how {
            How::Columns(columns) => columns.as_slice(),
            How::Missing | How::Extra => &[],
        };
        let kind = match &difference.how {
            How::Missing => "missing",
            How::Extra => "extra",
            How::Columns(_) => "other",
        };
        json!({ "key": difference.key, "kind": kind, "columns": columns })
    };
    let each = comparison.tables.iter();
    each.map(|table| {
        let differences: Vec<_> = table.differences.iter().map(difference).collect();
        json!({ "table": table.name, "rows": table.rows, "differing": table.differing, "differences": differences })
    })
    .collect()
}
