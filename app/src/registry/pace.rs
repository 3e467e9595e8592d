//! How fast requests may follow each other.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Spaces requests evenly, and holds them all back while the registry asks for a pause.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// At most `per_second` requests; `None`, or a number that is none, is no limit.
    pub(super) fn new(per_second: Option<f64>) -> Self {
        let interval = per_second.and_then(|rate| Duration::try_from_secs_f64(rate.recip()).ok());
        Self { interval: interval.unwrap_or_default(), next: Mutex::new(Instant::now()) }
    }

    /// Returns when the next request may start.
    pub(super) async fn turn(&self) {
        let (now, turn) = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = (*next).max(now);
            *next = turn.checked_add(self.interval).unwrap_or(turn);
            (now, turn)
        };
        // Even a sleep that is over lasts until the timer's next tick, up to a millisecond.
        if turn > now {
            sleep_until(turn).await;
        }
    }

    /// Lets no request start for the time of `pause`.
    pub(super) fn hold(&self, pause: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_spaced() {
        let pace = Pace::new(Some(50.0));
        let start = Instant::now();
        for _ in 0..4 {
            pace.turn().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(60));
    }

    #[tokio::test]
    async fn a_pause_holds_everyone_and_no_limit_holds_nobody() {
        for rate in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            let pace = Pace::new(rate);
            let start = Instant::now();
            for _ in 0..1000 {
                pace.turn().await;
            }
            assert!(start.elapsed() < Duration::from_millis(500), "{rate:?}");
            pace.hold(Duration::from_millis(50));
            pace.turn().await;
            assert!(start.elapsed() >= Duration::from_millis(50), "{rate:?}");
        }
    }
}
