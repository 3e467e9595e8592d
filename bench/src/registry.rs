//! A real registry, as a process over a storage.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

/// A running registry; dropping it ends it.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Registry {
    /// Starts `program` over the storage below `root`, with the blob descriptor cache that most configurations turn on.
    ///
    /// # Errors
    /// If it cannot be started, or does not listen within ten seconds.
    pub fn start(program: &Path, root: &Path) -> io::Result<Self> {
        let address = free_address()?;
        let directory = TempDir::new()?;
        let config = directory.path().join("config.yml");
        std::fs::write(&config, configuration(root, address).to_string())?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self {
            process: command.env("OTEL_TRACES_EXPORTER", "none").spawn()?,
            address,
            _directory: directory,
        };
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(error) = TcpStream::connect(address) {
            if Instant::now() > until {
                return Err(error);
            }
            sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// The seconds of processor time it has used so far: fields 14 and 15, in hundredths on Linux.
    /// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields = after_name.split_whitespace().skip(11).take(2);
        Ok(fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// JSON is YAML.
fn configuration(root: &Path, address: SocketAddr) -> serde_json::Value {
    json!({
        "version": "0.1",
        "log": { "level": "error", "accesslog": { "disabled": true } },
        "storage": {
            "filesystem": { "rootdirectory": root },
            "cache": { "blobdescriptor": "inmemory" },
            "delete": { "enabled": true },
        },
        "http": { "addr": address.to_string() },
    })
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
