use crate::event::Event as _;
use crate::reader::{Command, Event, ReadUpTo, Reader};
use crate::spec::{self, Given, assert_event_on_the_log, at, message};

fn given(history: impl IntoIterator<Item = Event>) -> Given<Reader> {
    spec::given(history)
}

fn read(number: u128, sequence: u64) -> Event {
    let facts = ReadUpTo {
        message: message(number),
        sequence,
        occurred_at: at(1),
    };
    Event::ReadUpTo { facts }
}

fn read_up_to(number: u128, sequence: u64) -> Command {
    Command::ReadUpTo {
        message: message(number),
        sequence,
        at: at(1),
    }
}

#[test]
fn the_mark_moves_forward() {
    given([])
        .when(read_up_to(1, 7))
        .then([read(1, 7)])
        .when(read_up_to(2, 9))
        .then([read(2, 9)]);
}

#[test]
fn the_same_mark_again_changes_nothing() {
    given([read(1, 7)]).when(read_up_to(1, 7)).then_nothing();
}

#[test]
fn a_mark_that_is_behind_changes_nothing() {
    given([read(2, 9)]).when(read_up_to(1, 7)).then_nothing();
}

#[test]
fn there_is_nothing_to_read_before_the_first_message() {
    given([]).when(read_up_to(1, 0)).then_nothing();
}

#[test]
fn an_older_mark_on_the_log_does_not_take_it_back() {
    let reader = given([read(2, 9), read(1, 7)]);
    assert_eq!(reader.state().up_to, 9);
}

#[test]
fn it_stands_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &read(1, 7),
        r#"{"type":"ReadUpTo","facts":{"message":"000000e5-0000-0000-0000-000000000001",
            "sequence":7,"occurred_at":"2026-11-22T04:00:01.000Z"}}"#,
    );
    assert_eq!(Event::TYPES, [("ReadUpTo", 1)]);
    assert_eq!(read(1, 7).name(), "ReadUpTo");
}

#[test]
fn commands_are_named_in_logs() {
    assert_eq!(read_up_to(1, 7).name(), "ReadUpTo");
}
