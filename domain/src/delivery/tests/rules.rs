//! One test per rule.

use super::*;
use crate::delivery::{Entry, Failure, Rejection};

mod attempting {
    use super::*;

    #[test]
    fn the_first_attempt_is_number_1() {
        given([]).when(attempt(1, 1)).then([attempted(1, 1)]);
    }

    #[test]
    fn another_worker_cannot_make_the_same_attempt() {
        given([attempted(1, 1)])
            .when(attempt(1, 2))
            .then_rejected(Rejection::NotNext {
                n: 0,
                last: 1,
                asked: 1,
            });
    }

    #[test]
    fn no_attempt_is_left_out() {
        given([])
            .when(attempt(2, 1))
            .then_rejected(Rejection::NotNext {
                n: 0,
                last: 0,
                asked: 2,
            });
    }

    #[test]
    fn an_unsure_attempt_may_be_followed_by_another() {
        let given = given([attempted(1, 1)])
            .when(attempt(2, 2))
            .then([attempted(2, 2)]);
        let entry = given.state().entry(0, SEND);
        assert_eq!(entry.in_flight, Some((2, "worker-1".to_owned())));
    }

    #[test]
    fn what_got_through_or_failed_is_not_attempted() {
        let ends = [
            (sent(1, 2), Status::Sent),
            (failed(1, 2), Status::Failed),
            (delivered(1, 2), Status::Delivered),
            (read(1, 2), Status::Read),
        ];
        for (end, status) in ends {
            given([attempted(1, 1), end])
                .when(attempt(2, 3))
                .then_rejected(Rejection::NotPending { n: 0, status });
        }
    }

    #[test]
    fn attempts_are_counted_on_through_a_redrive() {
        given([attempted(1, 1), failed(1, 2), redriven(1, 3)])
            .when(attempt(1, 4))
            .then_rejected(Rejection::NotNext {
                n: 0,
                last: 1,
                asked: 1,
            })
            .when(attempt(2, 4))
            .then([attempted(2, 4)]);
    }

    #[test]
    fn an_attempt_ends_the_waiting() {
        let given = given([attempted(1, 1), deferred(1, 60)])
            .when(attempt(2, 60))
            .then([attempted(2, 60)]);
        assert_eq!(given.state().entry(0, SEND).deferred_until, None);
    }

    #[test]
    fn the_last_possible_attempt_is_followed_by_none() {
        given([attempted(u32::MAX, 1)])
            .when(attempt(u32::MAX, 2))
            .then_rejected(Rejection::NotNext {
                n: 0,
                last: u32::MAX,
                asked: u32::MAX,
            })
            .when(fail(0, u32::MAX, 3))
            .then([failed(u32::MAX, 3)])
            .when(redrive(&[], 4))
            .then([redriven(1, 4)]);
    }

    #[test]
    fn deliveries_do_not_disturb_each_other() {
        let given = given([attempted_of(1, 1, 1), failed_of(1, 1, 2)])
            .when(attempt(1, 3))
            .then([attempted(1, 3)]);
        let statuses: Vec<_> = given
            .state()
            .entries()
            .map(|(n, op, entry)| (n, op, entry.status()))
            .collect();
        assert_eq!(
            statuses,
            [(0, SEND, Status::Pending), (1, SEND, Status::Failed)]
        );
    }
}

mod sending {
    use super::*;

    #[test]
    fn what_the_provider_took_is_sent() {
        let given = given([attempted(1, 1)])
            .when(record_sent(1, 2))
            .then([sent(1, 2)]);
        assert_eq!(
            given.state().entry(0, SEND),
            Entry {
                attempts: 1,
                sent_at: Some(at(2)),
                sent_by: Some(1),
                referenced: vec![1],
                ..Entry::default()
            }
        );
    }

    #[test]
    fn sent_is_recorded_once() {
        given([attempted(1, 1), sent(1, 2)])
            .when(record_sent(1, 3))
            .then_nothing()
            .when(receipt(1, Step::Sent, 4))
            .then_nothing();
    }

    #[test]
    fn a_receipt_may_be_the_first_to_say_that_it_was_sent() {
        given([attempted(1, 1)])
            .when(receipt(1, Step::Sent, 2))
            .then([sent_by_receipt(1, 2)]);
    }

    #[test]
    fn the_providers_ids_are_recorded_even_when_a_receipt_was_faster() {
        let given = given([attempted(1, 1), sent_by_receipt(1, 2)])
            .when(record_sent(1, 3))
            .then([sent(1, 3)])
            .when(record_sent(1, 4))
            .then_nothing();
        assert_eq!(given.state().entry(0, SEND).sent_at, Some(at(2)));
    }

    #[test]
    fn the_ids_of_each_attempt_that_got_through_are_recorded() {
        given([attempted(1, 1), attempted(2, 2), sent(2, 3)])
            .when(record_sent(1, 4))
            .then([sent(1, 4)])
            .when(record_sent(1, 5))
            .then_nothing();
    }

    #[test]
    fn ids_that_come_after_the_arrival_are_recorded() {
        let given = given([attempted(1, 1), delivered(1, 2)])
            .when(record_sent(1, 3))
            .then([sent(1, 3)]);
        assert_eq!(status(&given), Status::Delivered);
    }

    #[test]
    fn an_earlier_generations_ids_are_recorded_but_are_no_news_about_this_one() {
        let given = given([
            attempted(1, 1),
            failed(1, 2),
            redriven(1, 3),
            attempted(2, 4),
        ])
        .when(record_sent(1, 5))
        .then([sent(1, 5)])
        .when(record_sent(1, 6))
        .then_nothing();
        let entry = given.state().entry(0, SEND);
        assert_eq!(entry.status(), Status::Pending);
        assert_eq!(entry.in_flight, Some((2, "worker-1".to_owned())));
        assert_eq!(entry.referenced, [1]);
    }

    #[test]
    fn an_earlier_generations_sent_receipt_is_no_news() {
        given([attempted(1, 1), failed(1, 2), redriven(1, 3)])
            .when(receipt(1, Step::Sent, 4))
            .then_nothing();
    }

    #[test]
    fn a_late_sent_does_not_undo_a_failure() {
        let given = given([attempted(1, 1), failed(1, 2)])
            .when(receipt(1, Step::Sent, 3))
            .then([sent_by_receipt(1, 3)]);
        assert_eq!(status(&given), Status::Failed);
    }
}

mod arriving {
    use super::*;

    #[test]
    fn it_arrives_and_is_read() {
        let given = given([attempted(1, 1), sent(1, 2)])
            .when(receipt(1, Step::Delivered, 3))
            .then([delivered(1, 3)])
            .when(receipt(1, Step::Read, 4))
            .then([read(1, 4)]);
        let entry = given.state().entry(0, SEND);
        let times = [entry.sent_at, entry.delivered_at, entry.read_at];
        assert_eq!(times, [Some(at(2)), Some(at(3)), Some(at(4))]);
    }

    #[test]
    fn the_same_receipt_again_changes_nothing() {
        given([attempted(1, 1), delivered(1, 3), read(1, 4)])
            .when(receipt(1, Step::Delivered, 5))
            .then_nothing()
            .when(receipt(1, Step::Read, 6))
            .then_nothing();
    }

    #[test]
    fn a_second_arrival_on_the_log_keeps_the_first_time() {
        let twice = given([
            attempted(1, 1),
            sent(1, 2),
            sent(1, 7),
            delivered(1, 3),
            delivered(1, 8),
            read(1, 4),
            read(1, 9),
        ]);
        let entry = twice.state().entry(0, SEND);
        let times = [entry.sent_at, entry.delivered_at, entry.read_at];
        assert_eq!(times, [Some(at(2)), Some(at(3)), Some(at(4))]);
    }

    #[test]
    fn a_receipt_before_the_send_calls_answer_counts() {
        let given = given([attempted(1, 1)])
            .when(receipt(1, Step::Delivered, 2))
            .then([delivered(1, 2)]);
        let entry = given.state().entry(0, SEND);
        assert_eq!((entry.in_flight, entry.sent_at), (None, None));
    }

    #[test]
    fn read_implies_the_earlier_steps_whose_times_stay_unknown() {
        let given = given([attempted(1, 1)])
            .when(receipt(1, Step::Read, 2))
            .then([read(1, 2)]);
        let entry = given.state().entry(0, SEND);
        assert_eq!(entry.status(), Status::Read);
        assert_eq!((entry.sent_at, entry.delivered_at), (None, None));
    }

    #[test]
    fn a_late_delivered_receipt_does_not_undo_read() {
        let given = given([attempted(1, 1), read(1, 4)])
            .when(receipt(1, Step::Delivered, 3))
            .then([delivered(1, 3)]);
        assert_eq!(status(&given), Status::Read);
    }

    #[test]
    fn an_arrival_beats_a_failure() {
        for (step, arrived) in [
            (Step::Delivered, Status::Delivered),
            (Step::Read, Status::Read),
        ] {
            let given = given([attempted(1, 1), failed(1, 2)])
                .when(receipt(1, step, 3))
                .go_on();
            assert_eq!(status(&given), arrived);
            assert_eq!(given.state().entry(0, SEND).failed, None);
        }
    }

    #[test]
    fn an_arrival_of_an_earlier_generation_completes_the_delivery() {
        let given = given([attempted(1, 1), failed(1, 2), redriven(1, 3)])
            .when(receipt(1, Step::Delivered, 4))
            .then([delivered(1, 4)])
            .when(attempt(2, 5))
            .then_rejected(Rejection::NotPending {
                n: 0,
                status: Status::Delivered,
            });
        assert_eq!(status(&given), Status::Delivered);
    }
}

mod failing {
    use super::*;

    #[test]
    fn a_refusal_fails_it_with_its_reason() {
        let given = given([attempted(1, 1)])
            .when(fail(0, 1, 2))
            .then([failed(1, 2)]);
        assert_eq!(
            given.state().entry(0, SEND).failed,
            Some(Failure {
                class: FailureClass::Permanent,
                reason: Reason::RecipientNotReachable,
                at: at(2),
            })
        );
    }

    #[test]
    fn a_failed_receipt_fails_it() {
        given([attempted(1, 1), sent(1, 2)])
            .when(receipt(1, will_not_arrive(), 3))
            .then([failed(1, 3)]);
    }

    #[test]
    fn what_was_never_attempted_can_fail() {
        given([]).when(fail(0, 0, 1)).then([failed(0, 1)]);
    }

    #[test]
    fn what_waits_can_fail() {
        let given = given([attempted(1, 1), deferred(1, 60)])
            .when(fail(0, 1, 2))
            .then([failed(1, 2)]);
        assert_eq!(given.state().entry(0, SEND).deferred_until, None);
    }

    #[test]
    fn it_fails_once() {
        given([attempted(1, 1), failed(1, 2)])
            .when(fail(0, 1, 3))
            .then_nothing()
            .when(receipt(1, will_not_arrive(), 4))
            .then_nothing();
    }

    #[test]
    fn a_late_failure_of_an_earlier_attempt_does_not_fail_the_one_under_way() {
        given([attempted(1, 1), attempted(2, 2)])
            .when(fail(0, 1, 3))
            .then_nothing()
            .when(receipt(1, will_not_arrive(), 3))
            .then_nothing();
    }

    #[test]
    fn a_failed_repetition_does_not_fail_what_an_earlier_attempt_got_through() {
        for says_no in [fail(0, 2, 4), receipt(2, will_not_arrive(), 4)] {
            let then = given([attempted(1, 1), attempted(2, 2), sent_by_receipt(1, 3)])
                .when(says_no)
                .then_nothing();
            assert_eq!(status(&then), Status::Sent);
        }
    }

    #[test]
    fn the_attempt_that_got_through_can_fail_whatever_was_tried_after_it() {
        let later = [attempted(2, 2), deferred(2, 60)];
        let mut history = vec![attempted(1, 1)];
        history.extend(later);
        history.push(sent_by_receipt(1, 3));
        given(history)
            .when(receipt(1, will_not_arrive(), 5))
            .then([failed(1, 5)]);
    }

    #[test]
    fn which_attempt_got_through_is_forgotten_with_its_generation() {
        given([
            attempted(1, 1),
            sent(1, 2),
            failed(1, 3),
            redriven(1, 4),
            attempted(2, 5),
        ])
        .when(fail(1, 2, 6))
        .then([failed(2, 6)]);
    }

    #[test]
    fn a_failure_after_the_arrival_is_no_news() {
        for arrived in [delivered(1, 2), read(1, 2)] {
            given([attempted(1, 1), arrived])
                .when(fail(0, 1, 3))
                .then_nothing()
                .when(receipt(1, will_not_arrive(), 4))
                .then_nothing();
        }
    }

    #[test]
    fn a_late_failed_of_an_old_generation_does_not_fail_the_new_one() {
        let before_the_next_attempt = [attempted(1, 1), failed(1, 2), redriven(1, 3)];
        given(before_the_next_attempt.clone())
            .when(receipt(1, will_not_arrive(), 4))
            .then_nothing();
        given(before_the_next_attempt.into_iter().chain([attempted(2, 4)]))
            .when(receipt(1, will_not_arrive(), 5))
            .then_nothing();
    }

    #[test]
    fn a_verdict_of_another_generation_does_not_count() {
        given([attempted(1, 1), failed(1, 2), redriven(1, 3)])
            .when(fail(0, 1, 4))
            .then_nothing()
            .when(fail(2, 1, 4))
            .then_nothing();
    }

    #[test]
    fn what_was_redriven_can_fail_before_it_is_attempted_again() {
        given([attempted(1, 1), failed(1, 2), redriven(1, 3)])
            .when(fail(1, 1, 4))
            .then([failed(1, 4)]);
    }
}

mod waiting {
    use super::*;

    #[test]
    fn it_waits_after_a_failed_attempt() {
        let given = given([attempted(1, 1)])
            .when(defer(0, 1, 60))
            .then([deferred(1, 60)]);
        let entry = given.state().entry(0, SEND);
        assert_eq!(entry.deferred_until, Some(at(60)));
        assert_eq!(entry.in_flight, None);
        assert_eq!(entry.status(), Status::Pending);
    }

    #[test]
    fn it_may_wait_before_the_first_attempt() {
        given([]).when(defer(0, 0, 60)).then([deferred(0, 60)]);
    }

    #[test]
    fn it_may_wait_longer() {
        given([attempted(1, 1), deferred(1, 60)])
            .when(defer(0, 1, 90))
            .then([deferred(1, 90)]);
    }

    #[test]
    fn waiting_until_the_same_moment_again_changes_nothing() {
        given([attempted(1, 1), deferred(1, 60)])
            .when(defer(0, 1, 60))
            .then_nothing();
    }

    #[test]
    fn a_worker_that_is_behind_does_not_make_it_wait() {
        given([attempted(1, 1), attempted(2, 2)])
            .when(defer(0, 1, 60))
            .then_nothing();
        given([attempted(1, 1), failed(1, 2), redriven(1, 3)])
            .when(defer(0, 1, 60))
            .then_nothing();
    }

    #[test]
    fn what_got_through_or_failed_does_not_wait() {
        for end in [sent(1, 2), failed(1, 2), delivered(1, 2), read(1, 2)] {
            given([attempted(1, 1), end])
                .when(defer(0, 1, 60))
                .then_nothing();
        }
    }

    #[test]
    fn a_receipt_ends_the_waiting() {
        let given = given([attempted(1, 1), deferred(1, 60)])
            .when(receipt(1, Step::Sent, 2))
            .then([sent_by_receipt(1, 2)]);
        assert_eq!(given.state().entry(0, SEND).deferred_until, None);
    }
}

mod redriving {
    use super::*;

    #[test]
    fn a_redrive_opens_a_generation() {
        let given = given([attempted(1, 1), sent(1, 2), failed(1, 3)])
            .when(redrive(&[], 4))
            .then([redriven(1, 4)]);
        assert_eq!(
            given.state().entry(0, SEND),
            Entry {
                generation: 1,
                first_attempt: 2,
                attempts: 1,
                referenced: vec![1],
                ..Entry::default()
            }
        );
    }

    #[test]
    fn a_second_failure_can_be_redriven_again() {
        given([
            attempted(1, 1),
            failed(1, 2),
            redriven(1, 3),
            attempted(2, 4),
            failed(2, 5),
        ])
        .when(redrive(&[0], 6))
        .then([redriven(2, 6)]);
    }

    #[test]
    fn all_that_failed_are_redriven_unless_some_are_named() {
        let history = [
            failed_of(0, 0, 1),
            attempted_of(1, 1, 1),
            failed_of(2, 0, 1),
            failed_of(3, 0, 1),
        ];
        given(history.clone()).when(redrive(&[], 2)).then([
            redriven_of(0, 1, 2),
            redriven_of(2, 1, 2),
            redriven_of(3, 1, 2),
        ]);
        given(history)
            .when(redrive(&[3, 1, 0, 3], 2))
            .then([redriven_of(0, 1, 2), redriven_of(3, 1, 2)]);
    }

    #[test]
    fn a_failure_is_redriven_once_however_often_it_is_asked_for() {
        let again = |n, generation| Command::RedriveFailure {
            n,
            generation,
            by: user(1),
            at: at(9),
        };
        let mut history = vec![attempted(1, 1), failed(1, 2), failed_of(1, 0, 2)];
        given(history.clone())
            .when(again(0, 0))
            .then([redriven(1, 9)]);
        // It has failed again: that is another failure than the one that is asked for.
        history.extend([redriven(1, 3), attempted(2, 4), failed(2, 5)]);
        for (n, generation) in [(0, 0), (0, 2), (2, 0)] {
            given(history.clone())
                .when(again(n, generation))
                .then_rejected(Rejection::NothingFailed);
        }
        given(history.clone())
            .when(again(0, 1))
            .then([redriven(2, 9)]);
        given(history)
            .when(again(1, 0))
            .then([redriven_of(1, 1, 9)]);
    }

    #[test]
    fn what_has_not_failed_is_not_redriven() {
        let unfailed = [
            vec![],
            vec![attempted(1, 1)],
            vec![attempted(1, 1), sent(1, 2)],
            vec![attempted(1, 1), failed(1, 2), delivered(1, 3)],
            vec![attempted(1, 1), failed(1, 2), redriven(1, 3)],
        ];
        for history in unfailed {
            given(history)
                .when(redrive(&[], 9))
                .then_rejected(Rejection::NothingFailed);
        }
        given([attempted(1, 1), failed(1, 2)])
            .when(redrive(&[7], 9))
            .then_rejected(Rejection::NothingFailed);
    }
}

#[test]
fn commands_are_named_in_logs() {
    let names = [
        attempt(1, 1),
        record_sent(1, 1),
        receipt(1, Step::Read, 1),
        fail(0, 1, 1),
        defer(0, 1, 1),
        redrive(&[], 1),
    ]
    .map(|command| command.name());
    let expected = [
        "AttemptDelivery",
        "RecordSent",
        "RecordReceipt",
        "FailDelivery",
        "DeferDelivery",
        "RedriveDelivery",
    ];
    assert_eq!(names, expected);
}

#[test]
fn rejections_say_why() {
    let statuses = [
        Status::Pending,
        Status::Sent,
        Status::Failed,
        Status::Delivered,
        Status::Read,
    ];
    let shown: Vec<_> = statuses
        .map(|status| Rejection::NotPending { n: 3, status }.to_string())
        .into();
    assert_eq!(
        shown,
        [
            "delivery 3 is PENDING, not PENDING",
            "delivery 3 is SENT, not PENDING",
            "delivery 3 is FAILED, not PENDING",
            "delivery 3 is DELIVERED, not PENDING",
            "delivery 3 is READ, not PENDING",
        ]
    );
    let not_next = Rejection::NotNext {
        n: 3,
        last: 1,
        asked: 1,
    };
    assert_eq!(
        not_next.to_string(),
        "delivery 3 has seen attempt 1; attempt 1 cannot follow"
    );
    assert_eq!(
        Rejection::NothingFailed.to_string(),
        "none of these deliveries has failed"
    );
}
