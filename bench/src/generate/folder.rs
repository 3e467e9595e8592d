//! A generated registry in a directory.

use std::fs::{self, FileTimes};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use clean_registry_core::layout::PREFIX;
use jiff::Timestamp;

use super::Shape;
use super::render::{File, Part, files, repository_name};

/// Writes what `shape` describes below `root`, several repositories at once. What is there already is overwritten.
///
/// Times are those of the last change (`mtime`); the time a file was put there (`ctime`) cannot be chosen.
///
/// # Errors
/// If a file cannot be written.
pub fn fill(shape: &Shape, root: &Path, at: Timestamp) -> io::Result<()> {
    let base = root.join(PREFIX);
    fs::create_dir_all(base.join("repositories"))?;
    let parts: Vec<Part> = shape.parts().collect();
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let work = || {
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                write(shape, *part, &base, at)?;
            }
            Ok(())
        };
        let working: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        working
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker broke"))))
    })
}

fn write(shape: &Shape, part: Part, base: &Path, at: Timestamp) -> io::Result<()> {
    if let Part::Repository(number) = part {
        // A registry leaves this one behind when uploads are done.
        fs::create_dir_all(
            base.join("repositories").join(repository_name(number)?.as_str()).join("_uploads"),
        )?;
    }
    files(shape, part, at, &mut |file| write_file(base, file))
}

fn write_file(base: &Path, file: File<'_>) -> io::Result<()> {
    let path = base.join(file.key);
    let mut written = match fs::File::create(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(base))?;
            fs::File::create(&path)?
        }
        created => created?,
    };
    written.write_all(file.bytes)?;
    let second = Duration::from_secs(u64::try_from(file.second).unwrap_or_default());
    written.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + second))
}
