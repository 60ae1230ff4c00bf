//! `faultin sum`: BLAKE3 checksums of files that others may truncate, rewrite or fail to deliver.

mod check;
mod hash;
mod name;
mod progress;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hash::Hasher;
use progress::Progress;

/// Prints or checks BLAKE3 checksums, on all cores
///
/// A file that is truncated, rewritten or cannot be read while it is read is an error for that file, with the reason and how
/// far it was read; the others go on. A file whose attributes or data changed meanwhile is hashed once more: the same
/// checksum is a success, so links, permissions, renaming and deletion are no errors. A file that others append to is
/// hashed to where it ended when it was read last, as b3sum does. Without a file, or where it is -, standard input is read.
/// The format is b3sum's.
///
/// Exits with 0 if every file was read (and, with --check, had its checksum), with 1 if not, with 2 if asked for what there
/// is not.
#[derive(clap::Args)]
pub struct Args {
    /// Files, or files of checksums with --check
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Read checksums from the files and check them
    #[arg(short, long)]
    check: bool,

    /// With --check: do not print OK for each file that has its checksum
    #[arg(long, requires = "check")]
    quiet: bool,

    /// Every change of a file while it is read is an error, also of its attributes and its name
    #[arg(long)]
    strict: bool,

    /// Leave the names out
    #[arg(long, conflicts_with = "check")]
    no_names: bool,

    /// Print in the style of BSD: BLAKE3 (name) = checksum
    #[arg(long, conflicts_with_all = ["check", "no_names", "raw"])]
    tag: bool,

    /// Print the bytes of the checksum themselves, of one file only
    #[arg(long, conflicts_with_all = ["check", "no_names"])]
    raw: bool,

    /// Bytes of a checksum
    #[arg(short, long, value_name = "BYTES", default_value_t = 32, conflicts_with = "check", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    length: u64,

    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    num_threads: Option<u16>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> ExitCode {
    if args.raw && args.files.len() > 1 {
        eprintln!("faultin sum: --raw prints the checksum of one file, and {} were given", args.files.len());
        return ExitCode::from(2);
    }
    let threads = args.num_threads.map_or(0, usize::from);
    let hasher = match Hasher::new(threads, args.strict, Progress::new()) {
        Ok(hasher) => hasher,
        Err(error) => {
            eprintln!("faultin sum: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let files = if args.files.is_empty() { vec![PathBuf::from("-")] } else { args.files.clone() };
    let ended = match args.check {
        true => check::check_all(&files, &hasher, args.quiet),
        false => print_all(&files, &hasher, args),
    };
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // Nobody listens any more, which is nobody's mistake.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faultin sum: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the checksum of each file; returns how many have none.
///
/// # Errors
/// Those of standard output.
fn print_all(files: &[PathBuf], hasher: &Hasher, args: &Args) -> io::Result<u64> {
    let (mut out, mut failed) = (io::stdout().lock(), 0);
    for file in files {
        let mut reader = match hasher.hash(file) {
            Ok(reader) => reader,
            Err(error) => {
                complain(file, &error);
                failed += 1;
                continue;
            }
        };
        let mut sum = vec![0; usize::try_from(args.length).unwrap_or(usize::MAX)];
        reader.fill(&mut sum);
        if args.raw {
            out.write_all(&sum)?;
        } else {
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            let (escaped, name) = name::printed(file);
            match (args.no_names, args.tag) {
                (true, _) => writeln!(out, "{sum}")?,
                (_, true) => writeln!(out, "{escaped}BLAKE3 ({name}) = {sum}")?,
                _ => writeln!(out, "{escaped}{sum}  {name}")?,
            }
        }
        out.flush()?;
    }
    Ok(failed)
}

/// Says on standard error why a file has no checksum.
fn complain(file: &Path, error: &hash::HashError) {
    eprintln!("faultin sum: {}: {error}", name::shown(file));
}

/// Whether the name stands for standard input.
fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}
