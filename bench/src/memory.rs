//! How much memory a survey with its plan takes: cold, and with the facts of the survey before.

use std::io;

use tempfile::TempDir;

use crate::cleaner::{Cleaner, Usage};
use crate::fill::Shape;
use crate::finding::Finding;
use crate::serve::Serving;

const LIMIT_MIB: f64 = 300.0;
const SHAPES: [Shape; 2] = [
    Shape { repositories: 1, tags: 100_000, indexes: 0 },
    Shape { repositories: 1000, tags: 100, indexes: 0 },
];

/// Measures every shape.
///
/// # Errors
/// If a part cannot be started, or `clean-registry` fails.
pub fn run() -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for shape in SHAPES {
        let root = TempDir::new()?;
        shape.fill(root.path())?;
        let serving = Serving::start(root.path())?;
        let cleaner = Cleaner::new(serving.address())?;
        for state in ["cold", "warm"] {
            let Usage { peak_mib, cpu, wall } = cleaner.plan_measured(shape.all_tags())?;
            let what = format!("memory: {} × {} tags, {state}", shape.repositories, shape.tags);
            let (cpu, wall) = (cpu.as_secs_f64(), wall.as_secs_f64());
            eprintln!("{what}: {peak_mib:.1} MiB, {wall:.1} s, {cpu:.1} s of processor time");
            findings.push(Finding::at_most(format!("{what}: peak MiB"), peak_mib, LIMIT_MIB));
            findings.push(Finding::told(
                format!("{what}: seconds, of the processor"),
                format!("{wall:.1}, {cpu:.1}"),
            ));
        }
    }
    Ok(findings)
}
