//! `cargo xtask man`: the man pages and completions of `faultin`, written from the definition of its command line.
//!
//! They are checked in, so that the package has them: a distribution copies them, and does not need to run a tool.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use clap_complete::Shell;

use crate::env::{target, workspace};

/// The folders of the package that this command owns.
const FOLDERS: [&str; 2] = ["man", "completions"];

/// Arguments of `cargo xtask man`.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; exit status 1 if a file is out of date
    #[arg(long)]
    check: bool,
}

/// Writes the files, or compares them.
pub fn main(args: &Args) -> ExitCode {
    let result = stale(&package()).and_then(|stale| {
        if !args.check {
            write(&package())?;
        }
        Ok(stale)
    });
    match result {
        Ok(stale) => {
            let what = if args.check { "not what the command line gives now" } else { "written" };
            for file in &stale {
                println!("crates/faultin-cli/{}: {what}", file.display());
            }
            if args.check && !stale.is_empty() {
                println!("To write them: cargo xtask man");
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn package() -> PathBuf {
    workspace().join("crates/faultin-cli")
}

/// Returns all files, by their paths in the package.
fn files() -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let pages = target().join(format!("man.{}", std::process::id()));
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(faultin_cli::command(), &pages)?;
    for page in fs::read_dir(&pages)? {
        let page = page?;
        files.insert(Path::new(FOLDERS[0]).join(page.file_name()), fs::read(page.path())?);
    }
    fs::remove_dir_all(&pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        let mut command = faultin_cli::command();
        clap_complete::generate(shell, &mut command, "faultin", &mut text);
        let name = match shell {
            Shell::Zsh => "_faultin".to_owned(),
            shell => format!(
                "faultin.{}",
                shell.to_possible_value().map_or("sh".into(), |value| value.get_name().to_owned())
            ),
        };
        files.insert(Path::new(FOLDERS[1]).join(name), text);
    }
    Ok(files)
}

/// Returns the files of a package that are outdated, missing, or superfluous.
fn stale(package: &Path) -> io::Result<Vec<PathBuf>> {
    let now = files()?;
    let mut stale: Vec<PathBuf> = now
        .iter()
        .filter(|(path, text)| fs::read(package.join(path)).ok().as_ref() != Some(text))
        .map(|(path, _)| path.clone())
        .collect();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(package.join(folder)) else { continue };
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            if !now.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

fn write(package: &Path) -> io::Result<()> {
    for folder in FOLDERS.map(|folder| package.join(folder)) {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&folder)?,
        }
    }
    files()?.iter().try_for_each(|(path, text)| fs::write(package.join(path), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subcommand_has_a_page_and_each_shell_its_completions() {
        let folder = target().join(format!("man.test.{}", std::process::id()));
        write(&folder).expect("write the files");
        let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(read("man/faultin.1").contains(r"faultin\-sum(1)"));
        for subcommand in faultin_cli::command().get_subcommands() {
            let page = read(&format!("man/faultin-{}.1", subcommand.get_name()));
            assert!(page.contains("SYNOPSIS"), "{page}");
            for completions in ["completions/faultin.bash", "completions/_faultin", "completions/faultin.fish"] {
                assert!(read(completions).contains(subcommand.get_name()), "{completions}: {}", subcommand.get_name());
            }
        }
        assert_eq!(stale(&folder).expect("read them"), Vec::<PathBuf>::new());

        fs::write(folder.join("man/faultin-sum.1"), "of yesterday").expect("write");
        fs::remove_file(folder.join("completions/_faultin")).expect("remove");
        fs::write(folder.join("man/faultin-gone.1"), "of a subcommand that is no more").expect("write");
        let found = stale(&folder).expect("read them");
        let expected = ["completions/_faultin", "man/faultin-sum.1", "man/faultin-gone.1"].map(PathBuf::from);
        assert_eq!(found, expected);
        fs::remove_dir_all(&folder).expect("remove");
    }

    #[test]
    fn the_files_that_are_checked_in_are_up_to_date() {
        let stale = stale(&package()).expect("read them");
        assert!(stale.is_empty(), "run `cargo xtask man`: {stale:?}");
    }
}
