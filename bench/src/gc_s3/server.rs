//! An object store to measure on: versitygw over a local directory, with one bucket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

const VARIABLE: &str = "CLEAN_REGISTRY_TEST_S3";
const BUCKET: &str = "registry";
/// The key of its only user, and the secret of it.
const KEY: (&str, &str) = ("robot", "secretsecret");
/// It takes no longer to start, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Server {
    /// Starts one with an empty bucket.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> io::Result<Self> {
        let program = std::env::var(VARIABLE)
            .map_err(|_| io::Error::other(format!("{VARIABLE} names no versitygw; see README.md")))?;
        let directory = TempDir::new()?;
        let files = directory.path().join("files");
        // What lies in its directory are its buckets.
        std::fs::create_dir_all(files.join(BUCKET))?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(program);
        command.args(["--port", &address.to_string(), "--quiet", "posix"]).arg(files);
        command.env("ROOT_ACCESS_KEY", KEY.0).env("ROOT_SECRET_KEY", KEY.1);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { process, address, _directory: directory };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the object store does not answer"));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// How a registry is configured for the bucket, which it reaches at `address`.
pub fn parameters(address: SocketAddr) -> Value {
    json!({"accesskey": KEY.0, "secretkey": KEY.1, "region": "us-east-1", "bucket": BUCKET,
        "regionendpoint": format!("http://{address}"), "forcepathstyle": true, "secure": false})
}

/// The configuration of a registry that stores at `address`, in a file.
///
/// # Errors
/// If it cannot be written.
pub fn write_config(directory: &TempDir, address: SocketAddr) -> io::Result<PathBuf> {
    let path = directory.path().join(format!("{}.yml", address.port()));
    let storage =
        json!({"s3": parameters(address), "delete": {"enabled": true}, "redirect": {"disable": true}});
    // JSON is YAML.
    let config = json!({"version": "0.1", "log": {"level": "error"}, "storage": storage,
        "http": {"addr": "127.0.0.1:0"}});
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}
