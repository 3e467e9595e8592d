//! The program is killed at every change that it makes to a store, once the store has done it and before the program knows: the next
//! collection puts everything right (27 of FACTS section 8).

use super::filled::{Filled, Kind};
use super::hold::When;

const OFFLINE: [&str; 2] = ["--mode", "offline"];
const BARRIER: [&str; 6] = ["--mode", "barrier", "--close-command", "true", "--open-command", "true"];
const QUARANTINE: [&str; 6] = ["--registry-config", "registry.yml", "--mode", "quarantine", "--wait", "0s"];

/// Returns how many changes there were to be killed at.
async fn killed_everywhere(kind: Kind, arguments: &[&str]) -> usize {
    let filled = Filled::new(kind).await;
    is_killed(&filled, arguments, 0, When::Before).await;
    for passing in 0.. {
        let what = format!("{kind:?} {arguments:?} killed after change {passing}");
        filled.fill().await;
        if !is_killed(&filled, arguments, passing, When::After).await {
            filled.is_clean(&what).await;
            return passing;
        }
        filled.is_whole(&what).await;
        let next = filled.collect(arguments).await;
        assert_eq!(next.code, Some(0), "{what}: {next:#?}");
        filled.is_whole(&what).await;
        filled.forget_probes().await;
        filled.is_clean(&what).await;
    }
    unreachable!("it comes to an end")
}

/// Whether it was killed: false if it came to its end before that change.
async fn is_killed(filled: &Filled, arguments: &[&str], passing: usize, when: When) -> bool {
    let mut held = filled.proxy.hold_change(passing, when);
    let mut child = filled.collecting(arguments).spawn().unwrap();
    let is_reached = tokio::select! {
        () = held.reached() => true,
        ended = child.wait() => {
            assert!(ended.unwrap().success(), "{arguments:?}");
            false
        }
    };
    if is_reached {
        child.kill().await.unwrap();
        held.lose();
    }
    filled.proxy.heal();
    is_reached
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn on_a_bucket_without_versions_it_may_be_killed_anywhere() {
    let (closed, barred, hiding) = tokio::join!(
        killed_everywhere(Kind::S3, &OFFLINE),
        killed_everywhere(Kind::S3, &BARRIER),
        killed_everywhere(Kind::S3, &QUARANTINE)
    );
    assert!(closed > 5 && barred > 5 && hiding > 12, "{closed} {barred} {hiding}");
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn on_a_bucket_that_keeps_versions_it_may_be_killed_anywhere() {
    let (closed, hiding) = tokio::join!(
        killed_everywhere(Kind::VersionedS3, &OFFLINE),
        killed_everywhere(Kind::VersionedS3, &QUARANTINE)
    );
    assert!(closed > 5 && hiding > 7, "{closed} {hiding}");
}

#[tokio::test]
#[ignore = "needs fake-gcs-server and Azurite: run scripts/test"]
async fn on_google_and_azure_it_may_be_killed_while_garbage_is_hidden() {
    let (google, azure) =
        tokio::join!(killed_everywhere(Kind::Gcs, &QUARANTINE), killed_everywhere(Kind::Azure, &QUARANTINE));
    assert!(google > 12 && azure > 12, "{google} {azure}");
}
