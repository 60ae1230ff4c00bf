//! `cargo xtask api`: the public API of each library, one line for each item, in `docs/api`.
//!
//! The lists are checked in, so that a review sees each change of the API. They have the items that docs.rs shows: all
//! features, without items that are `#[doc(hidden)]`. rustdoc reports the items as JSON, whose format changes with the
//! compiler; [`FORMAT`] is the supported one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use public_api::tokens::Token;
use public_api::{Builder, PublicItem};
use serde_json::Value;

use crate::env::{output, succeed, target, workspace};
use crate::packages::{self, Package};

/// The format of rustdoc's JSON that the crate `public-api` of `xtask/Cargo.toml` reads.
const FORMAT: u64 = 57;
/// The lists are of this target: elsewhere, what is specific to an architecture differs.
const HOST: &str = "x86_64-unknown-linux-gnu";
/// The folder of the lists.
const LISTS: &str = "docs/api";
/// How to update the lists.
const UPDATE: &str = "`cargo xtask api` writes the list anew; check it in with the change";

/// Arguments of `cargo xtask api`.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; exit status 1 if a list is out of date
    #[arg(long)]
    check: bool,
}

/// Runs the command line.
pub fn main(args: &Args) -> ExitCode {
    let result = if args.check { check() } else { write() };
    match result {
        Ok(lines) => {
            println!("{lines}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Compares the lists with the libraries, and returns the counts.
///
/// # Errors
/// If a list differs, or if rustdoc cannot describe a library in the format that is read here.
pub fn check() -> Result<String, String> {
    if let Some(why) = elsewhere()? {
        faultin_test::skipped("x86-64", why);
        return Ok("nothing was compared".into());
    }
    let lists = lists()?;
    let (mut counts, mut wrong) = (Vec::new(), Vec::new());
    let entries = fs::read_dir(workspace().join(LISTS)).map_err(|error| format!("{LISTS}: {error}"))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("{LISTS}: {error}"))?.path();
        if !lists.keys().any(|name| path.ends_with(file(name))) {
            wrong.push(format!("{} is the list of no library that is published: remove it", path.display()));
        }
    }
    for (name, list) in lists {
        let path = file(&name);
        let (old, new) = (fs::read_to_string(workspace().join(&path)).unwrap_or_default(), list.text(&name));
        if old != new {
            wrong.push(format!("{} is not the API of {name}:\n{}", path.display(), difference(&old, &new)));
        }
        counts.push(format!("{name}: {}", list.count()));
    }
    if wrong.is_empty() { Ok(counts.join("\n")) } else { Err(format!("{}\n{UPDATE}", wrong.join("\n"))) }
}

/// Writes the lists, and returns the counts.
fn write() -> Result<String, String> {
    if let Some(why) = elsewhere()? {
        return Err(why);
    }
    let mut counts = Vec::new();
    for (name, list) in lists()? {
        let path = workspace().join(file(&name));
        let folder = path.parent().expect("a file in a folder");
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, list.text(&name)));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        counts.push(format!("{name}: {}", list.count()));
    }
    Ok(counts.join("\n"))
}

/// Returns the reason why this machine cannot make the lists.
fn elsewhere() -> Result<Option<String>, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = output(Command::new(rustc).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    Ok((host != HOST).then(|| format!("the lists are of {HOST}, and this is {host}")))
}

/// Returns the list of a package.
fn file(package: &str) -> PathBuf {
    Path::new(LISTS).join(format!("{package}.txt"))
}

/// Makes the list of each library whose API is promised; the keys are the packages' names.
fn lists() -> Result<BTreeMap<String, List>, String> {
    let promised = |package: &Package| package.published && package.promised && package.library.is_some();
    let packages: Vec<Package> = packages::all()?.into_iter().filter(promised).collect();
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).args(["doc", "--quiet", "--no-deps", "--all-features"]);
    for package in &packages {
        cargo.args(["--package", &package.name]);
    }
    // JSON is not stable yet. The flags are for rustdoc only: compiled code does not change.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTDOCFLAGS", "-Zunstable-options --output-format json");
    cargo.env_remove("CARGO_ENCODED_RUSTDOCFLAGS");
    succeed(&mut cargo)?;
    let render = |package: &Package| {
        let library = package.library.as_deref().unwrap_or_default();
        let list = List::of(&target().join("doc").join(format!("{library}.json")))?;
        Ok((package.name.clone(), list))
    };
    packages.iter().map(render).collect()
}

/// The public API of a library.
struct List {
    lines: Vec<String>,
    /// Number of items with a path, methods included. Fields, variants and implementations belong to their type.
    declarations: usize,
    /// Number of those that have more than one path.
    repeated: usize,
}

impl List {
    /// Makes the list of the library that rustdoc described in a file.
    fn of(json: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(json).map_err(|error| format!("{}: {error}", json.display()))?;
        understood(&text)?;
        let api = Builder::from_rustdoc_json(json)
            .omit_blanket_impls(true)
            .include_function_parameter_names(true)
            .build()
            .map_err(|error| format!("{}: {error}", json.display()))?;
        let traits: HashSet<_> = api.items().filter(|item| implements(item)).map(PublicItem::id).collect();
        // Items that a trait prescribes belong to the trait: users of the type see that it is implemented.
        let own = |item: &&PublicItem| item.parent_id().is_none_or(|parent| !traits.contains(&parent));
        let (mut lines, mut seen) = (Vec::new(), HashSet::new());
        let mut paths: HashMap<_, HashSet<String>> = HashMap::new();
        for item in api.items().filter(own) {
            let line = item.to_string();
            if is_noise(&line) {
                continue;
            }
            if declares(&line) {
                paths.entry(item.id()).or_default().insert(line.clone());
            }
            // An item with two paths is listed at both, and its own items are listed once.
            if seen.insert(line.clone()) {
                lines.push(line);
            }
        }
        let repeated = paths.values().filter(|paths| paths.len() > 1).count();
        Ok(Self { lines, declarations: paths.len(), repeated })
    }

    fn count(&self) -> String {
        format!("{} public declarations, {} of them with more than one path", self.declarations, self.repeated)
    }

    /// Returns the contents of the list's file.
    fn text(&self, name: &str) -> String {
        let about = format!("# The public API of {name}, with all features. `cargo xtask api` writes this file.");
        format!("{about}\n# {}\n{}\n", self.count(), self.lines.join("\n"))
    }
}

/// Returns whether a line declares an item, and not a field, variant or implementation.
fn declares(line: &str) -> bool {
    let words = [
        "async", "const", "enum", "extern", "fn", "macro", "mod", "static", "struct", "trait", "type", "union",
        "unsafe",
    ];
    let mut item = line;
    while let Some((_, rest)) = item.strip_prefix("#[").and_then(|attribute| attribute.split_once("] ")) {
        item = rest;
    }
    let mut parts = item.split(' ');
    parts.next() == Some("pub") && parts.next().is_some_and(|word| words.contains(&word))
}

/// Returns the lines of an old list that a new one lacks, and the reverse.
fn difference(old: &str, new: &str) -> String {
    let (old_lines, new_lines): (HashSet<&str>, HashSet<&str>) = (old.lines().collect(), new.lines().collect());
    let gone = old.lines().filter(|line| !new_lines.contains(line)).map(|line| format!("- {line}\n"));
    let added = new.lines().filter(|line| !old_lines.contains(line)).map(|line| format!("+ {line}\n"));
    gone.chain(added).collect()
}

/// Checks that rustdoc's file has the supported format.
fn understood(text: &str) -> Result<(), String> {
    let json: Value = serde_json::from_str(text).map_err(|error| format!("what rustdoc wrote is not JSON: {error}"))?;
    match json["format_version"].as_u64() {
        Some(FORMAT) => Ok(()),
        Some(other) => Err(format!(
            "rustdoc writes format {other}, and the lists are made from format {FORMAT} (Rust 1.94 and 1.95): use such a compiler, or \
             take the version of `public-api` in xtask/Cargo.toml that reads {other}, and set FORMAT in xtask/src/api"
        )),
        None => Err("what rustdoc wrote has no format_version".into()),
    }
}

/// Returns whether an item is the implementation of a trait.
fn implements(item: &PublicItem) -> bool {
    let keyword = |word: &str| item.tokens().any(|token| matches!(token, Token::Keyword(text) if text == word));
    keyword("impl") && keyword("for") && !item.to_string().starts_with("pub ")
}

/// Returns whether users do not rely on a line: traits of the compiler, and auto traits except `Send` and `Sync`.
fn is_noise(line: &str) -> bool {
    let of = [
        "core::marker::Freeze",
        "core::marker::StructuralPartialEq",
        "core::marker::Unpin",
        "core::marker::UnsafeUnpin",
    ];
    let unwinding = ["core::panic::unwind_safe::RefUnwindSafe", "core::panic::unwind_safe::UnwindSafe"];
    line.starts_with("impl") && of.iter().chain(&unwinding).any(|name| line.contains(&format!("{name} for ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `sample.rs` as rustdoc describes it, without items that its list does not need.
    fn sample() -> PathBuf {
        workspace().join("xtask/src/api/sample.json")
    }

    #[test]
    fn a_library_is_listed() {
        let expected = fs::read_to_string(sample().with_extension("txt")).unwrap();
        let text = List::of(&sample()).unwrap().text("sample");
        assert_eq!(text, expected, "\n{}", difference(&expected, &text));
    }

    #[test]
    fn another_format_is_an_error_that_says_what_to_do() {
        let text = fs::read_to_string(sample()).unwrap();
        assert_eq!(understood(&text), Ok(()));
        let newer = text.replace("\"format_version\":57", "\"format_version\":61");
        let error = understood(&newer).unwrap_err();
        assert!(error.contains("writes format 61") && error.contains("from format 57"), "{error}");
        assert!(understood("{}").is_err() && understood("<html>").is_err());
    }

    #[test]
    fn differences_are_lines() {
        assert_eq!(difference("a\nb\nc\n", "a\nc\nd\n"), "- b\n+ d\n");
        assert_eq!(difference("a\n", "a\n"), "");
    }

    #[test]
    fn fields_variants_and_implementations_declare_nothing() {
        let declared = [
            "pub mod a",
            "#[non_exhaustive] #[repr(C)] pub struct a::B",
            "pub unsafe fn a::B::f(&self)",
            "pub macro a::m!",
        ];
        let parts = [
            "pub a::B::field: u8",
            "#[doc(hidden)] pub a::B::field: u8",
            "impl a::B",
            "impl core::clone::Clone for a::B",
        ];
        assert!(declared.into_iter().all(declares) && !parts.into_iter().any(declares));
    }
}
