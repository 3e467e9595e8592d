//! The in-process registry, in a process of its own.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clean_registry::demo::server::{Behaviour, Server};

/// Serves the storage below `root`: prints the address, and ends when standard input does.
///
/// # Errors
/// If the registry cannot be started.
pub fn run(root: &Path) -> io::Result<()> {
    let server = Server::start(root, Behaviour::default())?;
    println!("{}", server.url().trim_start_matches("http://"));
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    server.stop();
    Ok(())
}

/// Such a process; dropping it ends it.
#[derive(Debug)]
pub struct Serving {
    process: Child,
    address: SocketAddr,
}

impl Serving {
    /// Starts one over the storage below `root`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(root: &Path) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg(root).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { process, address })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
