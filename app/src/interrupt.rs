//! Ctrl-C and SIGTERM: finish the step at hand and stop; a second one stops at once.

use tokio::sync::watch;

use crate::failure::Exit;

/// Whether the user wants to stop.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for signals from now on.
    #[must_use]
    pub fn listen() -> Self {
        let (set, interrupt) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                wait_for_signal().await;
                if set.send_replace(true) {
                    std::process::exit(Exit::Interrupted as i32);
                }
                tracing::warn!("interrupted: stopping after the step at hand; once more stops at once");
            }
        });
        Self(interrupt)
    }

    /// Whether it is time to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is time to stop.
    pub async fn set(&self) {
        let mut set = self.0.clone();
        if set.wait_for(|set| *set).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}
