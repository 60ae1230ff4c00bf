//! The dependencies between the files of a crate, to check that they form layers.
//!
//! A file depends on another one if its code outside of tests has a path into it: `crate::…`, `super::…` or the name of a
//! child module. A name that a `mod.rs` re-exports leads to the file that defines it, so a re-export is no dependency. Only
//! paths count: a method that another file adds to a type is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The path of a module in its crate.
pub type Module = Vec<String>;

/// Returns the source files of a library, by module.
fn files(folder: &Path, module: &[String], found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let inner = || module.iter().cloned().chain([name.clone()]).collect::<Module>();
        if path.is_dir() {
            files(&path, &inner(), found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if ["mod", "lib"].contains(&name.as_str()) { module.to_vec() } else { inner() };
            found.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Returns the code without comments, texts, visibilities, tests and imports for documentation: modules of tests, and the
/// line after each `#[cfg(test)]` and `#[cfg(doc)]`. Code in a block of its own (`mod real { … }`) is the file's, one `super` less.
fn code(text: &str) -> String {
    let mut code = String::new();
    let (mut in_tests, mut in_block, mut is_for_tests) = (false, false, false);
    for line in text.lines() {
        let is_attribute = line.trim_start().starts_with("#[");
        in_tests |= is_for_tests && line.starts_with("mod ") && line.ends_with('{');
        in_block |= line.starts_with("mod ") && line.ends_with('{');
        if !in_tests && !is_for_tests {
            let line = line.split("//").next().unwrap_or_default();
            let line = line.split('"').step_by(2).collect::<String>();
            let line = without_visibilities(&line);
            code += &if in_block { line.replace("super::", "self::") } else { line };
            code.push('\n');
        }
        let begins = ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(doc)]", "#[cfg(all(doc"]
            .iter()
            .any(|start| line.trim_start().starts_with(start));
        is_for_tests = begins || is_for_tests && is_attribute;
        in_block &= line != "}";
    }
    code
}

/// Returns a line with `pub` in place of `pub(in path)` and `pub(super)`; `pub(crate)` stays.
fn without_visibilities(line: &str) -> String {
    let mut rest = line.replace("pub(super)", "pub");
    while let Some(start) = rest.find("pub(in ") {
        let end = rest[start..].find(')').map_or(rest.len(), |len| start + len + 1);
        rest.replace_range(start..end, "pub");
    }
    rest
}

/// Returns the paths in a piece of code, with the items of `use` trees.
fn paths(code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut rest = code;
    while let Some(start) = rest.find(is_of_path) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_of_path(c)).unwrap_or(rest.len());
        let (path, after) = rest.split_at(end);
        rest = after;
        if path == "as" {
            rest = rest.trim_start().trim_start_matches(is_of_path);
            continue;
        }
        let mut prefix: Module = path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if path.ends_with("::") && rest.starts_with('{') {
            let mut depth = 0;
            let end = rest.find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth == 0
            });
            let (tree, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            found.extend(paths(&tree[1..]).into_iter().map(|inner| [prefix.clone(), inner].concat()));
        } else if path.contains("::") || !prefix.is_empty() {
            found.push(std::mem::take(&mut prefix));
        }
    }
    found
}

/// The modules of a crate, and their dependencies.
#[derive(Debug)]
pub struct Modules {
    files: BTreeMap<Module, String>,
    /// For each module the names that it re-exports, with their paths.
    exports: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl Modules {
    /// Reads the files of `folder`, a crate's `src`, except modules for which `is_left_out` returns true.
    ///
    /// # Panics
    /// If a file cannot be read.
    pub fn read(folder: &Path, is_left_out: impl Fn(&[String]) -> bool) -> Modules {
        let mut modules = Modules { files: BTreeMap::new(), exports: BTreeMap::new() };
        files(folder, &[], &mut modules.files);
        modules.files.retain(|module, _| !is_left_out(module));
        for (module, text) in &modules.files {
            let mut exports = BTreeMap::new();
            for (_, statement) in uses(&code(text), module.is_empty()) {
                for path in paths(&statement) {
                    if let (Some(name), Some(target)) = (path.last(), modules.absolute(module, &path)) {
                        exports.insert(name.clone(), target);
                    }
                }
            }
            modules.exports.insert(module.clone(), exports);
        }
        modules
    }

    /// Returns the number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns a path of a module's code from the root of the crate; `None` if it leads out of the crate, or is no path.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let ups = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat()),
            "self" => Some([&module[..], &path[1..]].concat()),
            first => {
                let child: Module = module.iter().cloned().chain([first.to_owned()]).collect();
                (path.len() > 1 && self.files.contains_key(&child)).then(|| [&module[..], path].concat())
            }
        }
    }

    /// Returns the file in which a path from the root ends.
    fn file(&self, mut path: Module) -> Module {
        // As often as a name may be re-exported.
        for _ in 0..8 {
            let known = (0..=path.len()).rev().find(|&len| self.files.contains_key(&path[..len])).unwrap_or(0);
            let next = path.get(known).and_then(|name| self.exports.get(&path[..known])?.get(name));
            match next {
                Some(next) => path = next.iter().chain(&path[known + 1..]).cloned().collect(),
                None => {
                    path.truncate(known);
                    break;
                }
            }
        }
        path
    }

    /// Returns the modules that a module depends on. The root of the crate is none.
    pub fn dependencies(&self, module: &Module) -> BTreeSet<Module> {
        let mut code = code(&self.files[module]);
        for (range, _) in uses(&code, false).into_iter().rev() {
            code.replace_range(range, "");
        }
        let targets = paths(&code).into_iter().filter_map(|path| self.absolute(module, &path));
        let files = targets.filter(|path| !path.is_empty()).map(|path| self.file(path));
        files.filter(|file| file != module && !file.is_empty()).collect()
    }

    /// Returns the modules that depend on themselves, by way of others, or are needed by such.
    pub fn circles(&self) -> Vec<PathBuf> {
        let mut left: BTreeMap<&Module, BTreeSet<Module>> =
            self.files.keys().map(|module| (module, self.dependencies(module))).collect();
        // Without the files that depend on nothing left, again and again, nothing is left.
        loop {
            let free: Vec<Module> =
                left.iter().filter(|(_, of)| of.is_empty()).map(|(module, _)| (*module).clone()).collect();
            if free.is_empty() {
                break;
            }
            left.retain(|module, _| !free.contains(module));
            left.values_mut().for_each(|of| of.retain(|module| !free.contains(module)));
        }
        left.keys().map(|module| module.iter().collect()).collect()
    }
}

/// Returns the re-exports in a piece of code: the place and the tree of each. At the root of a crate all imports are such,
/// because the other files use them as `crate::name`.
fn uses(code: &str, is_root: bool) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    let imports = if is_root { "\nuse " } else { "pub use " };
    for start in ["pub use ", "pub(crate) use ", imports] {
        for (at, _) in code.match_indices(start) {
            let end = code[at..].find(';').map_or(code.len(), |len| at + len + 1);
            found.push((at..end, code[at + start.len()..end].to_owned()));
        }
    }
    found.sort_by_key(|(range, _)| range.start);
    found.dedup_by_key(|(range, _)| range.start);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(texts: &[(&str, &str)]) -> Modules {
        let folder = std::env::temp_dir().join(format!("faultin-modules-{}-{}", std::process::id(), texts.len()));
        for (name, text) in texts {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let modules = Modules::read(&folder, |module| module == ["left_out"]);
        fs::remove_dir_all(&folder).unwrap();
        modules
    }

    #[test]
    fn a_re_export_leads_to_the_file_that_defines_the_name() {
        let modules = modules(&[
            ("lib.rs", "mod a;\nmod b;\nmod left_out;\n"),
            ("left_out.rs", "use crate::a::Low;\n"),
            ("a/mod.rs", "mod low;\nmod top;\npub(crate) use low::Low;\npub use top::{Top, other};\n"),
            ("a/low.rs", "// crate::b::B\npub struct Low;\n#[cfg(test)]\nuse crate::b::B;\n"),
            (
                "a/top.rs",
                "use super::Low;\npub(in crate::b) struct Top;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n",
            ),
            ("b.rs", "use crate::a::{Low, Top as Highest};\nstruct B;\n"),
        ]);
        let of = |module: &[&str]| modules.dependencies(&module.iter().map(|name| (*name).to_owned()).collect());
        let names = |names: &[&[&str]]| -> BTreeSet<Module> {
            names.iter().map(|name| name.iter().map(|part| (*part).to_owned()).collect()).collect()
        };
        assert_eq!(of(&["b"]), names(&[&["a", "low"], &["a", "top"]]));
        assert_eq!(
            (of(&["a", "top"]), of(&["a", "low"]), of(&["a"])),
            (names(&[&["a", "low"]]), names(&[]), names(&[]))
        );
        assert_eq!((modules.len(), modules.circles()), (5, Vec::<PathBuf>::new()));
    }

    #[test]
    fn a_circle_is_found() {
        let modules = modules(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\n"),
            ("a.rs", "fn a() {\n    crate::b::b();\n}\n"),
            ("b.rs", "use crate::c;\n"),
            ("c.rs", "use super::a::a;\n"),
            ("d.rs", ""),
        ]);
        assert_eq!(modules.circles(), ["a", "b", "c"].map(PathBuf::from));
    }
}
