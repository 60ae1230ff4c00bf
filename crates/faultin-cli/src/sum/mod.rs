//! `faultin sum`: BLAKE3 checksums of files that other processes may truncate or rewrite, or whose reads may fail.

mod check;
mod hash;
mod key;
mod name;
mod object;
mod progress;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use blake3::OutputReader;
use faultin::map::Backend;
use hash::{Hasher, Options};
use key::Key;
pub use object::is_scheme;
use progress::Progress;

/// Print or check BLAKE3 checksums of files that may change while they are read
///
/// A file that is truncated or rewritten while it is read, or whose reads fail, is an error for that file, with the reason and,
/// if a read failed, the position; the other files are still processed. If the attributes or the data of a file have changed, it
/// is hashed a second time. Equal checksums are a success, so links, permissions, renaming and deletion cause no error. If other
/// programs append to a file meanwhile, the checksum is that of the bytes that the file had when the last reading of it began.
/// Without FILE, or if FILE is -, standard input is read. Options, output and lists are those of b3sum. Uses all cores.
///
/// FILE may be the URL of an object: s3://BUCKET/KEY, gs://, az://, https:// and others, in builds with the feature `store`. The
/// checksum is that of the version that the object has when it is opened; an object that is replaced meanwhile is an error. The
/// endpoint and credentials are read from the usual environment variables, such as AWS_ACCESS_KEY_ID. A line on standard error
/// says how many bytes were received, in how many requests and retries, and how long the command has waited. A file whose name
/// looks like a URL is read as ./s3://NAME. A URL with a user, a password or a query, such as a signed one, is an error,
/// because the list would have it as a name; no message has these parts.
///
/// Exit status: 0 if every file was read and, with --check, has its checksum; 1 if not, or if writing to standard output failed,
/// for example because its reader closed the pipe; 2 for wrong arguments. Standard output that is closed when the command starts
/// is replaced by /dev/null, so it is no error.
#[derive(clap::Args)]
pub struct Args {
    /// Files to hash; with --check, lists of checksums [default: -, standard input]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Read lists of checksums from the files, and check the files that they name
    #[arg(short, long)]
    check: bool,

    /// With --check: do not print a line for a file that has its checksum
    #[arg(long, requires = "check")]
    quiet: bool,

    /// Report every change of a file while it is read as an error, also of its attributes and its name
    #[arg(long)]
    strict: bool,

    /// Hash with a key of 32 bytes, which is read from standard input
    #[arg(long, requires = "files", conflicts_with = "check")]
    keyed: bool,

    /// Derive a key from the contents of each file, in this context
    #[arg(long, value_name = "CONTEXT", conflicts_with_all = ["keyed", "check"])]
    derive_key: Option<String>,

    /// Print checksums without file names
    #[arg(long, conflicts_with = "check")]
    no_names: bool,

    /// Print in BSD style: BLAKE3 (name) = checksum
    #[arg(long, conflicts_with = "check")]
    tag: bool,

    /// Print the checksum as bytes instead of hexadecimal digits; for one file only
    #[arg(long, conflicts_with = "check")]
    raw: bool,

    /// Length of a checksum in bytes, at least 1
    #[arg(short, long, value_name = "BYTES", default_value_t = 32, conflicts_with = "check", value_parser = clap::value_parser!(u64).range(1..))]
    length: u64,

    /// Offset of the checksum in BLAKE3's output, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    seek: u64,

    /// Read files with pread(2) instead of mapping them
    #[arg(long)]
    no_mmap: bool,

    /// Number of threads; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    num_threads: usize,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> ExitCode {
    if args.raw && args.files.len() > 1 {
        complain(format_args!("--raw prints the checksum of one file, and {} were given", args.files.len()));
        return ExitCode::from(2);
    }
    let files = if args.files.is_empty() { vec![PathBuf::from("-")] } else { args.files.clone() };
    let key = match (args.keyed, &args.derive_key) {
        (true, _) => Key::read(io::stdin().lock()),
        (false, Some(context)) => Ok(Key::of_context(context)),
        (false, None) => Ok(Key::None),
    };
    let key = match key {
        Ok(key) => key,
        Err(error) => {
            complain(format_args!("standard input: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        threads: args.num_threads,
        strict: args.strict,
        backend: if args.no_mmap { Backend::Pread } else { Backend::Automatic },
        key,
        seek: args.seek,
        input: match (args.keyed, args.check && files.iter().any(|file| is_stdin(file))) {
            (true, _) => Some("the key"),
            (_, true) => Some("a list of checksums"),
            _ => None,
        },
        #[cfg(test)]
        meanwhile: None,
    };
    let hasher = match Hasher::new(options, Progress::new()) {
        Ok(hasher) => hasher,
        Err(error) => {
            complain(format_args!("no threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = match args.check {
        true => check::check_all(&files, &hasher, args.quiet),
        false => print_all(&files, &hasher, args),
    };
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // Also for a closed pipe: what its reader did not read was not hashed or checked, and a script must not take that
        // for a success. Coreutils do the same where SIGPIPE is ignored, as it is in Rust programs.
        Err(error) => {
            complain(format_args!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints the checksum of each file; returns the number of files without one.
///
/// # Errors
/// Those of standard output.
fn print_all(files: &[PathBuf], hasher: &Hasher, args: &Args) -> io::Result<u64> {
    let (mut out, mut failed) = (io::stdout().lock(), 0);
    for file in files {
        match hasher.hash(file) {
            Ok(reader) => print_one(&mut out, file, reader, args)?,
            Err(error) => {
                complain(format_args!("{}: {error}", error.shown(file)));
                failed += 1;
            }
        }
    }
    Ok(failed)
}

fn print_one(out: &mut impl Write, file: &Path, reader: OutputReader, args: &Args) -> io::Result<()> {
    if args.raw {
        print_sum(out, reader, args.length, |bytes| bytes.to_vec())?;
        return out.flush();
    }
    let (escaped, name) = name::printed(file);
    let name = name::for_output(&name);
    let (before, after) = match (args.no_names, args.tag) {
        (true, _) => (String::new(), String::new()),
        (_, true) => (format!("{escaped}BLAKE3 ({name}) = "), String::new()),
        _ => (escaped.to_owned(), format!("  {name}")),
    };
    out.write_all(before.as_bytes())?;
    let hex = |bytes: &[u8]| bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
    print_sum(out, reader, args.length, hex)?;
    writeln!(out, "{after}")?;
    out.flush()
}

/// Prints `len` bytes of a hash, piece by piece: the caller may ask for any number.
fn print_sum(
    out: &mut impl Write,
    mut reader: OutputReader,
    len: u64,
    print: impl Fn(&[u8]) -> Vec<u8>,
) -> io::Result<()> {
    let (mut piece, mut left) = ([0; 4096], len);
    while left > 0 {
        let now = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        reader.fill(&mut piece[..now]);
        out.write_all(&print(&piece[..now]))?;
        left -= now as u64;
    }
    Ok(())
}

/// Prints a message to standard error. Where that cannot be written, the exit status reports the error.
fn complain(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "faultin sum: {message}");
}

/// Returns whether the name stands for standard input.
fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}
