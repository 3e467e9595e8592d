//! Deciding over storages too large for this machine: a listing made up in memory, without disk and without content.

use std::collections::HashSet;
use std::io;
use std::process::Command;

use clean_registry_bench::generate::made::Made;
use clean_registry_bench::generate::render::{Part, files, repository_name, tag_name};
use clean_registry_bench::generate::{Currency, Dice, Percent, Piece, Push, SHARED, Shape};
use clean_registry_core::gc::{Certainty, Known, Listed, References, Removed, Settings, decide};
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::{Age, Blobs, Stamp, Stored, StoredBlob, StoredRepo, StoredTag};
use jiff::Timestamp;

use crate::decide::{cpu_seconds, peak_mib};
use crate::finding::Finding;

/// What 10 000 000 blobs and 2 000 000 manifests may take.
const LIMIT_MIB: f64 = 1536.0;
/// Twice as much may take this many times as long, or as much memory.
const GROWTH: f64 = 2.5;
/// Repositories of 100 tags, of about 140 manifests and 700 blobs each: 2.5, 5 and 10 million blobs.
const SIZES: [u32; 3] = [3_600, 7_200, 14_400];
const NOW: i64 = 1_800_000_000;

/// Measures all sizes, each in a process of its own.
///
/// # Errors
/// If a process fails.
pub fn run() -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut before: Option<[f64; 2]> = None;
    for repositories in SIZES {
        let (figures @ [time, memory], line) = measured(repositories)?;
        eprintln!("memory-gc: {line}");
        findings.push(Finding::told(format!("memory-gc: {line}: processor seconds"), format!("{time:.1}")));
        findings.push(Finding::at_most(format!("memory-gc: {line}: peak MiB"), memory, LIMIT_MIB));
        if let Some(before) = before {
            for (what, now, before) in [("time", time, before[0]), ("memory", memory, before[1])] {
                let what = format!("memory-gc: growth of {what} over twice as much");
                findings.push(Finding::at_most(what, now / before, GROWTH));
            }
        }
        before = Some(figures);
    }
    let (parsed, seconds) = parsing()?;
    let each = seconds / f64::from(parsed) * 1e6;
    findings.push(Finding::told("memory-gc: reading the JSON of one manifest: µs", format!("{each:.2}")));
    Ok(findings)
}

fn measured(repositories: u32) -> io::Result<([f64; 2], String)> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.arg("memory-gc-once").arg(repositories.to_string()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut parts = said.trim().splitn(3, ' ');
    let mut number = || parts.next().and_then(|text| text.parse::<f64>().ok());
    match (number(), number(), parts.next()) {
        (Some(time), Some(memory), Some(line)) if output.status.success() => {
            Ok(([time, memory], line.to_owned()))
        }
        _ => Err(io::Error::other(format!("memory-gc-once: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Lists, learns and decides over so many repositories. Prints the processor seconds it took, making it up not counted, the peak
/// memory in MiB, and what it was.
///
/// # Errors
/// If the argument is no number.
pub fn once(repositories: &str) -> io::Result<()> {
    let repositories = repositories.parse().map_err(io::Error::other)?;
    let shape = Shape { repositories, own: Percent(350), ..Shape::default() };
    let told = |what: &str| -> io::Result<f64> {
        let (seconds, memory) = (cpu_seconds()?, peak_mib()?);
        eprintln!("{seconds:8.2} s  {memory:7.0} MiB  {what}");
        Ok(seconds)
    };
    let blobs = blobs(&shape)?;
    told("blobs listed")?;
    let stored = Stored { repos: repos(&shape, &blobs)?, blobs, ..Stored::default() };
    told("repositories listed")?;
    let known = learned(&shape, &stored);
    let begun = told("manifests learned")?;
    let mut settings = Settings::blobs_only(Stamp::from_second(NOW), Age(0));
    settings.untagged = Some(Age(0));
    let decided = decide(&stored, &known, &Removed::new(), &settings);
    let seconds = told("decided")?;
    let (blobs, manifests) = (decided.garbage.blobs.len(), decided.garbage.manifests.len());
    eprintln!("deciding alone: {:.2} s; {blobs} blobs and {manifests} manifests eligible", seconds - begun);
    println!("{seconds:.2} {:.1} {} blobs, {} manifests", peak_mib()?, stored.blobs.len(), known.len());
    Ok(())
}

/// Digests spread as real ones do.
fn digest(piece: Piece) -> Digest {
    let (kind, a, b) = match piece {
        Piece::Shared(number) => (0, number, 0),
        Piece::Base(repository, number) => (1, repository, number),
        Piece::Own(repository, number) => (2, repository, number),
        Piece::Config(repository, number) => (3, repository, number),
        Piece::Manifest(repository, number) => (4, repository, number),
        Piece::Orphan(number) => (5, number, 0),
    };
    let mut dice = Dice(kind << 61 ^ u64::from(a) << 32 ^ u64::from(b));
    let mut bytes = [0; 32];
    bytes.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&dice.roll().to_le_bytes()));
    Digest::from_bytes(bytes)
}

/// Every blob that one push has and none before it in the repository.
fn pieces(push: &Push, seen: &mut HashSet<Piece>) -> Vec<Piece> {
    let images = push.images.iter();
    let all = images.flat_map(|image| image.layers.iter().copied().chain([image.config, image.manifest]));
    all.chain(push.index).filter(|piece| seen.insert(*piece)).collect()
}

/// As a scan lists them: shard by shard in the end, in any order before.
fn blobs(shape: &Shape) -> io::Result<Blobs> {
    let mut shards: Vec<Vec<StoredBlob>> = vec![Vec::new(); 256];
    let mut push = |piece| {
        let blob = StoredBlob { digest: digest(piece), size: Bytes(4096), stamp: Stamp::from_second(0) };
        shards[usize::from(blob.digest.first())].push(blob);
    };
    (0..SHARED).map(Piece::Shared).for_each(&mut push);
    (0..shape.orphans()).map(Piece::Orphan).for_each(&mut push);
    for number in 0..shape.repositories {
        let mut seen = HashSet::new();
        for pushed in shape.repository(number) {
            let own = pieces(&pushed, &mut seen);
            own.into_iter().filter(|piece| !matches!(piece, Piece::Shared(_))).for_each(&mut push);
        }
    }
    let mut blobs = Blobs::default();
    for (first, shard) in (0..=u8::MAX).zip(shards) {
        blobs.fill(first, shard);
    }
    Ok(blobs)
}

fn repos(
    shape: &Shape,
    blobs: &Blobs,
) -> io::Result<std::collections::BTreeMap<clean_registry_core::name::RepoName, StoredRepo>> {
    let mut repos = std::collections::BTreeMap::new();
    for number in 0..shape.repositories {
        let (mut repo, mut seen) = (StoredRepo::default(), HashSet::new());
        for push in shape.repository(number) {
            let stamp = Stamp::from_second(NOW - i64::from(push.age));
            for piece in pieces(&push, &mut seen) {
                match piece {
                    Piece::Manifest(..) => drop(repo.revisions.insert(digest(piece), stamp)),
                    _ => repo.layers.extend(blobs.find(digest(piece)).map(|blob| (blob, stamp))),
                }
            }
            if push.currency == Currency::Current {
                let tag = StoredTag { target: Some(digest(push.target())), stamp };
                repo.tags.insert(tag_name(push.tag)?, tag);
            }
        }
        repos.insert(repository_name(number)?, repo);
    }
    Ok(repos)
}

/// As a scan learns: what is asked for is answered, until nothing is.
fn learned(shape: &Shape, stored: &Stored) -> Known {
    let mut known = Known::default();
    known.visit_roots(stored);
    let asked = known.unread().len();
    for push in (0..shape.repositories).flat_map(|number| shape.repository(number)) {
        for image in &push.images {
            let listed = image.layers.iter().copied().chain([image.config]);
            known.learn(&stored.blobs, digest(image.manifest), &Ok(references(listed, None)));
        }
        if let Some(index) = push.index {
            let children = push.images.iter().map(|image| image.manifest);
            known.learn(&stored.blobs, digest(index), &Ok(references(children, Some(Certainty::Manifest))));
        }
    }
    assert_eq!((known.len(), known.unread().len()), (asked, 0), "all that was asked for was answered");
    known
}

fn references(pieces: impl Iterator<Item = Piece>, certainty: Option<Certainty>) -> References {
    let listed = pieces.map(|piece| Listed { digest: digest(piece).to_string(), certainty });
    References { listed: listed.collect(), subject: None }
}

/// Reads the manifests of some repositories; returns how many, and the processor seconds that reading them took.
fn parsing() -> io::Result<(u32, f64)> {
    let shape = Shape { repositories: 20, own: Percent(350), ..Shape::default() };
    let mut manifests = Vec::new();
    for number in 0..shape.repositories {
        files(&shape, Part::Repository(number), Timestamp::UNIX_EPOCH, &mut |file| {
            if matches!(Place::parse(file.key), Some(Place::BlobData(_)))
                && file.bytes.starts_with(b"{\"schema")
            {
                manifests.push(file.bytes.to_vec());
            }
            Ok(())
        })?;
    }
    assert_eq!(manifests.len(), Made::of(&shape).manifests, "every manifest was found");
    let begun = cpu_seconds()?;
    let listed = manifests.iter().filter_map(|bytes| References::read(bytes).ok());
    let listed: usize = listed.map(|references| references.listed.len()).sum();
    assert!(listed > manifests.len(), "manifests list something");
    Ok((u32::try_from(manifests.len()).map_err(io::Error::other)?, cpu_seconds()? - begun))
}
