//! The short form of the stress: that it finds what unsafe collectors break, and that ours breaks nothing.

use std::path::Path;
use std::process::{Command, Stdio};

const BENCH: &str = env!("CARGO_BIN_EXE_bench");
/// No stress here takes longer, or it hangs.
const SECONDS: &str = "100";

/// Does it with both registries side by side: they wait more than they work.
fn with_both(check: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for registry in ["CLEAN_REGISTRY_TEST_REGISTRY_2", "CLEAN_REGISTRY_TEST_REGISTRY_3"] {
            let check = &check;
            scope.spawn(move || check(registry));
        }
    });
}

/// Whether the verdict of a stress with these options is good, and all that it said.
fn stress(registry: &str, options: &[&str]) -> (bool, String) {
    let program =
        std::env::var(registry).unwrap_or_else(|_| panic!("{registry} is not set: run scripts/test"));
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", SECONDS, BENCH, "stress", "--registry", &program]).args(options);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout) + &text(output.stderr))
}

#[track_caller]
fn holds(registry: &str, options: &[&str]) {
    let (is_good, said) = stress(registry, options);
    assert!(is_good, "{registry} {options:?}\n{said}");
}

/// What is broken is found sooner or later; not by every seed in so short a time, and by few where the machine is so quick that the
/// collector leaves hardly a push alone.
#[track_caller]
fn is_found_out(registry: &str, collector: &str) {
    let mut said = String::new();
    for seed in 1..=25 {
        let seed = seed.to_string();
        let options = ["--seconds", "3", "--seed", &seed, "--collector", collector, "--expect-broken"];
        match stress(registry, &options) {
            (true, _) => return,
            (false, ended) => said = ended,
        }
    }
    panic!("{registry} {collector} broke nothing:\n{said}");
}

#[test]
#[ignore = "needs registries 2.8 and 3.1.1"]
fn nothing_is_broken_where_nothing_is_collected() {
    with_both(|registry| holds(registry, &["--seconds", "2"]));
}

#[test]
#[ignore = "needs registries 2.8 and 3.1.1"]
fn a_collector_that_does_not_look_again_is_found_out() {
    with_both(|registry| {
        is_found_out(registry, "mark-then-sweep");
        is_found_out(registry, "no-rescan");
    });
}

#[test]
#[ignore = "needs registries 2.8 and 3.1.1"]
fn the_registrys_own_collector_is_found_out() {
    with_both(|registry| is_found_out(registry, "official"));
}

/// Our program, which is built beside the benchmarks.
fn ours(state: &Path, rest: &str) -> String {
    let program = Path::new(BENCH).with_file_name("clean-registry");
    assert!(program.exists(), "{} is not built: cargo build --workspace", program.display());
    let state = state.display();
    format!(
        "'{}' gc --storage '{{STORAGE}}' --registry-config '{{CONFIG}}' --grace 0s \
         --state-dir '{state}' --log-file '{state}/log' {rest}",
        program.display()
    )
}

#[test]
#[ignore = "needs registries 2.8 and 3.1.1"]
fn ours_breaks_nothing_in_any_mode() {
    let state = tempfile::tempdir().unwrap();
    let ours = |rest: &str| ours(state.path(), rest);
    let hooks = "--close-command \"{CLOSE}\" --open-command \"{OPEN}\"";
    let closed =
        format!("{{CLOSE}} && {}; ended=$?; {{OPEN}}; exit $ended", ours("--mode offline --untagged=0s"));
    let commands = [
        ours("--mode quarantine --wait 500ms --untagged=0s"),
        ours(&format!("--mode quarantine {hooks}")),
        ours(&format!("--mode barrier --untagged=0s {hooks}")),
        closed,
    ];
    with_both(|registry| {
        for command in &commands {
            holds(registry, &["--seconds", "3", "--pause", "200", "--command", command]);
        }
    });
}
