//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::failure::EXIT_CODES;
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
