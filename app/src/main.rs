//! `clean-registry`: runs, then ends with an exit code.

use std::process::ExitCode;

use clean_registry::cli;

fn main() -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let exit = runtime.block_on(cli::run());
            runtime.shutdown_background();
            ExitCode::from(exit as u8)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
