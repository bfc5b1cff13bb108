//! The `plexus` command.

fn main() -> std::process::ExitCode {
    plexus::cli::main()
}
