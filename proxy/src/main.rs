//! The Plexus proxy's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    plexus_proxy::cli::main()
}
