//! Benchmarks: requests counted first, time as a ratio second, memory as a peak.
//!
//! Every verb prints a table and fails when a figure that is required is missed; `check` does all of them.

use std::io;
use std::process::ExitCode;

mod cleaner;
mod decide;
mod fill;
mod finding;
mod gc;
mod gc_s3;
mod memory;
mod memory_gc;
mod pass;
mod proxy;
mod registry;
mod serve;
mod stress;
mod survey;

use clean_registry_bench::generate::{Shape, folder, made::Made};
use finding::{Finding, Verdict};
use pass::Untagged;

const USAGE: &str = "\
usage: bench survey [REQUEST ANSWER]   requests and wall time against real registries, beside a serial script;
                                       the milliseconds that each is delayed, 5 and 5
       bench memory            peak memory of plan over 100 000 tags
       bench decide            time and memory of deciding over 100 000 and 1 000 000 tags
       bench gc DIRECTORY [--rounds 3] [--untagged 0] [--ours COMMAND]
                               a plan-only pass beside find and the registries' dry runs; so many rounds with -m as well
       bench gc-s3 [--delay 5] [--repositories 10] [--tags 50] [OPTION VALUE]…
                               requests and time of a plan-only collection of a bucket beside the dry run of 3.1.1
       bench memory-gc         time and memory of a collection's decision over 2.5, 5 and 10 million blobs
       bench check             all of these
       bench generate DIRECTORY [OPTION VALUE]…   writes a registry's storage; without a directory, says how much it comes to
       bench stress OPTIONS    people push and delete while a collector loops: nothing may be lost; --help tells more
       bench serve DIRECTORY   an in-process registry over a storage, until standard input ends
       bench behind REQUEST ANSWER   the registry of survey with that delay, to be looked at until standard input ends
       bench pass DIRECTORY [--untagged]   a plan-only pass over a storage, in phases
       bench decide-once TAGS REPOSITORIES UNREADABLE   one line of decide";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(Verdict::Held) => ExitCode::SUCCESS,
        Ok(Verdict::Missed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[&str]) -> io::Result<Verdict> {
    let findings = match arguments {
        ["survey"] => survey::run(survey::FAR)?,
        ["survey", request, answer] => survey::run(survey::delay(request, answer)?)?,
        ["memory"] => memory::run()?,
        ["gc", rest @ ..] => gc::run(rest)?,
        ["gc-s3", rest @ ..] => gc_s3::run(rest)?,
        ["memory-gc"] => memory_gc::run()?,
        ["memory-gc-once", repositories] => return memory_gc::once(repositories).map(|()| Verdict::Held),
        ["decide"] => decide::run()?,
        ["check"] => [decide::run()?, memory::run()?, survey::run(survey::FAR)?].concat(),
        ["pass", directory, rest @ ..] => {
            let untagged = if rest == ["--untagged"] { Untagged::Go } else { Untagged::Stay };
            return pass::run(directory.as_ref(), untagged).map(|()| Verdict::Held);
        }
        ["generate", rest @ ..] => return generate(rest).map(|()| Verdict::Held),
        ["stress", options @ ..] => stress::run(options)?,
        ["stress-control", socket, wish] => return stress::ask(socket, wish).map(|()| Verdict::Held),
        ["serve", directory] => return serve::run(directory.as_ref()).map(|()| Verdict::Held),
        ["behind", request, answer] => {
            return survey::behind(survey::delay(request, answer)?).map(|()| Verdict::Held);
        }
        ["decide-once", shape @ ..] => return decide::once(shape).map(|()| Verdict::Held),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE)),
    };
    print!("{}", finding::table(&findings));
    Ok(Finding::verdict(&findings))
}

/// Writes a storage below the directory that comes first, if one does, and says what is in it.
fn generate(arguments: &[&str]) -> io::Result<()> {
    let (directory, options) = match arguments {
        [directory, options @ ..] if !directory.starts_with("--") => (Some(directory), options),
        options => (None, options),
    };
    let (shape, at) = Shape::read(options)?;
    if let Some(directory) = directory {
        folder::fill(&shape, directory.as_ref(), at)?;
    }
    println!("{}", Made::of(&shape));
    Ok(())
}
