//! `cargo xtask test`: `cargo test --workspace`, and one line at the end for skipped tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::env::{target, workspace};

/// The file that tests append their skips to; `faultin-test` documents its lines.
pub const SKIPS: &str = "FAULTIN_SKIPS";

/// Test binaries in which foreign code (`memcpy`, `memchr`, the standard library) touches memory that may fault.
const FOREIGN: [&str; 7] = ["guard", "map", "shared", "scan", "handler", "pager", "reproductions"];

/// The part of [`FOREIGN`] that runs before every change lands.
const FOREIGN_SHORT: [&str; 3] = ["guard", "map", "pager"];

/// The variants of glibc's string functions, as values of `GLIBC_TUNABLES` (for glibc 2.33 and newer).
///
/// Not all of a set applies everywhere: glibc ignores a feature that the CPU does not have.
const TUNABLES: [(&str, &str); 5] = [
    // The features of an AMD Zen 3.
    ("no AVX-512", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL"),
    // The features of the first x86-64: SSE2, and slow string instructions.
    (
        "no AVX-512, AVX2, SSE4, SSSE3 and ERMS",
        "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSE4_2,-SSE4_1,-SSSE3",
    ),
    // `memcpy` by aligned loads that are shifted, with a separate loop for each distance.
    ("SSSE3", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-Fast_Unaligned_Copy"),
    // (glibc accepts only values above its minimum, which the width determines: 512 for AVX-512.)
    ("string instructions early", "glibc.cpu.x86_rep_movsb_threshold=0x400:glibc.cpu.x86_rep_stosb_threshold=0x400"),
    // Non-temporal stores, which read several pages in parallel.
    ("non-temporal stores early", "glibc.cpu.x86_non_temporal_threshold=0x8000"),
];

/// The set for [`FOREIGN_SHORT`].
const SHORT: usize = 1;

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Arguments for `cargo test`; without `-p`, all packages of the workspace are tested
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// Arguments of `cargo xtask tunables`.
#[derive(clap::Args)]
pub struct TunablesArgs {
    /// Run fewer test binaries, with one set of tunables
    #[arg(long)]
    short: bool,
    /// List the sets of tunables, and run nothing
    #[arg(long)]
    list: bool,
}

/// Runs the tests; the exit status is cargo's.
pub fn main(args: &Args) -> ExitCode {
    let mut cargo = Command::new("cargo");
    cargo.arg("test");
    if !args
        .cargo
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
    {
        cargo.arg("--workspace");
    }
    let (status, skips) = counted(cargo.args(&args.cargo));
    println!("{}", summary(&skips));
    status
}

/// Runs the tests in which foreign code touches memory, once with each set of tunables.
pub fn tunables(args: &TunablesArgs) -> ExitCode {
    if args.list {
        for (name, value) in TUNABLES {
            println!("{name}: GLIBC_TUNABLES={value}");
        }
        return ExitCode::SUCCESS;
    }
    let binaries = if args.short { &FOREIGN_SHORT[..] } else { &FOREIGN[..] };
    let mut skips = String::new();
    for (at, (name, value)) in TUNABLES.into_iter().enumerate() {
        if args.short && at != SHORT {
            continue;
        }
        println!("\n--- glibc with {name}");
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--workspace"]).env("GLIBC_TUNABLES", value);
        for binary in binaries {
            cargo.args(["--test", binary]);
        }
        let (status, more) = counted(&mut cargo);
        skips += &more;
        if status != ExitCode::SUCCESS {
            println!("failed: glibc with {name} (GLIBC_TUNABLES={value})");
            return status;
        }
    }
    println!("{}", summary(&skips));
    ExitCode::SUCCESS
}

/// Runs a command with live output; returns its exit status, and the lines of its skips.
fn counted(command: &mut Command) -> (ExitCode, String) {
    let file = skips_file();
    let _ = fs::remove_file(&file);
    let status = command.current_dir(workspace()).env(SKIPS, &file).status();
    let skips = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(&file);
    hand_on(&skips);
    let code = match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("{command:?}: {error}");
            ExitCode::FAILURE
        }
    };
    (code, skips)
}

fn skips_file() -> PathBuf {
    let target = target();
    let _ = fs::create_dir_all(&target);
    // Absolute, because tests run in their packages' folders.
    target.canonicalize().unwrap_or(target).join(format!("skips.{}", std::process::id()))
}

/// Appends `skips` to the file that the caller of this command has named.
fn hand_on(skips: &str) {
    let Some(file) = std::env::var_os(SKIPS) else { return };
    let appended = append(Path::new(&file), skips);
    appended.unwrap_or_else(|error| eprintln!("{SKIPS}: {}: {error}", file.display()));
}

fn append(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(text.as_bytes())
}

/// Returns one line for all skips: their number, by need, with the first reason for each.
pub fn summary(skips: &str) -> String {
    let mut needs: BTreeMap<&str, (usize, &str, bool)> = BTreeMap::new();
    for line in skips.lines().filter_map(|line| line.strip_prefix("skipped: ")) {
        let (need, why) = line.split_once(": ").unwrap_or((line, ""));
        let entry = needs.entry(need).or_insert((0, why, false));
        entry.0 += 1;
        entry.2 |= entry.1 != why;
    }
    if needs.is_empty() {
        return "skipped: nothing".into();
    }
    let total: usize = needs.values().map(|(count, ..)| count).sum();
    let each = needs.iter().map(|(need, (count, why, more))| {
        format!("{need} {count}: {why}{}", if *more { ", and other reasons" } else { "" })
    });
    format!("skipped: {total} ({})", each.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_by_need_and_gives_a_reason() {
        assert_eq!(summary(""), "skipped: nothing");
        let skips =
            "skipped: uring: ENOSYS\nskipped: huge-pages: none\nskipped: uring: ENOSYS\nskipped: huge-pages: few: 1\n";
        assert_eq!(summary(skips), "skipped: 4 (huge-pages 2: none, and other reasons; uring 2: ENOSYS)");
    }

    #[test]
    fn each_need_is_in_the_list_of_needs() {
        let list = fs::read_to_string(workspace().join("docs/testing.md")).expect("read docs/testing.md");
        let listed = list.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
        let listed: Vec<&str> =
            listed.flat_map(|(needs, _)| needs.split(", ").map(|need| need.trim_matches('`'))).collect();
        let mut folders = vec![workspace().join("crates"), workspace().join("xtask")];
        let mut used = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("list a folder").map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else if entry.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&entry).expect("read a source");
                    let calls = text
                        .split(concat!("faultin_test::", "skipped("))
                        .skip(1)
                        .filter_map(|call| call.trim_start().strip_prefix('"'));
                    for need in calls.filter_map(|call| Some(call.split_once("\",")?.0)) {
                        used += 1;
                        assert!(listed.contains(&need), "{}: docs/testing.md does not list {need}", entry.display());
                    }
                }
            }
        }
        assert!(used > 30, "{used} calls were found");
    }

    /// glibc silently ignores a tunable that it does not know, and a value out of bounds.
    #[test]
    fn glibc_knows_the_tunables_and_obeys_them() {
        let loader = "/lib64/ld-linux-x86-64.so.2";
        let ask = |question: &str, tunables: &str| {
            let output = Command::new(loader).arg(question).env("GLIBC_TUNABLES", tunables).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        for (name, tunables) in TUNABLES {
            let (Some(tuned), Some(diagnosed)) =
                (ask("--list-tunables", tunables), ask("--list-diagnostics", tunables))
            else {
                return faultin_test::skipped("glibc", format_args!("{loader} does not list tunables"));
            };
            for (tunable, value) in tunables.split(':').map(|pair| pair.split_once('=').expect("name=value")) {
                let in_force = tuned.lines().find_map(|line| line.strip_prefix(tunable)?.strip_prefix(": "));
                let in_force = in_force.unwrap_or_else(|| panic!("{name}: glibc has no {tunable}:\n{tuned}"));
                assert_eq!(in_force.split_whitespace().next(), Some(value), "{name}: {tunable}");
                // EBX of CPUID's leaf 7.
                for (feature, bit) in [("AVX2", 5), ("ERMS", 9), ("AVX512F", 16), ("AVX512VL", 31)] {
                    if value.split(',').any(|word| word.strip_prefix('-') == Some(feature)) {
                        let active = "x86.cpu_features.features[0x1].active[0x1]=0x";
                        let active = diagnosed.lines().find_map(|line| line.strip_prefix(active)).expect("leaf 7");
                        let active = u32::from_str_radix(active, 16).expect("a hexadecimal number");
                        assert_eq!(active >> bit & 1, 0, "{name}: {feature} is in use");
                    }
                }
            }
        }
    }
}
