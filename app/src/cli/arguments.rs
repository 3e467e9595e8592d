//! The command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::examples;
use crate::age::AgeText;
use crate::config::{Config, ConfigError, StorageSection};
use crate::failure::EXIT_CODES;
use crate::gc::Mode;
use crate::report::Output;

/// Where the configuration is if nobody says.
const CONFIG: &str = "config.json";

/// Keeps a container registry small without losing an image that somebody needs.
///
/// Without a command it does the whole job: it looks at the registry, decides what goes and why, deletes it, collects the garbage,
/// measures what was freed, and keeps what it needs to undo the deletion. `plan` shows the same and changes nothing.
#[derive(Debug, Parser)]
#[command(name = "clean-registry", version, after_help = format!("{}\n\n{EXIT_CODES}", examples::EXAMPLE), max_term_width = 100)]
pub struct Arguments {
    /// The configuration, JSON or YAML [default: config.json]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only this one of the registries that the configuration names; may be given several times
    #[arg(long, global = true, value_name = "NAME")]
    pub registry: Vec<String>,
    /// The directory of the journal, the vault and the cache [default: /var/lib/clean-registry, not as root
    /// ~/.local/state/clean-registry]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The log file, beside the terminal [default: /var/logs/clean-registry.log]
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// What standard output carries; with json the log goes to standard error
    #[arg(long, global = true, value_enum, default_value_t = Form::Text)]
    pub output: Form,
    /// Only repositories that match, for run and plan: * within a path component, ** across
    #[arg(long, global = true, value_name = "GLOB")]
    pub repo: Option<String>,
    /// Collect garbage even if nothing was deleted, for run and apply
    #[arg(long, global = true)]
    pub always_collect: bool,
    /// Carry out a plan that is over the limits, on this registry: its name as plan shows it, for run and apply
    #[arg(long, global = true, value_name = "REGISTRY")]
    pub over_limits: Vec<String>,
    /// Do not ask before a policy removes something for the first time, for run; without a terminal it never does
    #[arg(long, global = true)]
    pub yes: bool,
    /// What to do; run if nothing is named
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

impl Arguments {
    /// The configuration file, named or not.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG))
    }

    /// What to do.
    #[must_use]
    pub fn verb(&self) -> &Verb {
        self.verb.as_ref().unwrap_or(&Verb::Run)
    }

    /// The configuration. One that names several registries is not resolved yet: each of them is, when its turn comes.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn config(&self, environment: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
        let mut config = Config::read(self.config_file())?;
        if config.registries.is_empty() {
            config.resolve(self.config_file(), environment)?;
        }
        Ok(config)
    }

    /// What standard output carries, for the verbs that know two forms.
    #[must_use]
    pub const fn two_forms(&self) -> Output {
        match self.output {
            Form::Json => Output::Json,
            Form::Text | Form::Csv => Output::Text,
        }
    }
}

/// What standard output carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// For spreadsheets, from usage
    Csv,
}

/// Which storage is meant. Without either option the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StorageArguments {
    /// The registry's storage: the directory that its configuration calls rootdirectory
    #[arg(long, value_name = "DIR")]
    pub storage: Option<PathBuf>,
    /// The registry's own configuration file, which says where it stores
    #[arg(long, value_name = "FILE")]
    pub registry_config: Option<PathBuf>,
}

impl StorageArguments {
    /// Whether a storage was named at all.
    #[must_use]
    pub const fn is_named(&self) -> bool {
        self.storage.is_some() || self.registry_config.is_some()
    }

    /// The configuration, with the storage that was named in place of its own and of those of several registries. Where a storage was named, there need not be a
    /// configuration file, unless one was named, too.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn config(
        &self,
        arguments: &Arguments,
        environment: &BTreeMap<String, String>,
    ) -> Result<Config, ConfigError> {
        let needs_no_file = self.is_named() && arguments.config.is_none();
        let mut config = if needs_no_file && !arguments.config_file().exists() {
            Config::empty()
        } else {
            Config::read(arguments.config_file())?
        };
        if self.is_named() || config.registries.is_empty() {
            config.resolve(arguments.config_file(), environment)?;
        }
        if self.is_named() {
            config.registries.clear();
            // It was said where: neither the address nor the container of some other registry has a say.
            config.registry.url.clear();
            config.registry.container.clear();
            config.storage = StorageSection {
                directory: self.storage.clone(),
                registry_config: self.registry_config.clone(),
                ..StorageSection::default()
            };
        }
        Ok(config)
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Do the whole job (the default)
    #[command(after_help = examples::RUN)]
    Run,
    /// Show what run would do, and why; nothing is changed
    #[command(after_help = examples::PLAN)]
    Plan {
        /// Save the plan, to be reviewed and given to apply; of several registries a file each in this directory
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Show what stays as well, with all the reasons
        #[arg(long)]
        all: bool,
        /// Show what the policy of another configuration would do differently, tag by tag and in bytes
        #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "all"])]
        compare: Option<PathBuf>,
    },
    /// Do exactly what a saved plan says; what has changed since is left alone
    #[command(after_help = examples::APPLY)]
    Apply {
        /// The plan, or a directory with plans for several registries
        file: PathBuf,
    },
    /// Say why something stays or goes: every reason, the date used and where it was found, who needs it
    #[command(after_help = examples::EXPLAIN)]
    Explain {
        /// REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST
        reference: String,
    },
    /// Put back what a run deleted, as long as its garbage has not been collected
    #[command(after_help = examples::UNDO)]
    Undo {
        /// The run, as listed by runs [default: the last one that is not an undo and has not been undone]
        run: Option<String>,
    },
    /// List the runs on this registry and what became of them
    #[command(after_help = examples::RUNS)]
    Runs,
    /// Remove from the storage what nobody needs, and lose nothing while people push
    ///
    /// It needs the storage alone: clean-registry gc --storage /var/lib/registry. A config.json in the current directory, or what
    /// --config names, is read as well: its garbage_collection, and its storage where neither --storage nor --registry-config is given.
    #[command(after_help = examples::GC)]
    Gc(GcArguments),
    /// Show what takes the room: bytes by repository or by tag, as they lie in the storage
    #[command(after_help = examples::USAGE)]
    Usage {
        /// The storage.
        #[command(flatten)]
        storage: StorageArguments,
        /// A line for each of these
        #[arg(long, value_enum, default_value_t = By::Repository)]
        by: By,
    },
    /// Find what is broken or left over in the storage; nothing is changed without --repair
    #[command(after_help = examples::CHECK)]
    Check {
        /// The storage.
        #[command(flatten)]
        storage: StorageArguments,
        /// Read every blob and every link whole, and compare them with their digests
        #[arg(long)]
        verify_content: bool,
        /// Rewrite links that are lost or damaged and whose content is certain; nothing is removed
        #[arg(long)]
        repair: bool,
    },
    /// Prove that every tag can be pulled: that all it leads to is stored, in the right size
    #[command(after_help = examples::VERIFY)]
    Verify {
        /// The storage.
        #[command(flatten)]
        storage: StorageArguments,
    },
    /// Look at the configuration
    #[command(after_help = examples::CONFIG)]
    Config {
        /// What to look at it for
        #[command(subcommand)]
        what: ConfigVerb,
    },
    /// Show the whole job on a sample registry of its own; needs nothing else
    #[command(after_help = examples::DEMO)]
    Demo {
        /// Keep the sample registry's directory
        #[arg(long)]
        keep: bool,
    },
    /// Print the completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = examples::MAN)]
    Man,
}

impl Verb {
    /// Which storage a verb is about that needs no more than a storage.
    #[must_use]
    pub const fn storage(&self) -> Option<&StorageArguments> {
        match self {
            Self::Gc(gc) => Some(&gc.place),
            Self::Usage { storage, .. } | Self::Check { storage, .. } | Self::Verify { storage } => {
                Some(storage)
            }
            _ => None,
        }
    }

    /// Whether it is to change a registry: then the log is what is read.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::Run | Self::Apply { .. } | Self::Undo { .. } => true,
            Self::Gc(gc) => !gc.plan,
            _ => false,
        }
    }
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
    #[arg(long, value_name = "AGE", num_args = 0..=1)]
    pub untagged: Option<Option<AgeText>>,
    /// Remove uploads that nobody continued for AGE [default: 7d]
    #[arg(long, value_name = "AGE", num_args = 0..=1)]
    pub uploads: Option<Option<AgeText>>,
    /// Remove temporary files that a crash of the registry left AGE ago [default: 24h]
    #[arg(long, value_name = "AGE", num_args = 0..=1)]
    pub temporary_files: Option<Option<AgeText>>,
    /// Remove repositories that have been empty for AGE [default: 24h]
    #[arg(long, value_name = "AGE", num_args = 0..=1)]
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

/// What a line of the usage is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A repository
    Repository,
    /// A tag, and in each repository all that has none
    Tag,
}

/// What to look at a configuration for.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigVerb {
    /// Check the file, and tell what in its policy cannot have been meant or comes to nothing
    Check {
        /// Look at the registry as well: patterns that match nothing there, repositories that would be emptied
        #[arg(long)]
        online: bool,
    },
    /// Print the JSON Schema of the file
    Schema {
        /// That of a file of cases for config test
        #[arg(long)]
        cases: bool,
    },
    /// Read the policy, what is in use, limits and the collection back as plain sentences
    Explain,
    /// Try the policy on a table of tags and what ought to become of each
    #[command(after_help = examples::CASES)]
    Test {
        /// The table, JSON or YAML
        file: PathBuf,
    },
}

impl ConfigVerb {
    /// Whether the registry is asked.
    #[must_use]
    pub const fn is_online(&self) -> bool {
        matches!(self, Self::Check { online: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn a_named_storage_needs_no_configuration_file() {
        let arguments = parsed("clean-registry check --storage /srv/registry");
        let Some(Verb::Check { storage, .. }) = &arguments.verb else { panic!("{arguments:?}") };
        let config = storage.config(&arguments, &BTreeMap::new()).unwrap();
        assert_eq!(config.storage.directory.as_deref(), Some(Path::new("/srv/registry")));
    }

    #[test]
    fn an_age_follows_its_option_with_or_without_a_sign_between_or_not_at_all() {
        let week = Some(Some("7d".parse().unwrap()));
        for (line, untagged) in [
            ("gc --untagged 7d --plan", week),
            ("gc --untagged=7d --plan", week),
            ("gc --untagged --plan", Some(None)),
            ("gc --plan --untagged", Some(None)),
            ("gc --plan", None),
        ] {
            let arguments = parsed(&format!("clean-registry {line}"));
            let Some(Verb::Gc(gc)) = arguments.verb else { panic!("{arguments:?}") };
            assert_eq!((gc.untagged, gc.plan), (untagged, true), "{line}");
        }
    }

    #[test]
    fn a_named_configuration_file_has_to_be_there() {
        let arguments = parsed("clean-registry check --storage /srv/registry --config /nowhere.json");
        let Some(Verb::Check { storage, .. }) = &arguments.verb else { panic!("{arguments:?}") };
        assert!(storage.config(&arguments, &BTreeMap::new()).is_err());
        let arguments = parsed("clean-registry verify");
        assert!(StorageArguments::default().config(&arguments, &BTreeMap::new()).is_err());
    }
}
