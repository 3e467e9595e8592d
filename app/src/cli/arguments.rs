//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::age::AgeText;
use crate::failure::EXIT_CODES;
use crate::gc::Mode;
use crate::report::Output;

/// The least that is needed to begin with.
const EXAMPLE: &str = r#"Example, with this config.json in the current directory:
  { "registry": { "url": "http://127.0.0.1:5000", "container": "registry" },
    "cleanup":  { "days_to_keep": 30, "protected_tags": ["latest"] } }

  clean-registry plan    what would go, and why
  clean-registry         it goes, and the garbage is collected"#;

/// Keeps a container registry small without losing an image that somebody needs.
///
/// Without a command it does the whole job: it looks at the registry, decides what goes and why, deletes it, collects the garbage,
/// measures what was freed, and keeps what it needs to undo the deletion. `plan` shows the same and changes nothing.
#[derive(Debug, Parser)]
#[command(name = "clean-registry", version, after_help = format!("{EXAMPLE}\n\n{EXIT_CODES}"), max_term_width = 100)]
pub struct Arguments {
    /// The configuration, JSON or YAML
    #[arg(long, global = true, value_name = "FILE", default_value = "config.json")]
    pub config: PathBuf,
    /// The directory of the journal, the vault and the cache
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The log file, beside the terminal [default: /var/logs/clean-registry.log]
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// What standard output carries; with json the log goes to standard error
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Only repositories that match, for run and plan: * within a path component, ** across
    #[arg(long, global = true, value_name = "GLOB")]
    pub repo: Option<String>,
    /// Collect garbage even if nothing was deleted, for run and apply
    #[arg(long, global = true)]
    pub always_collect: bool,
    /// What to do; run if nothing is named
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Do the whole job (the default)
    Run,
    /// Show what run would do, and why; nothing is changed
    Plan {
        /// Save the plan, to be reviewed and given to apply
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Show what stays as well, with all the reasons
        #[arg(long)]
        all: bool,
    },
    /// Do exactly what a saved plan says; what has changed since is left alone
    Apply {
        /// The plan
        file: PathBuf,
    },
    /// Say why something stays or goes: every reason, the date used and where it was found, who needs it
    Explain {
        /// REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST
        reference: String,
    },
    /// Put back what a run deleted, as long as its garbage has not been collected
    Undo {
        /// The run, as listed by runs [default: the last one that is not an undo and has not been undone]
        run: Option<String>,
    },
    /// List the runs on this registry and what became of them
    Runs,
    /// Remove what nobody needs from a registry's storage, and lose nothing while people push
    ///
    /// Without a configuration it needs the storage alone: clean-registry gc --storage /var/lib/registry
    #[command(after_help = GC_EXAMPLES)]
    Gc(GcArguments),
    /// Look at the configuration
    Config {
        /// What to look at it for
        #[command(subcommand)]
        what: ConfigVerb,
    },
    /// Show the whole job on a sample registry of its own; needs nothing else
    Demo {
        /// Keep the sample registry's directory
        #[arg(long)]
        keep: bool,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

const GC_EXAMPLES: &str = "Modes:
  offline     the registry is stopped or read-only throughout; what can be checked is checked
  barrier     everything is found while it runs; it is closed for the seconds of the sweep and opened again
  quarantine  garbage is hidden while it runs, looked at again after a restart or --wait, then purged or brought back
By default the safest that is possible here. None relies on a grace period.

Examples:
  clean-registry gc --storage /var/lib/registry --plan
      what would go, and how much that is; nothing is written
  clean-registry gc --storage /var/lib/registry --untagged
      of a registry that is stopped; manifests that nothing points at go, too
  clean-registry gc --storage /var/lib/registry --close-command 'systemctl stop docker-registry' \\
                    --open-command 'systemctl start docker-registry'
      the registry is down for as long as a second look and the sweep take";

/// Where the registry stores, for what needs no more than that.
#[derive(Debug, Clone, Default, Args)]
pub struct StorageArguments {
    /// The registry's storage: the rootdirectory of its configuration
    #[arg(long, value_name = "DIR")]
    pub storage: Option<PathBuf>,
    /// The registry's own configuration, as this host sees it, with REGISTRY_* of this environment over it
    #[arg(long, value_name = "FILE")]
    pub registry_config: Option<PathBuf>,
}

/// What to collect and how.
#[derive(Debug, Clone, Args)]
pub struct GcArguments {
    /// Where.
    #[command(flatten)]
    pub place: StorageArguments,
    /// Only say what would go; nothing is written
    #[arg(long)]
    pub plan: bool,
    /// How to deal with pushes during the collection [default: the safest that is possible]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// How old a blob, and every link to it, must be [default: 24h]
    #[arg(long, value_name = "AGE")]
    pub grace: Option<AgeText>,
    /// Remove manifests that no tag points at and nothing needs, older than AGE [default: as --grace]
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true)]
    pub untagged: Option<Option<AgeText>>,
    /// Remove uploads that nobody continued for AGE [default: 7d]
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true)]
    pub uploads: Option<Option<AgeText>>,
    /// Remove temporary files that a crash of the registry left AGE ago [default: 24h]
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true)]
    pub temporary_files: Option<Option<AgeText>>,
    /// Remove repositories that have been empty for AGE [default: 24h]
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true)]
    pub empty_repositories: Option<Option<AgeText>>,
    /// Remove folders that hold nothing
    #[arg(long)]
    pub empty_folders: bool,
    /// Remove layer links that lead nowhere only after AGE [default: as --grace]
    #[arg(long, value_name = "AGE")]
    pub dangling_links: Option<AgeText>,
    /// How long a request may be under way in the registry, for quarantine without a restart [default: 60s, object stores 15m]
    #[arg(long, value_name = "AGE")]
    pub wait: Option<AgeText>,
    /// A line for sh that closes the registry to writes: stops it, or makes it read-only
    #[arg(long, value_name = "COMMAND", requires = "open_command")]
    pub close_command: Option<String>,
    /// A line for sh that opens it again
    #[arg(long, value_name = "COMMAND", requires = "close_command")]
    pub open_command: Option<String>,
}

/// What to look at a configuration for.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigVerb {
    /// Check the file
    Check,
    /// Print the JSON Schema of the file
    Schema,
    /// Read the policy back as a sentence
    Explain,
}
