//! What a policy that is new here is told, and the question on a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use clean_registry::demo::server::Behaviour;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::stage::{Ended, Shop, Stage, old};

/// A terminal, and the program that it is the standard input and error of.
struct Session {
    terminal: File,
    child: Child,
}

impl Session {
    /// Starts the program. What is typed ahead waits until it asks.
    fn start(stage: &Stage, line: &str, typed: &str) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let end = || open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let (input, error) = (end(), end());
        let mut terminal = File::from(terminal);
        terminal.write_all(typed.as_bytes()).unwrap();
        let on_terminal = |command: &mut Command| {
            command.stdin(Stdio::from(input)).stdout(Stdio::piped()).stderr(Stdio::from(error));
        };
        Self { terminal, child: stage.start_in(line, on_terminal) }
    }

    /// What the terminal shows, until `text` is part of it or the program has ended.
    fn read_until(&mut self, text: &str) -> String {
        let (mut shown, mut buffer) = (Vec::new(), [0; 1024]);
        // A terminal without a program at its other end answers with an error.
        while let Ok(read) = self.terminal.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..read]);
            if read == 0 || (!text.is_empty() && String::from_utf8_lossy(&shown).contains(text)) {
                break;
            }
        }
        String::from_utf8_lossy(&shown).replace('\r', "")
    }

    /// The exit code, what was shown, and what went to standard output.
    fn end(mut self) -> Ended {
        let stderr = self.read_until("");
        let ended = Ended::wait(self.child);
        Ended { stderr, ..ended }
    }
}

const QUESTION: &str = "Remove 5 of 9 tags from ";

#[test]
fn on_a_terminal_the_first_run_asks_and_yes_goes_on() {
    let shop = Shop::open();
    let stage = shop.stage();
    let ended = Session::start(&stage, "run", "yes\n").end();
    assert!(ended.stderr.contains(QUESTION) && ended.stderr.contains("shop/web "), "{ended:#?}");
    assert!(ended.code == 0 && ended.stdout.contains("Steps: 7 done"), "{ended:#?}");
    // The same policy, and something to remove once more.
    shop.push("shop/api", "2018", &old("api 2018", "2018-01-01T00:00:00Z"));
    let ended = Session::start(&stage, "run", "").end();
    assert!(ended.code == 0 && !ended.stderr.contains("[y/N]"), "{ended:#?}");
    assert!(ended.stdout.contains("Steps: 1 done"), "{ended:#?}");
}

#[test]
fn any_other_answer_removes_nothing() {
    let shop = Shop::open();
    let (stage, before) = (shop.stage(), shop.files());
    for answer in ["n\n", "\n", "\u{4}"] {
        let ended = Session::start(&stage, "run", answer).end();
        assert_eq!(ended.code, 130, "{answer:?}: {ended:#?}");
        assert!(
            ended.stderr.contains(QUESTION) && ended.stderr.contains("not confirmed; nothing was done"),
            "{ended:#?}"
        );
        assert_eq!(shop.files(), before);
    }
    assert!(stage.run("runs").stdout.starts_with("No run on"));
}

#[test]
fn an_interrupt_answers_the_question_as_well() {
    let shop = Shop::open();
    let (stage, before) = (shop.stage(), shop.files());
    let mut session = Session::start(&stage, "run", "");
    let shown = session.read_until("[y/N]");
    assert!(shown.contains(QUESTION), "{shown}");
    kill_process(Pid::from_child(&session.child), Signal::INT).unwrap();
    let ended = session.end();
    assert!(ended.code == 130 && ended.stderr.contains("interrupted; nothing was done"), "{ended:#?}");
    assert_eq!(shop.files(), before);
}

#[test]
fn yes_on_the_command_line_and_a_missing_terminal_need_no_answer() {
    let shop = Shop::open();
    let ended = Session::start(&shop.stage(), "run --yes", "").end();
    assert!(ended.code == 0 && !ended.stderr.contains("[y/N]"), "{ended:#?}");
    let shop = Shop::open();
    let ended = shop.stage().run("run");
    assert!(ended.code == 0 && ended.stderr.is_empty(), "{ended:#?}");
    assert!(ended.stdout.contains("[INFO] no policy has removed anything from 127.0.0.1"), "{ended:#?}");
    assert_eq!(shop.stage().run("plan --yes").code, 2, "plan asks nothing");
}

#[test]
fn where_nothing_goes_nothing_is_asked() {
    let shop = Shop::empty(Behaviour::default());
    let ended = Session::start(&shop.stage(), "run", "").end();
    assert!(ended.code == 0 && !ended.stderr.contains("[y/N]"), "{ended:#?}");
    assert!(!ended.stdout.contains("no policy has removed"), "{ended:#?}");
}

#[test]
fn a_changed_policy_says_what_it_was_and_asks_again() {
    let shop = Shop::open();
    let stage = shop.stage();
    assert_eq!(stage.run("run --repo shop/api").code, 0);
    let stage = stage.configure(|config| config["cleanup"]["days_to_keep"] = 20.into());
    let before = shop.files();
    let ended = Session::start(&stage, "run", "no\n").end();
    let lines: Vec<&str> =
        ended.stdout.lines().filter_map(|line| line.split_once("[INFO] ").map(|(_, line)| line)).collect();
    let told = lines.iter().position(|line| line.starts_with("the policy has changed since run ")).unwrap();
    assert_eq!(
        lines[told + 1..],
        [
            "  was: remove images created more than 30 days ago",
            "  is:  remove images created more than 20 days ago"
        ]
    );
    assert!(ended.code == 130 && ended.stderr.contains("Remove 4 of 8 tags from "), "{ended:#?}");
    assert_eq!(shop.files(), before);
    // Taking back and collecting follow no policy, and a run without a terminal goes on.
    assert_eq!(stage.run("undo").code, 0);
    let ended = stage.run("run");
    assert!(ended.code == 0 && ended.stdout.contains("the policy has changed since run "), "{ended:#?}");
    let ended = stage.run("run");
    assert!(ended.code == 0 && !ended.stdout.contains("has changed"), "{ended:#?}");
}

#[test]
fn a_reviewed_plan_is_not_asked_about() {
    let shop = Shop::open();
    let stage = shop.stage();
    assert_eq!(stage.run("plan --out plan.json").code, 0);
    let ended = Session::start(&stage, "apply plan.json", "").end();
    assert!(ended.code == 0 && !ended.stderr.contains("[y/N]"), "{ended:#?}");
}

#[test]
fn several_registries_ask_one_after_another_and_each_has_its_own_answer() {
    let shops = [Shop::open(), Shop::open()];
    let before: Vec<usize> = shops.iter().map(|shop| shop.files().len()).collect();
    let stage = shops[0].stage().configure(|config| {
        let section = |shop: &Shop| serde_json::json!({ "registry": { "url": shop.server.url() } });
        config["registry"] = serde_json::json!({});
        config["registries"] = serde_json::json!({ "one": section(&shops[0]), "two": section(&shops[1]) });
    });
    let ended = Session::start(&stage, "run", "yes\nno\n").end();
    assert_eq!((ended.code, ended.stderr.matches(QUESTION).count()), (130, 2), "{ended:#?}");
    let fewer = shops.iter().zip(&before).filter(|(shop, before)| shop.files().len() < **before).count();
    assert_eq!(fewer, 1, "{ended:#?}");
    assert!(
        ended.stdout.contains("  interrupted\n") && ended.stdout.contains("  done, or nothing to do\n"),
        "{ended:#?}"
    );
}
