//! A server of an object store: a program on a port of its own, ended when it is dropped.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No test takes longer; a server whose test was killed ends by itself.
const SECONDS: &str = "600";
/// How long one may take to start.
const START: Duration = Duration::from_secs(30);

/// A running server.
pub struct Server {
    child: Child,
    /// The port it listens on, of 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// Starts the program that `variable` names, with the arguments that `arguments` makes of a free port.
    pub fn start(
        variable: &str,
        environment: &[(&str, &str)],
        arguments: impl Fn(u16) -> Vec<String>,
    ) -> Self {
        let program =
            std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test"));
        let port = free_port();
        let child = Command::new("timeout")
            .args(["--kill-after=5", SECONDS, &program])
            .args(arguments(port))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        server.wait();
        server
    }

    fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < START, "the server did not start");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The process that ends it when it is told to end.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `timeout` hands the signal on; killed outright it would leave the server behind.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Not every server tells the port that the system gave it: one that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory for its files, in one that holds nothing else.
pub fn folder(directory: &tempfile::TempDir, name: &str) -> PathBuf {
    let folder = directory.path().join(name);
    std::fs::create_dir(&folder).unwrap();
    folder
}
