//! Help, the configuration and mistakes in either: nothing is asked of a registry.

use crate::stage::{Stage, shown};

const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
#[expect(clippy::too_many_lines, reason = "the help itself is what is long")]
fn help() {
    shown!(Stage::bare().run("--help"), @r#"
    exit code 0
    -- stdout
    Keeps a container registry small without losing an image that somebody needs.

    Without a command it does the whole job: it looks at the registry, decides what goes and why,
    deletes it, collects the garbage, measures what was freed, and keeps what it needs to undo the
    deletion. `plan` shows the same and changes nothing.

    Usage: clean-registry [OPTIONS] [COMMAND]

    Commands:
      run          Do the whole job (the default)
      plan         Show what run would do, and why; nothing is changed
      apply        Do exactly what a saved plan says; what has changed since is left alone
      explain      Say why something stays or goes: every reason, the date used and where it was found,
                   who needs it
      undo         Put back what a run deleted, as long as its garbage has not been collected
      runs         List the runs on this registry and what became of them
      gc           Remove from the storage what nobody needs, and lose nothing while people push
      usage        Show what takes the room: bytes by repository or by tag, as they lie in the storage
      check        Find what is broken or left over in the storage; nothing is changed without --repair
      verify       Prove that every tag can be pulled: that all it leads to is stored, in the right size
      config       Look at the configuration
      demo         Show the whole job on a sample registry of its own; needs nothing else
      completions  Print the completions for a shell
      man          Print the manual page
      help         Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>
              The configuration, JSON or YAML [default: config.json]

          --registry <NAME>
              Only this one of the registries that the configuration names; may be given several times

          --state-dir <DIR>
              The directory of the journal, the vault and the cache [default: /var/lib/clean-registry,
              not as root ~/.local/state/clean-registry]

          --log-file <FILE>
              The log file, beside the terminal [default: /var/logs/clean-registry.log]

          --output <OUTPUT>
              What standard output carries; with json the log goes to standard error

              Possible values:
              - text: For people
              - json: For programs
              - csv:  For spreadsheets, from usage
              
              [default: text]

          --repo <GLOB>
              Only repositories that match, for run and plan: * within a path component, ** across

          --always-collect
              Collect garbage even if nothing was deleted, for run and apply

          --over-limits <REGISTRY>
              Carry out a plan that is over the limits, on this registry: its name as plan shows it, for
              run and apply

          --yes
              Do not ask before a policy removes something for the first time, for run; without a
              terminal it never does

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Example, with this config.json in the current directory:
      { "registry": { "url": "http://[host]", "container": "registry" },
        "cleanup":  { "days_to_keep": 30, "protected_tags": ["latest"] } }

      clean-registry plan    what would go, and why
      clean-registry         it goes, and the garbage is collected

    Example, with a registry's directory and nothing else:
      clean-registry gc --storage /var/lib/registry --plan    what nobody needs; without --plan it goes

    Exit codes:
      0    done, or nothing to do
      1    a bug
      2    usage or configuration
      3    registry or storage unreachable
      4    done in part
      5    locked by another run
      6    refused as unsafe
      130  interrupted
    "#);
    shown!(Stage::bare().run("plan -h"), @r"
    exit code 0
    -- stdout
    Show what run would do, and why; nothing is changed

    Usage: clean-registry plan [OPTIONS]

    Options:
          --config <FILE>    The configuration, JSON or YAML [default: config.json]
          --out <FILE>       Save the plan, to be reviewed and given to apply; of several registries a
                             file each in this directory
          --all              Show what stays as well, with all the reasons
          --registry <NAME>  Only this one of the registries that the configuration names; may be given
                             several times
          --compare <FILE>   Show what the policy of another configuration would do differently, tag by
                             tag and in bytes
          --state-dir <DIR>  The directory of the journal, the vault and the cache [default:
                             /var/lib/clean-registry, not as root ~/.local/state/clean-registry]
          --log-file <FILE>  The log file, beside the terminal [default: /var/logs/clean-registry.log]
          --output <OUTPUT>  What standard output carries; with json the log goes to standard error
                             [default: text] [possible values: text, json, csv]
          --repo <GLOB>      Only repositories that match, for run and plan: * within a path component,
                             ** across
      -h, --help             Print help (see more with '--help')

    Examples:
      clean-registry plan
      clean-registry plan --all --repo 'team/**'       what stays as well, and why
      clean-registry plan --out plan.json              to be reviewed, and carried out by apply
      clean-registry plan --compare stricter.json      what another configuration would do differently
    ");
}

#[test]
fn every_verb_has_help_that_says_what_it_does() {
    for verb in [
        "run",
        "plan",
        "apply",
        "explain",
        "undo",
        "runs",
        "gc",
        "usage",
        "check",
        "verify",
        "config",
        "demo",
        "completions",
        "man",
    ] {
        let ended = Stage::bare().run(&format!("{verb} --help"));
        assert_eq!(ended.code, 0);
        assert!(ended.stdout.contains(&format!("Usage: clean-registry {verb}")), "{ended:#?}");
        let below = ended.stdout.rsplit("Print help").next().unwrap();
        assert!(below.contains("clean-registry") || verb == "demo", "an example: {below}");
    }
}

#[test]
fn version() {
    let version = Stage::bare().run("--version").stdout;
    assert_eq!(version, format!("clean-registry {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn there_is_no_configuration() {
    shown!(Stage::bare().run(""), @r"
    exit code 2
    -- stderr
    error: configuration config.json: No such file or directory (os error 2)
    hint: name another file with --config, or write one: `clean-registry --help` shows the least that is needed; `clean-registry demo` needs none
    ");
}

#[test]
fn an_unknown_key_in_json() {
    let stage = Stage::new(NOWHERE).configure(|config| config["cleanup"]["days_to_keeep"] = 1.into());
    shown!(stage.run(""), @r#"
    exit code 2
    -- stderr
    error: configuration config.json: unknown field `days_to_keeep`, expected one of `days_to_keep`, `protected_tags`, `protected_patterns`, `protect`, `clock`, `untagged`, `referrers`, `timezone`, `rules` at line 3 column 19
    hint: did you mean "days_to_keep"?
    "#);
}

#[test]
fn an_unknown_key_in_yaml() {
    let stage = Stage::bare();
    stage.write("config.yml", "registry:\n  url: http://127.0.0.1:9\ncleanup:\n  day_to_keep: 30\n");
    shown!(stage.run("plan --config config.yml"), @r#"
    exit code 2
    -- stderr
    error: configuration config.yml: line 4 column 3: unknown field `day_to_keep`, expected one of days_to_keep, protected_tags, protected_patterns, protect, clock, untagged, referrers, timezone, rules
    hint: did you mean "days_to_keep"?
    "#);
}

#[test]
fn a_variable_that_is_not_set() {
    let stage =
        Stage::new(NOWHERE).configure(|config| config["registry"]["password"] = "${NO_SUCH_NAME}".into());
    shown!(stage.run("plan"), @r"
    exit code 2
    -- stderr
    error: configuration config.json: registry.password takes ${NO_SUCH_NAME}, which is not set
    ");
}

#[test]
fn the_configuration_is_fine() {
    shown!(Stage::new(NOWHERE).run("config check"), @r"
    exit code 0
    -- stdout
    config.json is fine
    ");
}

#[test]
fn the_configuration_protects_nothing_or_everything() {
    let stage = Stage::new(NOWHERE).configure(|config| {
        config["cleanup"]["protected_tags"] = [(); 0].into_iter().collect();
        config["cleanup"]["protected_patterns"] = [""].into_iter().collect();
    });
    shown!(stage.run("config check"), @r#"
    exit code 0
    -- stdout
    warning: protected_patterns holds "", which every tag contains: nothing will ever go
    config.json is fine
    "#);
}

#[test]
fn the_configuration_in_words() {
    shown!(Stage::new(NOWHERE).run("config explain"), @r"
    exit code 0
    -- stdout
    Remove images created more than 30 days ago.
    Never those tagged latest.
    Never those whose tag contains release.
    Images of unknown age stay, and so does everything that a remaining image needs.
    Then collect no garbage.
    ");
    let stage = Stage::new(NOWHERE).configure(|config| config["registry"]["container"] = "registry".into());
    shown!(stage.run("config explain"), @r"
    exit code 0
    -- stdout
    Remove images created more than 30 days ago.
    Never those tagged latest.
    Never those whose tag contains release.
    Images of unknown age stay, and so does everything that a remaining image needs.
    Then collect garbage from the storage if this host can reach it, else in container registry while it runs.
    ");
    shown!(stage.run("config explain --output json"), @r#"
    exit code 0
    -- stdout
    {
      "days_to_keep": 30,
      "protected_tags": [
        "latest"
      ],
      "protected_patterns": [
        "release"
      ]
    }
    "#);
}

#[test]
fn the_configuration_has_a_schema() {
    let schema = Stage::bare().run("config schema").json();
    assert_eq!(schema["$defs"]["Rule"]["required"], serde_json::json!(["name"]));
    let cases = Stage::bare().run("config schema --cases").json();
    assert_eq!(cases["$defs"]["Case"]["required"], serde_json::json!(["expect"]));
}

#[test]
fn options_where_they_have_no_meaning() {
    shown!(Stage::new(NOWHERE).run("plan --always-collect"), @r"
    exit code 2
    -- stderr
    error: --always-collect has no meaning for this command
    hint: it belongs to run and apply
    ");
    shown!(Stage::new(NOWHERE).run("undo --repo shop/*"), @r"
    exit code 2
    -- stderr
    error: --repo has no meaning for this command
    hint: it belongs to run and plan
    ");
    shown!(Stage::new(NOWHERE).run("plan --repo shop/["), @r"
    exit code 2
    -- stderr
    error: --repo shop/[: error parsing glob 'shop/[': unclosed character class; missing ']'
    ");
}

#[test]
fn completions_and_the_manual_page() {
    for (line, says) in [
        ("completions bash", "complete -F _clean__registry"),
        ("completions zsh", "#compdef clean-registry"),
        ("completions fish", "complete -c clean-registry"),
        ("man", ".TH clean-registry"),
    ] {
        let ended = Stage::bare().run(line);
        assert!(ended.code == 0 && ended.stdout.contains(says), "{line}: {ended:#?}");
    }
}

#[test]
fn bash_completes_the_options_of_a_verb() {
    let stage = Stage::bare();
    stage.write("completions", &stage.run("completions bash").stdout);
    let script = "source ./completions; COMP_WORDS=(clean-registry plan --al); COMP_CWORD=2\n\
                  _clean__registry clean-registry --al plan; echo \"${COMPREPLY[@]}\"";
    let bash = std::process::Command::new("bash").args(["-c", script]).current_dir(stage.path("")).output();
    assert_eq!(String::from_utf8(bash.unwrap().stdout).unwrap(), "--all --always-collect\n");
}
