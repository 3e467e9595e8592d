//! What help shows below the options: examples, and what has to be known beside them.

/// The least that is needed to begin with.
pub(super) const EXAMPLE: &str = r#"Example, with this config.json in the current directory:
  { "registry": { "url": "http://127.0.0.1:5000", "container": "registry" },
    "cleanup":  { "days_to_keep": 30, "protected_tags": ["latest"] } }

  clean-registry plan    what would go, and why
  clean-registry         it goes, and the garbage is collected

Example, with a registry's directory and nothing else:
  clean-registry gc --storage /var/lib/registry --plan    what nobody needs; without --plan it goes"#;

pub(super) const RUN: &str = "Examples:
  clean-registry plan                          first: what would go, and why
  clean-registry                               it goes; run need not be said
  clean-registry run --repo 'team/**'          only there
  clean-registry run --output json > run.json

What was deleted can be put back until its garbage is collected, which a run does at its end. To keep time for undo, set
garbage_collection.mode to none, and collect with another configuration later.";

pub(super) const PLAN: &str = "Examples:
  clean-registry plan
  clean-registry plan --all --repo 'team/**'       what stays as well, and why
  clean-registry plan --out plan.json              to be reviewed, and carried out by apply
  clean-registry plan --compare stricter.json      what another configuration would do differently";

pub(super) const APPLY: &str = "Example:
  clean-registry plan --out plan.json
  clean-registry apply plan.json

A tag that has moved since then is left alone, and so is what has come into use.";

pub(super) const EXPLAIN: &str = "Examples:
  clean-registry explain team/api:1.4        a tag
  clean-registry explain team/api            every tag of a repository
  clean-registry explain team/api@sha256:…   a manifest";

pub(super) const UNDO: &str = "Examples:
  clean-registry runs                     what there is to undo
  clean-registry undo                     the last run
  clean-registry undo 20261123T125132Z    this one

Images whose garbage was collected cannot come back. What gc removed is collected: no undo brings it back.";

pub(super) const RUNS: &str = "A line:
  20261123T125132Z  removed 21 manifests and 21 tags, garbage collected  (complete)

It begins with the run's name: clean-registry undo 20261123T125132Z takes it back, if nothing was collected since.";

pub(super) const GC: &str = "Modes:
  offline     the registry is stopped or read-only throughout
  barrier     it is closed for the seconds of a second look and the sweep, and opened again
  quarantine  it runs on: garbage is hidden, looked at again after a restart or --wait,
              then purged or brought back
By default the safest that is possible here; one that is not safe is refused. None relies on --grace.
What is removed cannot come back: look with --plan first.

Examples:
  clean-registry gc --storage /var/lib/registry --plan
      what would go, and how much that is; nothing is written
  clean-registry gc --storage /var/lib/registry --untagged
      of a registry that is stopped; manifests that nothing points at go, too
  clean-registry gc --registry-config /etc/distribution/config.yml --plan
      where that registry stores, be it a directory, S3, Google Cloud Storage or Azure
  clean-registry gc --storage /var/lib/registry --close-command 'systemctl stop docker-registry' \\
                    --open-command 'systemctl start docker-registry'
      the registry is down for as long as a second look and the sweep take";

pub(super) const USAGE: &str = "Columns:
  TOTAL   all that the images of this line need
  UNIQUE  what nothing else needs: what would be freed if they went
  SHARED  what other lines need as well

Examples:
  clean-registry usage --storage /var/lib/registry
  clean-registry usage --storage /var/lib/registry --by tag --output csv > usage.csv
  clean-registry usage --registry-config /etc/distribution/config.yml";

pub(super) const CHECK: &str = "What is found is grouped:
  broken     an image cannot be pulled; ends with exit code 4
  damaged    something is not as a registry writes it, and no image suffers
  left over  what nothing needs: orphaned blobs, abandoned uploads, empty repositories

Examples:
  clean-registry check --storage /var/lib/registry
  clean-registry check --storage /var/lib/registry --verify-content
  clean-registry check --storage /var/lib/registry --repair
  clean-registry check --registry-config /etc/distribution/config.yml --output json

--repair does what check has shown as `repair:` and nothing else. Each repair is written to the journal.";

pub(super) const VERIFY: &str = "Examples:
  clean-registry verify --storage /var/lib/registry
  clean-registry verify --storage /var/lib/registry --output json

Ends with exit code 4 if a tag cannot be pulled. `check` says more: what else is wrong, and what to do.";

pub(super) const CONFIG: &str = "Examples:
  clean-registry config check               is it usable, and can all of it have been meant
  clean-registry config check --online      the same in the sight of the registry
  clean-registry config explain             what it says, as plain sentences
  clean-registry config test cases.yml      what would become of these tags
  clean-registry config schema > schema.json";

pub(super) const CASES: &str = r#"A table:
  now: 2026-11-24T12:00:00Z        # by default the present
  repositories:
    ci/app:
      latest: { same_as: main-9, expect: keep, because: protected }
      main-9: { age: 2d, expect: keep }
      main-8: { age: 40d, pulled: 3d, expect: keep }
      main-7: { age: 90d, expect: remove }
      odd:    { labels: { quay.expires-after: 2w }, expect: keep }   # of unknown age

Ends with exit code 4 if something else would become of a tag."#;

pub(super) const DEMO: &str = "It serves a sample on 127.0.0.1 from a directory of its own, and removes both: nothing of yours is touched.";

pub(super) const COMPLETIONS: &str = "Examples:
  clean-registry completions bash > /etc/bash_completion.d/clean-registry
  clean-registry completions zsh > /usr/local/share/zsh/site-functions/_clean-registry
  clean-registry completions fish > ~/.config/fish/completions/clean-registry.fish";

pub(super) const MAN: &str = "Example:
  clean-registry man > /usr/local/share/man/man1/clean-registry.1";
