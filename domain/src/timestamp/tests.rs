use proptest::prelude::*;

use super::*;
use crate::spec::assert_same_in_json;

const FIRST: i64 = *Timestamp::RANGE_MS.start();
const LAST: i64 = *Timestamp::RANGE_MS.end();

fn read(text: &str) -> Result<i64, serde_json::Error> {
    serde_json::from_value::<Timestamp>(text.into()).map(Timestamp::unix_ms)
}

#[test]
fn a_moment_is_written_in_utc_with_three_digits() {
    let written = [0, 1, -1, 1_795_321_588_123, FIRST, LAST]
        .map(|ms| Timestamp::from_unix_ms(ms).to_string());
    assert_eq!(
        written,
        [
            "1970-01-01T00:00:00.000Z",
            "1970-01-01T00:00:00.001Z",
            "1969-12-31T23:59:59.999Z",
            "2026-11-22T04:26:28.123Z",
            "0000-01-01T00:00:00.000Z",
            "9999-12-31T23:59:59.999Z",
        ]
    );
    let debug = format!("{:?}", Timestamp::from_unix_ms(0));
    assert_eq!(debug, "1970-01-01T00:00:00.000Z");
}

#[test]
fn other_offsets_are_the_same_moment() {
    for text in [
        "2026-11-22T04:26:28.123Z",
        "2026-11-22T05:26:28.123+01:00",
        "2026-11-21T20:56:28.123-07:30",
    ] {
        assert_eq!(read(text).unwrap(), 1_795_321_588_123, "{text}");
    }
}

#[test]
fn finer_parts_of_a_millisecond_are_cut_off_towards_the_past() {
    assert_eq!(read("1970-01-01T00:00:00.0019999Z").unwrap(), 1);
    assert_eq!(read("1969-12-31T23:59:59.9999999Z").unwrap(), -1);
    assert_eq!(read("1969-12-31T23:59:59.9990001Z").unwrap(), -1);
    assert_eq!(read("1970-01-01T00:00:00Z").unwrap(), 0);
}

#[test]
fn what_is_not_a_moment_is_refused() {
    for text in [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T04:26:28",
        "2026-02-30T00:00:00Z",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn moments_beyond_the_calendar_are_clamped() {
    assert_eq!(Timestamp::from_unix_ms(i64::MIN).unix_ms(), FIRST);
    assert_eq!(Timestamp::from_unix_ms(i64::MAX).unix_ms(), LAST);
    let last = Timestamp::from_unix_ms(0).plus(Duration::MAX);
    assert_eq!(last.unix_ms(), LAST);
    assert_eq!(last.plus(Duration::from_millis(1)), last);
    // Local times at the edges of the calendar that are beyond it in UTC.
    assert_eq!(read("9999-12-31T23:59:59-01:00").unwrap(), LAST);
    assert_eq!(read("0000-01-01T00:00:00+01:00").unwrap(), FIRST);
}

proptest! {
    #[test]
    fn a_moment_is_read_back_from_its_text(ms in FIRST..=LAST) {
        let moment = Timestamp::from_unix_ms(ms);
        prop_assert_eq!(read(&moment.to_string()).unwrap(), ms);
        prop_assert_eq!(Timestamp::from(moment.to_datetime()), moment);
        assert_same_in_json(&moment);
    }

    #[test]
    fn text_sorts_like_time(a in FIRST..=LAST, b in FIRST..=LAST) {
        let (a, b) = (Timestamp::from_unix_ms(a), Timestamp::from_unix_ms(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn adding_is_counted_in_milliseconds(ms in -1_000_000..1_000_000_i64, add in 0..1_000_000_u64) {
        let later = Timestamp::from_unix_ms(ms).plus(Duration::from_millis(add));
        prop_assert_eq!(later.unix_ms(), ms + add as i64);
    }
}
