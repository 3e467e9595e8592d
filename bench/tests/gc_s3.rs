//! What a plan may ask of a bucket, held exactly: the figures of `bench gc-s3` on a small one, without a latency.

use std::process::{Command, Stdio};

const BENCH: &str = env!("CARGO_BIN_EXE_bench");
const SECONDS: &str = "100";

#[test]
#[ignore = "needs registry 3.1.1 and an S3 server"]
fn a_plan_asks_for_pages_and_new_manifests_and_changes_nothing() {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", SECONDS, BENCH, "gc-s3", "--delay", "0"]);
    let output = command.args(["--repositories", "4", "--tags", "25"]).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (said, log) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{said}\n{log}");
    assert_eq!(said.matches("| holds |").count(), 8, "{said}");
}
