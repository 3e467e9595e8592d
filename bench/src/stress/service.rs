//! A real registry that can be stopped and started, by this program and by the commands of a collector that it runs.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// It takes no longer to start, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);
/// Below the ports that the system gives to connections: while the registry is stopped no client may come to listen there.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;

/// What runs.
#[derive(Debug, Default)]
enum Process {
    #[default]
    None,
    Running(Child),
    /// Nothing is to be started any more.
    Over,
}

/// A registry. Dropping it ends it.
#[derive(Debug)]
pub struct Service {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    process: Mutex<Process>,
}

impl Service {
    /// Starts `program` with the configuration that `template` makes, which is written into `directory`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(program: &Path, template: &str, directory: &Path) -> io::Result<Self> {
        let address = free_address()?;
        let config = directory.join("config.yml");
        std::fs::write(&config, template.replace("{ADDR}", &address.to_string()))?;
        let (program, log) = (program.to_owned(), directory.join("registry.log"));
        let service = Self { program, config, log, address, process: Mutex::default() };
        service.open()?;
        Ok(service)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its program, to be run for another purpose.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // Its driver for S3 panics over one (2.8).
        command.env_remove("AWS_CA_BUNDLE").env("OTEL_TRACES_EXPORTER", "none");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts it, unless it runs, and waits until it answers.
    ///
    /// # Errors
    /// If it does not.
    pub fn open(&self) -> io::Result<()> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        match *process {
            Process::None => {}
            Process::Running(_) => return Ok(()),
            Process::Over => return Err(io::Error::other("the stress is over")),
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut child = self.command().arg("serve").arg(&self.config).stderr(log).spawn()?;
        let until = Instant::now() + PATIENCE;
        while !answers(self.address) {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!(
                    "the registry ended: {status}; {}",
                    self.log.display()
                )));
            }
            if Instant::now() > until {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the registry does not answer"));
            }
            sleep(Duration::from_millis(5));
        }
        *process = Process::Running(child);
        Ok(())
    }

    /// Ends it and waits until it has: no request is alive afterwards.
    ///
    /// # Errors
    /// If it cannot be told to end.
    pub fn close(&self) -> io::Result<()> {
        self.leave(Process::None)
    }

    /// Ends it for good: a collector that was broken off may still ask for it to be started.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn end(&self) -> io::Result<()> {
        self.leave(Process::Over)
    }

    fn leave(&self, next: Process) -> io::Result<()> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*process, Process::Over) {
            return Ok(());
        }
        let Process::Running(mut child) = std::mem::replace(&mut *process, next) else { return Ok(()) };
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        child.wait().map(drop)
    }

    fn obey(&self, wish: &str) -> io::Result<()> {
        match wish {
            "stop" => self.close(),
            "start" => self.open(),
            "restart" => self.close().and_then(|()| self.open()),
            other => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no such wish: {other}"))),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn free_address() -> io::Result<SocketAddr> {
    let first = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap_or_default();
    let ports = (0..PORTS).map(|step| FIRST_PORT + (first + step * 7) % PORTS);
    let mut free = ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    free.next().ok_or_else(|| io::Error::other("no port is free"))?.local_addr()
}

fn answers(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /v2/ HTTP/1.0\r\nHost: registry\r\n\r\n")?;
        let mut begin = [0; 7];
        stream.read_exact(&mut begin)?;
        io::Result::Ok(begin == *b"HTTP/1.")
    };
    ask().unwrap_or(false)
}

/// Lets other processes stop and start a registry by way of a socket; dropping it ends that.
#[derive(Debug)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// Listens at `socket`.
    ///
    /// # Errors
    /// If it cannot.
    pub fn listen(service: Arc<Service>, socket: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Who hangs up has no wish.
                if heed(&service, stream).is_ok_and(|goes_on| !goes_on) {
                    return;
                }
            }
        });
        Ok(Self { socket })
    }

    /// The shell command of a wish.
    ///
    /// # Errors
    /// If this program does not know where it is.
    pub fn command(&self, wish: &str) -> io::Result<String> {
        let program = std::env::current_exe()?;
        Ok(format!("'{}' stress-control '{}' {wish}", program.display(), self.socket.display()))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = ask(&self.socket, "quit");
    }
}

fn heed(service: &Service, mut stream: UnixStream) -> io::Result<bool> {
    let mut wish = String::new();
    BufReader::new(&stream).read_line(&mut wish)?;
    let wish = wish.trim();
    if wish != "quit" {
        match service.obey(wish) {
            Ok(()) => writeln!(stream, "done")?,
            Err(error) => writeln!(stream, "{error}")?,
        }
    }
    Ok(wish != "quit")
}

/// Asks the stress that listens at `socket` to `stop`, `start` or `restart` its registry, and waits until that is done.
///
/// # Errors
/// If it is not done.
pub fn ask(socket: impl AsRef<Path>, wish: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    writeln!(stream, "{wish}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim() {
        "done" => Ok(()),
        other => Err(io::Error::other(format!("not done: {other}"))),
    }
}
