//! A process works on a redrive, and is killed or stands still in the middle of it: another one goes on where it was. One that
//! wakes goes on, too, until it learns that it was replaced: what it does then is refused, and its place is not noted.

mod scene;

use scene::Scene;

/// Items of which nobody knows that they are done: those of the second before it notes its place, and the one under way.
const NOT_NOTED: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redrive_whose_process_is_killed_for_good_goes_on_in_another_one() {
    let scene = Scene::at_work().await;
    let killed = scene.owner.kill().await;
    scene.is_taken_over().await;
    scene.is_done().await;
    scene.each_once(killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_wakes_while_another_one_works_on_its_redrive_does_nothing_twice() {
    let scene = Scene::at_work().await;
    let frozen = scene.owner.freeze().await;
    let left = scene.is_taken_over().await;
    // What comes next for the frozen one, the other one has done.
    scene.has_done(left + NOT_NOTED).await;
    scene.owner.wake();
    let woken = scene.job().await;
    assert_eq!(woken["state"], "running", "it woke too late: {woken}");
    scene.is_back().await;
    scene.is_done().await;
    scene.each_once(frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_wakes_when_another_one_has_done_its_redrive_changes_nothing() {
    let scene = Scene::at_work().await;
    let frozen = scene.owner.freeze().await;
    scene.is_taken_over().await;
    scene.is_done().await;
    scene.owner.wake();
    scene.is_back().await;
    scene.each_once(frozen).await;
}
