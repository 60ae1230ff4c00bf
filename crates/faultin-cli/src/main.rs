//! The `faultin` command.

fn main() -> std::process::ExitCode {
    faultin_cli::main()
}
