//! Judging, drawing and auditing over inventories made up here: how time and memory grow with them.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::sync::Arc;

use clean_registry_core::audit::{Promises, audit};
use clean_registry_core::inventory::{Concern, Gap, Inventory, Powers, Repo};
use clean_registry_core::manifest::{Blob, Child, Content, Created, Manifest, Role, Source};
use clean_registry_core::name::{Bytes, Digest, MediaType, Tag};
use clean_registry_core::plan::draw;
use clean_registry_core::policy::{Policy, judge};
use jiff::{SignedDuration, Timestamp};

use crate::finding::{Finding, median};

/// Ten times the tags may take this many times as long: maps are trees, and larger ones fall out of the caches.
const GROWTH: f64 = 20.0;
const ROUNDS: usize = 3;

/// Measures both sizes in one repository and in many, each in a process of its own.
///
/// # Errors
/// If a process fails.
pub fn run() -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (layout, repositories, unreadable) in
        [("one repository", 1, 0), ("1000 repositories", 1000, 0), ("one repository, 1 % unreadable", 1, 100)]
    {
        let mut times = Vec::new();
        for tags in [100_000, 1_000_000] {
            let [time, memory, line] = measured(tags, repositories, unreadable)?;
            eprintln!("decide: {tags} tags, {layout}: {line}");
            times.push(time.parse::<f64>().map_err(io::Error::other)?);
            findings.push(Finding::told(format!("decide: {tags} tags, {layout}: processor seconds"), line));
            findings.push(Finding::told(format!("decide: {tags} tags, {layout}: peak MiB"), memory));
        }
        findings.push(Finding::at_most(
            format!("decide: {layout}: growth of time over ten times the tags"),
            times[1] / times[0],
            GROWTH,
        ));
    }
    Ok(findings)
}

fn measured(tags: usize, repositories: usize, unreadable: usize) -> io::Result<[String; 3]> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("decide-once").args([tags, repositories, unreadable].map(|number| number.to_string()));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut parts = said.trim().splitn(3, ' ').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(time), Some(memory), Some(line)) if output.status.success() => Ok([time, memory, line]),
        _ => Err(io::Error::other(format!("decide-once: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Decides over so many tags in so many repositories, of whose manifests one in so many (none if 0) could not be read whole.
/// Prints the processor seconds it took, the peak memory in MiB, and both in words.
///
/// # Errors
/// If the arguments are no numbers.
pub fn once(shape: &[&str]) -> io::Result<()> {
    let numbers: Vec<usize> =
        shape.iter().map(|number| number.parse()).collect::<Result<_, _>>().map_err(io::Error::other)?;
    let [tags, repositories, unreadable] = numbers[..] else {
        return Err(io::Error::other("decide-once TAGS REPOSITORIES UNREADABLE"));
    };
    let inventory = inventory(tags, repositories, unreadable)?;
    let before = peak_mib()?;
    let mut times = [const { Vec::new() }; 4];
    let mut steps = 0;
    for _ in 0..ROUNDS {
        let (taken, planned) = decide(&inventory)?;
        steps = planned;
        times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
    }
    let [judging, drawing, auditing, all] = times.map(median);
    println!(
        "{all:.3} {:.0} {all:.2} (judge {judging:.2}, draw {drawing:.2}, audit {auditing:.2}; {steps} steps; the inventory alone {before:.0} MiB)",
        peak_mib()?
    );
    Ok(())
}

/// The processor seconds of judging, drawing, auditing and all three, and how many steps came out.
fn decide(inventory: &Inventory) -> io::Result<([f64; 4], usize)> {
    let policy = Policy::simple(30, ["latest".to_owned()].into(), vec!["release".to_owned()]);
    let promises = Promises {
        protected_tags: policy.protected_tags.clone(),
        protected_patterns: policy.protected_patterns.clone(),
        untagged: policy.soonest_untagged(),
        ..Promises::default()
    };
    let now = inventory.taken_at;
    let begun = cpu_seconds()?;
    let verdicts = judge(inventory, &policy, now);
    let judged = cpu_seconds()? - begun;
    let plan = draw(inventory, &verdicts, &policy, now);
    let drawn = cpu_seconds()? - begun;
    let audited = audit(plan, inventory, &promises).expect("a plan just drawn is sound");
    let all = cpu_seconds()? - begun;
    assert_eq!(audited.stale, [], "a plan just drawn is not stale");
    Ok(([judged, drawn - judged, all - drawn, all], audited.sound.plan().steps.len()))
}

/// Of fifty tags one is on an index of the two images before it, and one is the signature of the image before it; images
/// are up to sixty days old.
fn inventory(tags: usize, repositories: usize, unreadable: usize) -> io::Result<Inventory> {
    let now = Timestamp::now();
    let mut repos = BTreeMap::new();
    for repository in 0..repositories {
        let mut repo = Repo::default();
        let names = (0..tags / repositories).map(|tag| repository * (tags / repositories) + tag);
        for number in names {
            let digest = digest(number);
            let (tag, manifest) = tagged(number, now);
            repo.tags.insert(tag.parse::<Tag>().map_err(io::Error::other)?, Some(digest));
            repo.manifests.insert(digest, Arc::new(manifest));
            if unreadable > 0 && number % unreadable == 0 {
                let why = "its configuration is not there".to_owned();
                repo.gaps.push(Gap { concerns: Concern::Manifest(digest), why });
            }
        }
        repos.insert(format!("team/app-{repository:04}").parse().map_err(io::Error::other)?, repo);
    }
    let registry = "registry.example".to_owned();
    Ok(Inventory::of(registry, now, Powers::DeleteAndUntag, repos))
}

fn tagged(number: usize, now: Timestamp) -> (String, Manifest) {
    let layers = (0..6).map(|position| blob(&format!("layer {}", number * (position + 1) % 64))).collect();
    let (tag, content) = match number % 50 {
        48 => (format!("multi-{number:07}"), index([number - 2, number - 1])),
        49 => (format!("sha256-{}.sig", digest(number - 4).hex()), Content::Artifact { blobs: layers }),
        _ => {
            let config = blob(&format!("config {number}"));
            (format!("build-{number:07}"), Content::Image { config, layers })
        }
    };
    let hours = i64::try_from(number % (60 * 24)).unwrap_or_default();
    let created = matches!(content, Content::Image { .. }).then(|| Created {
        text: (now - SignedDuration::from_hours(hours)).to_string(),
        source: Source::Config,
    });
    let media_type = MediaType::new(match content {
        Content::Index { .. } => MediaType::OCI_INDEX,
        _ => MediaType::OCI_MANIFEST,
    });
    (
        tag,
        Manifest {
            media_type,
            size: Bytes(1500),
            content,
            subject: None,
            created,
            labels: BTreeMap::new(),
            foreign_digests: Vec::new(),
        },
    )
}

fn index(images: [usize; 2]) -> Content {
    let child = |image| Child { digest: digest(image), platform: None, role: Role::Image };
    Content::Index { children: images.map(child).into(), blobs: Vec::new() }
}

fn digest(number: usize) -> Digest {
    Digest::of(&number.to_le_bytes())
}

fn blob(name: &str) -> Blob {
    Blob { digest: Digest::of(name.as_bytes()), size: Bytes(1 << 20) }
}

/// The processor time of this process, which has one thread: others that are at work do not count.
/// <https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat>
pub fn cpu_seconds() -> io::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = stat.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    nanoseconds
        .map(|nanoseconds| nanoseconds / 1e9)
        .ok_or_else(|| io::Error::other("/proc/self/schedstat has no time"))
}

/// The largest resident set of this process so far: `VmHWM`.
/// <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
pub fn peak_mib() -> io::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other("/proc/self/status has no VmHWM"))
}
