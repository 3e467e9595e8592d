//! A survey of real registries with a delay in between: requests counted, wall time beside that of a serial script.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cleaner::{Cleaner, SCRIPTS};
use crate::fill::Shape;
use crate::finding::{Finding, median};
use crate::proxy::{Counts, Delay, Kind, Proxy};
use crate::registry::Registry;

const SHAPE: Shape = Shape { repositories: 20, tags: 101, indexes: 1 };
/// Five milliseconds each way.
pub const FAR: Delay = Delay { request: Duration::from_millis(5), answer: Duration::from_millis(5) };
const ROUNDS: usize = 3;
const FASTER: f64 = 12.0;

/// Reads a delay: the milliseconds to the registry, and back.
///
/// # Errors
/// If they are no numbers.
pub fn delay(request: &str, answer: &str) -> io::Result<Delay> {
    let read = |text: &str| text.parse().map(Duration::from_millis).map_err(io::Error::other);
    Ok(Delay { request: read(request)?, answer: read(answer)? })
}

/// Surveys both generations of Distribution: 2.8 as the system has it, 3 where the environment says.
///
/// # Errors
/// If a part cannot be started or fails.
pub fn run(delay: Delay) -> io::Result<Vec<Finding>> {
    let three = distribution_3()?;
    let root = TempDir::new()?;
    SHAPE.fill(root.path())?;
    let registries = [("3.1", three), ("2.8", PathBuf::from("docker-registry"))];
    let findings = registries.map(|(name, program)| one(name, &program, root.path(), delay));
    Ok(findings.into_iter().collect::<io::Result<Vec<_>>>()?.concat())
}

/// Keeps Distribution 3 with that delay, and prints where, until standard input ends: to be profiled.
///
/// # Errors
/// As [`run`].
pub fn behind(delay: Delay) -> io::Result<()> {
    let root = TempDir::new()?;
    SHAPE.fill(root.path())?;
    let registry = Registry::start(&distribution_3()?, root.path())?;
    let proxy = Proxy::start(registry.address(), delay)?;
    println!("{} behind {}", registry.address(), proxy.address());
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn distribution_3() -> io::Result<PathBuf> {
    let named = std::env::var_os("CLEAN_REGISTRY_TEST_REGISTRY_3").map(PathBuf::from);
    named.ok_or_else(|| io::Error::other("CLEAN_REGISTRY_TEST_REGISTRY_3 names no Distribution 3"))
}

#[derive(Default)]
struct Times {
    cold: Vec<f64>,
    warm: Vec<f64>,
    serial: Vec<f64>,
    /// What the registry itself worked for a cold survey: nobody can be done sooner than the processors with that.
    registry: Vec<f64>,
}

fn one(name: &str, program: &Path, root: &Path, delay: Delay) -> io::Result<Vec<Finding>> {
    let registry = Registry::start(program, root)?;
    // Fills the caches of the registry and the system, for both alike.
    Cleaner::new(registry.address())?.plan(SHAPE.all_tags())?;
    let proxy = Proxy::start(registry.address(), delay)?;
    let cleaner = Cleaner::new(proxy.address())?;
    let (mut times, mut cold, mut warm) = (Times::default(), Counts::new(), Counts::new());
    for _ in 0..ROUNDS {
        cleaner.forget()?;
        let before = registry.cpu_seconds()?;
        times.cold.push(cleaner.plan(SHAPE.all_tags())?.as_secs_f64());
        cold = proxy.take();
        times.registry.push(registry.cpu_seconds()? - before);
        times.warm.push(cleaner.plan(SHAPE.all_tags())?.as_secs_f64());
        warm = proxy.take();
        times.serial.push(serial(proxy.address())?.as_secs_f64());
        proxy.take();
        eprintln!("survey: {name}: cold {:?}, warm {:?}, serial {:?}", times.cold, times.warm, times.serial);
    }
    Ok([requests(name, &cold, &warm), times.findings(name)].concat())
}

impl Times {
    fn findings(self, name: &str) -> Vec<Finding> {
        let [cold, warm, serial, registry] = [self.cold, self.warm, self.serial, self.registry].map(median);
        let seconds =
            |what, seconds| Finding::told(format!("survey {name}: {what}"), format!("{seconds:.2}"));
        vec![
            seconds("serial script, median seconds", serial),
            seconds("cold, median seconds", cold),
            seconds("warm, median seconds", warm),
            seconds("processor seconds of the registry for a cold survey", registry),
            Finding::at_least(
                format!("survey {name}: times faster than the script, cold"),
                serial / cold,
                FASTER,
            ),
            Finding::told(format!("survey {name}: times faster, warm"), format!("{:.1}", serial / warm)),
        ]
    }
}

/// The counts are those of the last round; every round has the same.
fn requests(name: &str, cold: &Counts, warm: &Counts) -> Vec<Finding> {
    let listings = 1 + SHAPE.repositories;
    let of = |counts: &Counts, kind: Kind| counts.get(&kind).copied().unwrap_or_default();
    let all = |counts: &Counts| counts.values().sum::<usize>();
    vec![
        Finding::at_most(
            format!("survey {name}: requests cold (a ping, listings, one a tag, one a configuration)"),
            all(cold),
            1 + listings + SHAPE.all_tags() + SHAPE.configs(),
        ),
        Finding::at_most(format!("survey {name}: listings"), of(cold, Kind::Listing), listings),
        Finding::at_most(
            format!("survey {name}: requests warm (a ping, listings, one HEAD a tag)"),
            all(warm),
            1 + listings + SHAPE.all_tags(),
        ),
        Finding::at_most(
            format!("survey {name}: of these, manifests and configurations"),
            of(warm, Kind::Manifest) + of(warm, Kind::Blob),
            0,
        ),
    ]
}

fn serial(address: SocketAddr) -> io::Result<Duration> {
    let mut command = Command::new("python3");
    command
        .arg(format!("{SCRIPTS}/serial_survey.py"))
        .arg(address.ip().to_string())
        .arg(address.port().to_string());
    let begun = Instant::now();
    let output = command.output()?;
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = format!("{} tags, {} configurations", SHAPE.all_tags(), SHAPE.configs());
    if output.status.success() && said.starts_with(&expected) {
        return Ok(took);
    }
    Err(io::Error::other(format!(
        "the script did not see all: {said} {}",
        String::from_utf8_lossy(&output.stderr)
    )))
}
