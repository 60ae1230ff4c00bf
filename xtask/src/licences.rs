//! `cargo xtask licences`: cargo-deny's checks of licences and sources, for machines that do not have it.
//!
//! The lists are those of `deny.toml`. Advisories are not checked: they have to be downloaded.

use std::fs;
use std::process::{Command, ExitCode};

use crate::env::workspace;

/// Checks all packages from which the workspace and the fuzz targets are built.
pub fn main() -> ExitCode {
    match check() {
        Ok(packages) => {
            println!("{packages} packages have licences of the list and come from the registry");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of packages; an error names those with another licence or source.
///
/// # Errors
/// If a package is not allowed, or the packages cannot be listed.
pub fn check() -> Result<usize, String> {
    let deny = fs::read_to_string(workspace().join("deny.toml")).map_err(|error| format!("deny.toml: {error}"))?;
    let allowed = allowed(&deny).ok_or("deny.toml has no list `allow = [\"…\"]`")?;
    let exceptions = exceptions(&deny);
    let tree = Command::new("cargo")
        .current_dir(workspace())
        .args(["tree", "--workspace", "--locked", "--target", "all", "--edges", "normal,build,dev", "--prefix", "none"])
        .args(["--format", "{p}\t{l}"])
        .output()
        .map_err(|error| format!("cargo tree: {error}"))?;
    if !tree.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&tree.stderr)));
    }
    let tree = String::from_utf8_lossy(&tree.stdout);
    let mut packages: Vec<&str> =
        tree.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect();
    packages.sort_unstable();
    packages.dedup();
    let root = format!("({}", workspace().display());
    let wrong: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let name = package.split(' ').next().unwrap_or_default();
            let own = exceptions.iter().filter(|(other, _)| *other == name).flat_map(|(_, more)| more.iter().copied());
            complaint(package, &root, &allowed.iter().copied().chain(own).collect::<Vec<_>>()).err()
        })
        .collect();
    if wrong.is_empty() { Ok(packages.len()) } else { Err(wrong.join("\n")) }
}

/// Returns the licences of the list `allow`.
fn allowed(deny: &str) -> Option<Vec<&str>> {
    let licences = deny.split_once("[licenses]")?.1;
    list(licences)
}

/// Returns the names in the first list `allow = ["…"]`.
fn list(text: &str) -> Option<Vec<&str>> {
    let list = text.split_once("allow = [")?.1.split_once(']')?.0;
    Some(list.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty()).collect())
}

/// Returns further licences of single packages, from `exceptions = [{ crate = "…", allow = ["…"] }]`.
fn exceptions(deny: &str) -> Vec<(&str, Vec<&str>)> {
    let Some((_, rest)) = deny.split_once("exceptions = [") else { return Vec::new() };
    let entries = rest.split('{').skip(1).map_while(|entry| Some(entry.split_once('}')?.0));
    entries.filter_map(|entry| Some((entry.split_once("crate = \"")?.1.split_once('"')?.0, list(entry)?))).collect()
}

/// Returns what is wrong with a package, `name vX.Y.Z (source)`, a tab and its licence.
fn complaint(package: &str, root: &str, allowed: &[&str]) -> Result<(), String> {
    let (package, licence) = package.split_once('\t').ok_or_else(|| format!("{package}: not a line of cargo tree"))?;
    let own = package.contains(root);
    // cargo names sources other than the registry only; `(proc-macro)` is not one.
    let source = package.split_once(" (").map(|(_, rest)| rest).filter(|rest| !rest.starts_with("proc-macro"));
    match source {
        Some(source) if !own => return Err(format!("{package}: does not come from the registry: {source}")),
        _ => {}
    }
    if own || permits(licence, allowed) { Ok(()) } else { Err(format!("{package}: its licence is {licence:?}")) }
}

/// Returns whether the allowed licences satisfy an SPDX expression. (`OR` binds less than `AND`; `/` is an old `OR`.)
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = expression.split_whitespace().peekable();
    either(&mut words, allowed) == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &[&str]) -> Option<bool> {
    let mut result = both(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= both(words, allowed)?;
    }
    Some(result)
}

fn both(words: &mut Words<'_>, allowed: &[&str]) -> Option<bool> {
    let mut result = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words, allowed)?;
    }
    Some(result)
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> Option<bool> {
    if words.next_if_eq(&"(").is_some() {
        let result = either(words, allowed)?;
        words.next_if_eq(&")")?;
        return Some(result);
    }
    let mut name = words.next()?.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next()?);
    }
    Some(allowed.contains(&&*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_the_licences_allowed() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "GPL-3.0 OR MIT",
            "MIT/GPL-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "GPL-2.0 AND LGPL-2.1 OR MIT",
        ] {
            assert!(permits(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "GPL-2.0 WITH LLVM-exception",
            "MIT MIT",
        ] {
            assert!(!permits(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn an_exception_is_for_one_package() {
        let deny = "[licenses]\nallow = [\"MIT\"]\nexceptions = [{ crate = \"a\", allow = [\"B\", \"C\"] }, { crate = \"d\", allow = [\"E\"] }]\n";
        assert_eq!(allowed(deny), Some(vec!["MIT"]));
        assert_eq!(exceptions(deny), [("a", vec!["B", "C"]), ("d", vec!["E"])]);
        assert_eq!(exceptions("[licenses]\nallow = [\"MIT\"]\n"), []);
    }

    #[test]
    fn packages_come_from_the_registry_or_this_workspace() {
        let complain = |package: &str| complaint(package, "(/here", &["MIT"]);
        assert_eq!(complain("a v1.0.0\tMIT"), Ok(()));
        assert_eq!(complain("a v1.0.0 (proc-macro)\tMIT"), Ok(()));
        assert_eq!(complain("a v1.0.0 (/here/crates/a)\t"), Ok(()));
        assert!(complain("a v1.0.0 (/elsewhere/a)\tMIT").is_err());
        assert!(complain("a v1.0.0 (https://example.org/a#1)\tMIT").is_err());
        assert!(complain("a v1.0.0\t").is_err());
    }

    #[test]
    fn the_list_is_deny_tomls() {
        let deny = fs::read_to_string(workspace().join("deny.toml")).expect("read deny.toml");
        assert!(allowed(&deny).is_some_and(|list| list.contains(&"MIT") && list.contains(&"Apache-2.0")));
    }
}
