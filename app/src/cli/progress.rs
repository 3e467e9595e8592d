//! How far long work is: a bar on a terminal, a line now and then elsewhere, nothing where nobody looks.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far the work is. It writes to standard error: standard output is for results.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar, if standard error is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if bar.is_hidden() {
            return Self::hidden();
        }
        if let Ok(style) = ProgressStyle::with_template("{msg:8} [{bar:30}] {pos}/{len} {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar: Some(bar) }
    }

    /// Shows nothing.
    #[must_use]
    pub const fn hidden() -> Self {
        Self { bar: None }
    }

    /// Begins a stretch of work of `length` steps, as far as is known.
    pub fn begin(&self, name: &'static str, length: usize) {
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(length as u64);
            bar.set_message(name);
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// There are more steps than was known.
    pub fn grow(&self, steps: usize) {
        if let Some(bar) = &self.bar {
            bar.inc_length(steps as u64);
        }
    }

    /// One step is done.
    pub fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// The stretch is over; the bar goes away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    /// Runs `write` with the bar out of the way.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
