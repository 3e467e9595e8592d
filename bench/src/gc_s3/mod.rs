//! Our plan-only collection of an object store beside the dry run of registry 3.1.1: requests, which depend on the bucket alone, and
//! seconds behind a latency.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clean_registry::storage::spec::Spec;
use clean_registry::storage::{Storage, absolute};
use clean_registry_bench::generate::made::Made;
use clean_registry_bench::generate::{Shape, render};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::server::{Server, parameters, write_config};
use crate::finding::Finding;
use crate::proxy::{Delay, Proxy};

mod server;

/// How many times faster than registry 3.1.1 at least.
const FASTER: f64 = 50.0;
/// Keys on a page of a listing.
const PAGE: usize = 1000;
/// What a collection asks beside keys and files, whatever the size: the scheduler of a pull-through cache, uploads under way, the
/// quarantine.
const BESIDE: usize = 3;
/// Files written at a time.
const WRITES: usize = 64;

/// What is asked for on the command line.
struct Options {
    shape: Shape,
    delay: Duration,
}

/// What a run sent and took.
#[derive(Debug)]
struct Run {
    wall: Duration,
    /// Requests by what they are: `list`, `get`, `head`, and the method of any other.
    requests: BTreeMap<String, usize>,
}

impl Run {
    fn all(&self) -> usize {
        self.requests.values().sum()
    }

    fn of(&self, kind: &str) -> usize {
        self.requests.get(kind).copied().unwrap_or_default()
    }

    /// Requests that are no questions.
    fn changing(&self) -> usize {
        self.all() - ["list", "get", "head"].iter().map(|kind| self.of(kind)).sum::<usize>()
    }

    fn told(&self, name: &str) -> Finding {
        let Self { wall, requests } = self;
        let kinds: Vec<String> = requests.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
        let figure = format!("{} ({}), {:.2} s", self.all(), kinds.join(", "), wall.as_secs_f64());
        Finding::told(format!("gc-s3: {name}: requests, seconds"), figure)
    }
}

/// A bucket behind a latency.
struct Place {
    server: Server,
    proxy: Proxy,
    config: PathBuf,
    directory: TempDir,
}

/// Fills a bucket and measures. Seconds are required only where there is a latency.
///
/// # Errors
/// If a server or a command fails.
pub fn run(arguments: &[&str]) -> io::Result<Vec<Finding>> {
    let options = Options::read(arguments)?;
    let server = Server::start()?;
    let keys = fill(&server, &options.shape)?;
    let half = Delay { request: options.delay / 2, answer: options.delay - options.delay / 2 };
    let proxy = Proxy::start(server.address(), half)?;
    let directory = TempDir::new()?;
    let config = write_config(&directory, proxy.address())?;
    let place = Place { server, proxy, config, directory };
    let made = Made::of(&options.shape);
    let pages = keys.blobs.div_ceil(PAGE) + keys.repositories.div_ceil(PAGE);
    eprintln!("{} keys on {pages} pages at {}", keys.blobs + keys.repositories, place.server.address());
    let mut findings = vec![Finding::told("gc-s3: keys, manifests, tags", {
        format!("{}, {}, {}", keys.blobs + keys.repositories, made.manifests, made.tags)
    })];
    findings.extend(place.ours(&[], pages, made.manifests)?);
    let untagged = place.ours(&["--untagged"], pages, made.manifests + made.tags)?;
    findings.extend(untagged);
    findings.extend(place.against_the_registry(&options)?);
    Ok(findings)
}

impl Options {
    fn read(arguments: &[&str]) -> io::Result<Self> {
        let (mut delay, mut shape) = (5, vec!["--repositories", "10", "--tags", "50"]);
        for pair in arguments.chunks(2) {
            match pair {
                ["--delay", milliseconds] => delay = milliseconds.parse().map_err(io::Error::other)?,
                others => shape.extend(others),
            }
        }
        Ok(Self { shape: Shape::read(&shape)?.0, delay: Duration::from_millis(delay) })
    }
}

impl Place {
    /// A first and a second run of ours, and what is required of them.
    fn ours(&self, more: &[&str], pages: usize, reads: usize) -> io::Result<Vec<Finding>> {
        let name = ["ours"].iter().chain(more).copied().collect::<Vec<_>>().join(" ");
        let state = self.directory.path().join(format!("state{}", more.concat()));
        let (first, second) = (self.plan(&state, more)?, self.plan(&state, more)?);
        // Where a listing is split, a part of it may end before its page does.
        let listings = pages as f64 * 1.1 + BESIDE as f64;
        let at_most = |what: &str, figure: usize, limit: f64| {
            Finding::at_most(format!("gc-s3: {name}: {what}"), figure as f64, limit)
        };
        Ok(vec![
            first.told(&format!("{name}, first run")),
            second.told(&format!("{name}, second run")),
            at_most("requests of the first run", first.all(), listings + reads as f64),
            at_most("listings of the first run", first.of("list"), listings),
            at_most("requests of the second run", second.all(), listings),
            at_most("requests that change something", first.changing() + second.changing(), 0.0),
        ])
    }

    /// The dry run of registry 3.1.1 and ours in a new state, one after the other.
    fn against_the_registry(&self, options: &Options) -> io::Result<Vec<Finding>> {
        let variable = "CLEAN_REGISTRY_TEST_REGISTRY_3";
        let program = std::env::var(variable)
            .map_err(|_| io::Error::other(format!("{variable} names no registry; see README.md")))?;
        let ours = self.plan(&self.directory.path().join("fresh"), &[])?;
        let mut command = Command::new(program);
        command.args(["garbage-collect", "--dry-run"]).arg(&self.config);
        command.env("OTEL_TRACES_EXPORTER", "none");
        let theirs = self.measure(&mut command)?;
        let ratio = theirs.wall.as_secs_f64() / ours.wall.as_secs_f64();
        let faster = match options.delay.is_zero() {
            true => Finding::told("gc-s3: times faster than 3.1.1", format!("{ratio:.1}")),
            false => Finding::at_least("gc-s3: times faster than 3.1.1", ratio, FASTER),
        };
        Ok(vec![ours.told("ours"), theirs.told("3.1.1 --dry-run"), faster])
    }

    fn plan(&self, state: &Path, more: &[&str]) -> io::Result<Run> {
        let program = std::env::current_exe()?.with_file_name("clean-registry");
        let mut command = Command::new(program);
        command.args(["gc", "--plan", "--grace", "0s", "--log-file"]).arg(self.directory.path().join("log"));
        command.arg("--state-dir").arg(state).arg("--registry-config").arg(&self.config).args(more);
        self.measure(command.current_dir(self.directory.path()))
    }

    fn measure(&self, command: &mut Command) -> io::Result<Run> {
        self.proxy.take_lines();
        let begun = Instant::now();
        let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output()?;
        let wall = begun.elapsed();
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let mut requests = BTreeMap::new();
        for line in self.proxy.take_lines() {
            *requests.entry(kind(&line)).or_default() += 1;
        }
        eprintln!("{:8.2} s  {requests:?}", wall.as_secs_f64());
        Ok(Run { wall, requests })
    }
}

fn kind(line: &str) -> String {
    let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    match method {
        "GET" if ["prefix=", "list-type=", "uploads"].iter().any(|word| query.contains(word)) => {
            "list".to_owned()
        }
        "GET" | "HEAD" => method.to_lowercase(),
        other => other.to_owned(),
    }
}

/// How many keys there are, in the two areas that are listed.
#[derive(Debug, Default)]
struct Keys {
    blobs: usize,
    repositories: usize,
}

/// Writes what `shape` describes into the bucket.
fn fill(server: &Server, shape: &Shape) -> io::Result<Keys> {
    let parameters = parameters(server.address());
    let parameters = parameters.as_object().cloned().unwrap_or_default();
    let storage = Spec::of("s3", &parameters).and_then(|spec| spec.open(&BTreeMap::new()));
    let storage = storage.map_err(io::Error::other)?;
    let mut files = BTreeMap::new();
    let mut sink = |file: render::File<'_>| {
        files.insert(absolute(file.key), file.bytes.to_vec());
        Ok(())
    };
    for part in shape.parts() {
        render::files(shape, part, Timestamp::now(), &mut sink)?;
    }
    let blobs = files.keys().filter(|key| key.starts_with(&absolute("blobs/"))).count();
    let keys = Keys { blobs, repositories: files.len() - blobs };
    tokio::runtime::Runtime::new()?.block_on(write_all(storage, files))?;
    Ok(keys)
}

async fn write_all(storage: Arc<dyn Storage>, files: BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let mut writes = JoinSet::new();
    for (key, bytes) in files {
        let storage = Arc::clone(&storage);
        writes.spawn(async move { storage.write(&key, bytes).await });
        if writes.len() >= WRITES {
            finish(&mut writes).await?;
        }
    }
    while !writes.is_empty() {
        finish(&mut writes).await?;
    }
    Ok(())
}

async fn finish(writes: &mut JoinSet<Result<(), clean_registry::storage::StorageError>>) -> io::Result<()> {
    match writes.join_next().await {
        Some(written) => written.map_err(io::Error::other)?.map_err(io::Error::other),
        None => Ok(()),
    }
}
