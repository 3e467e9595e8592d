//! Whether a collector loses anything while people push: FACTS section 4, as a program.
//!
//! [`people`] push to a real registry and delete from it while a [`collector`] loops over its storage. When all have
//! stopped, [`judge`] looks at every manifest that exists then: each was accepted, and must be whole.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser as _;
use clean_registry::storage::Storage;
use clean_registry::storage::spec::Spec;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::finding::Finding;

mod client;
mod collector;
mod dice;
mod judge;
mod options;
mod people;
mod service;
mod snapshot;

use client::Client;
use collector::{Collector, Means, Rounds};
use dice::Dice;
use judge::Judged;
use options::{Kind, Options};
use people::{Crowd, Ledger, Wares};
pub use service::ask;
use service::{Control, Service};

/// Examples of what is broken that are printed.
const SHOWN: usize = 5;
/// Reads the options, stresses, and says what was found.
///
/// # Errors
/// If something does not start, or the storage cannot be read.
pub fn run(arguments: &[&str]) -> io::Result<Vec<Finding>> {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    let ended = stress(&options)?;
    for broken in ended.judged.broken.iter().take(SHOWN).chain(ended.judged.lost.iter().take(SHOWN)) {
        println!("broken: {broken}");
    }
    if let Some(said) = &ended.rounds.said {
        println!("the collector: {said}");
    }
    for (what, times) in &*ended.ledger.refusals.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("refused: {times} × {what}");
    }
    Ok(ended.findings(&options))
}

/// What came of a stress.
#[derive(Debug)]
struct Ended {
    ledger: Arc<Ledger>,
    rounds: Rounds,
    judged: Judged,
    seconds: f64,
}

impl Ended {
    /// How many manifests and tags are not what was accepted.
    fn broken(&self) -> usize {
        self.judged.broken.len() + self.judged.lost.len()
    }

    fn findings(&self, options: &Options) -> Vec<Finding> {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (ledger, judged) = (&self.ledger, &self.judged);
        let mut findings = vec![
            Finding::told("seconds", format!("{:.1}", self.seconds)),
            Finding::told("pushes accepted", count(&ledger.pushes)),
            Finding::told("manifests accepted", count(&ledger.manifests)),
            Finding::told("pushes begun anew", count(&ledger.retries)),
            Finding::told("pushes given up", count(&ledger.given_up)),
            Finding::told("manifests deleted by people", count(&ledger.deleted)),
            Finding::told("rounds of the collector", self.rounds.done),
            Finding::told("manifests at the end", judged.revisions),
            Finding::told("garbage left", judged.garbage),
            Finding::told("dangling tags of what people delete", judged.dangling),
        ];
        let collects = options.command.is_some() || options.collector != Kind::None;
        let least = if collects { 1.0 } else { 0.0 };
        findings.push(Finding::at_least("blobs collected", self.rounds.collected as f64, least));
        let failed = self.rounds.failed as f64;
        findings.push(match options.expect_broken {
            // The registry's own gives up over a link that is being written (FACTS section 3).
            true => Finding::told("rounds failed", failed),
            false => Finding::at_most("rounds failed", failed, 0.0),
        });
        let broken = self.broken() as f64;
        findings.push(match options.expect_broken {
            true => Finding::at_least("broken, as this collector must", broken, 1.0),
            false => Finding::at_most("broken", broken, 0.0),
        });
        findings
    }
}

/// Starts everything, waits, stops everything, judges.
///
/// # Errors
/// As [`run`].
fn stress(options: &Options) -> io::Result<Ended> {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new())?;
    let root = directory.path().join("storage");
    std::fs::create_dir_all(&root)?;
    let template = match &options.config {
        Some(file) => std::fs::read_to_string(file)?,
        None => configuration(options),
    };
    let template = template.replace("{ROOT}", &root.display().to_string());
    let service = Arc::new(Service::start(&options.registry, &template, directory.path())?);
    let control = Control::listen(Arc::clone(&service), directory.path().join("control"))?;
    let means = match &options.command {
        Some(template) => Means::Command(collector::fill(template, &root, &service, &control)?),
        None => Means::Kind(options.collector),
    };
    let storage = open(&root, &template)?;
    let collector = Collector { storage: Arc::clone(&storage), service: Arc::clone(&service), means };
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(between(options, &service, collector, &*storage));
    service.end()?;
    if options.keep {
        println!("left behind: {}", directory.keep().display());
    }
    ended
}

/// JSON is YAML.
fn configuration(options: &Options) -> String {
    let mut configuration = json!({
        "version": "0.1",
        "log": { "level": "error", "accesslog": { "disabled": true } },
        "storage": {
            "filesystem": { "rootdirectory": "{ROOT}" },
            "delete": { "enabled": true },
            "maintenance": { "uploadpurging": { "enabled": false } },
        },
        "http": { "addr": "{ADDR}" },
    });
    if options.cache {
        configuration["storage"]["cache"] = json!({ "blobdescriptor": "inmemory" });
    }
    configuration.to_string()
}

/// The storage that the judge reads, and the collectors of this program work on: what the registry's configuration says, if it
/// is JSON, and else the directory that it is given.
fn open(root: &Path, configuration: &str) -> io::Result<Arc<dyn Storage>> {
    let document: Value = serde_json::from_str(configuration).unwrap_or_default();
    let drivers = ["filesystem", "s3", "s3aws", "gcs", "azure"];
    let section = |driver| Some((driver, document["storage"][driver].as_object()?));
    let spec = match drivers.into_iter().find_map(section) {
        Some((driver, parameters)) => Spec::of(driver, parameters).map_err(io::Error::other)?,
        None => Spec::Local { directory: root.to_owned() },
    };
    spec.open(&std::env::vars().collect()).map_err(io::Error::other)
}

async fn between(
    options: &Options,
    service: &Service,
    collector: Collector,
    storage: &dyn Storage,
) -> io::Result<Ended> {
    let client = Client::new(&service.address().to_string()).map_err(io::Error::other)?;
    let crowd = Crowd {
        client: client.clone(),
        ledger: Arc::new(Ledger::default()),
        wares: Arc::new(Wares::new(options.seed)),
        is_over: Arc::new(AtomicBool::new(false)),
    };
    let (ledger, is_over) = (Arc::clone(&crowd.ledger), Arc::clone(&crowd.is_over));
    let begun = Instant::now();
    let people = gather(options, &crowd);
    let until = begun + Duration::from_secs(options.seconds);
    let pause = Duration::from_millis(options.pause);
    let mut rounds = Rounds::default();
    while ledger.pushes.load(Ordering::Relaxed) == 0 && Instant::now() < until {
        // There is no registry yet in what it stores.
        tokio::time::sleep(pause).await;
    }
    // A round under way is waited for: what a collector leaves when it is killed is another test's.
    while Instant::now() < until {
        collector.round(&mut rounds).await?;
        tokio::time::sleep(pause).await;
    }
    is_over.store(true, Ordering::Relaxed);
    people.join_all().await;
    let seconds = begun.elapsed().as_secs_f64();
    // What a cache knows would hide what is missing, or miss what is there.
    service.close()?;
    service.open()?;
    Ok(Ended { judged: judge::judge(storage, &client, &ledger).await?, ledger, rounds, seconds })
}

fn gather(options: &Options, crowd: &Crowd) -> JoinSet<()> {
    let mut people = JoinSet::new();
    for pusher in 0..options.pushers {
        people.spawn(crowd.clone().push_on(Dice::new(options.seed, 1 + pusher)));
    }
    for deleter in 0..options.deleters {
        people.spawn(crowd.clone().delete_on(Dice::new(options.seed, 1001 + deleter)));
    }
    people
}
