//! How far long work is: a bar on a terminal, a line now and then elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows how far the work is. The bar is drawn on standard error: standard output is for results.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// When the last line was written, where lines are.
    lines: Option<Mutex<Instant>>,
}

impl Progress {
    /// A bar if standard error is a terminal, else lines in the log.
    #[must_use]
    pub fn new() -> Self {
        Self::of(ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()))
    }

    /// One of several, told apart by its name.
    #[must_use]
    pub fn among(all: &MultiProgress, name: &str) -> Self {
        Self::of(all.add(ProgressBar::new(0)).with_prefix(format!("{name} ")))
    }

    fn of(bar: ProgressBar) -> Self {
        if let Ok(style) = ProgressStyle::with_template("{prefix}{msg:8} [{bar:30}] {pos}/{len} {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        let lines = bar.is_hidden().then(|| Mutex::new(Instant::now()));
        Self { bar, lines }
    }

    /// Begins a stretch of work of `length` steps, as far as is known.
    pub fn begin(&self, name: &'static str, length: usize) {
        self.bar.set_message(name);
        self.bar.set_length(length as u64);
        self.bar.reset();
        if self.lines.is_none() {
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// There are more steps than was known.
    pub fn grow(&self, steps: usize) {
        self.bar.inc_length(steps as u64);
    }

    /// One step is done.
    pub fn step(&self) {
        self.bar.inc(1);
        let Some(last) = &self.lines else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            tracing::info!("{}: {done} of {all}", self.bar.message());
        }
    }

    /// The stretch is over; the bar goes away.
    pub fn end(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }

    /// Runs `write` with the bar out of the way.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
