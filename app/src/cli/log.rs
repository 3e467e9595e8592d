//! The log: `YYYY-MM-DD HH:MM:SS [LEVEL] message`, to the terminal and to a file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::report::REPORTED;

/// Where log lines go beside the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Standard output: the log is the result.
    Stdout,
    /// Standard error: standard output carries the result.
    Stderr,
}

/// The target of what ends a run. It is told on standard error in any case, so the terminal hears of it once.
pub const FAILURE: &str = "clean_registry::failure";

/// Whether it is said that there is no log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It was asked for, or what is done should be on record.
    Warn,
    /// Nothing is changed that should be on record.
    Bear,
}

/// Begins to log. A file that cannot be written is done without, and warned of once if it is `missing` to somebody.
///
/// `debug` is the value of the environment's `DEBUG`.
pub fn begin(terminal: Terminal, file: &Path, missing: Missing, debug: Option<&str>) {
    let level = if debug.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        Level::DEBUG
    } else {
        Level::INFO
    };
    let opened = open(file);
    let failed = opened.as_ref().err().map(ToString::to_string);
    let tells_failures = terminal == Terminal::Stdout && !is_one_place();
    let lines = Lines { terminal, tells_failures, file: opened.ok().map(Mutex::new), level };
    if tracing_subscriber::registry().with(lines).try_init().is_ok()
        && let Some(error) = failed.filter(|_| missing == Missing::Warn)
    {
        tracing::warn!("no log file: {}: {error}; --log-file or log.file names another", file.display());
    }
}

fn open(file: &Path) -> io::Result<File> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    File::options().create(true).append(true).open(file)
}

/// Whether standard output and standard error are the same terminal, file or pipe. A terminal has several names; two of them
/// before one person are one place all the same.
fn is_one_place() -> bool {
    if io::stdout().is_terminal() && io::stderr().is_terminal() {
        return true;
    }
    let place = |stream: BorrowedFd<'_>| {
        let metadata = File::from(stream.try_clone_to_owned()?).metadata()?;
        Ok::<_, io::Error>((metadata.dev(), metadata.ino()))
    };
    let places = (place(io::stdout().as_fd()), place(io::stderr().as_fd()));
    matches!(places, (Ok(stdout), Ok(stderr)) if stdout == stderr)
}

struct Lines {
    terminal: Terminal,
    /// Whether failures go to the terminal, too.
    tells_failures: bool,
    file: Option<Mutex<File>>,
    level: Level,
}

/// The span of what is done on one of several registries: every line that is logged in it begins with the name.
#[must_use]
pub fn registry_span(name: &str) -> Span {
    tracing::error_span!("registry", name)
}

/// The name of a registry, kept with its span.
struct Named(String);

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let metadata = attributes.metadata();
        if metadata.name() == "registry" && metadata.target().starts_with("clean_registry") {
            let mut name = Message::default();
            attributes.record(&mut name);
            if let Some(span) = ctx.span(id) {
                span.extensions_mut().insert(Named(name.0));
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > self.level || !metadata.target().starts_with("clean_registry") {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let now = Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
        let level = if *metadata.level() == Level::WARN { "WARNING" } else { metadata.level().as_str() };
        let line = format!("{now} [{level}] {}{}\n", registry(event, &ctx), message.0);
        // A log that cannot be written stops nothing: the journal is what has to be.
        let is_told = match metadata.target() {
            FAILURE => self.tells_failures,
            REPORTED => self.terminal == Terminal::Stderr,
            _ => true,
        };
        if is_told {
            let _ = match self.terminal {
                Terminal::Stdout => io::stdout().write_all(line.as_bytes()),
                Terminal::Stderr => io::stderr().write_all(line.as_bytes()),
            };
        }
        if let Some(file) = &self.file {
            let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        }
    }
}

/// The name of the registry that a line is about, where there are several, and a colon.
fn registry<S: Subscriber + for<'l> LookupSpan<'l>>(event: &Event<'_>, ctx: &Context<'_, S>) -> String {
    let mut spans = ctx.event_scope(event).into_iter().flatten();
    let name = spans.find_map(|span| span.extensions().get::<Named>().map(|named| format!("{}: ", named.0)));
    name.unwrap_or_default()
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.0.push_str(value);
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}
