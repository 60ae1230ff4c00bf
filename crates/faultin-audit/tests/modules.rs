//! The files of the crate form layers: no file depends on one that depends on it.
//!
//! A file depends on another one if its code outside of tests has a path into it: `crate::…`, `super::…` or the name of a
//! child module. What a folder's `mod.rs` re-exports counts as a dependency of that `mod.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Module = Vec<String>;

/// Returns the source files of the library, by module.
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

/// Returns the code without comments, texts, tests and visibilities. Code in a block of its own (`mod real { … }`) is the
/// file's, one `super` less.
fn code(text: &str) -> String {
    let mut code = String::new();
    let (mut in_tests, mut in_block) = (false, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_for_tests = line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
        in_tests |= is_for_tests && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        in_block |= line.starts_with("mod ") && line.ends_with('{');
        let line = line.split("//").next().unwrap_or_default();
        let line = line.split('"').step_by(2).collect::<String>();
        let line = line.replace("pub(super)", "pub").replace("pub(in super::super)", "pub");
        if !in_tests {
            code += &if in_block { line.replace("super::", "self::") } else { line.clone() };
            code.push('\n');
        }
        in_block &= line != "}";
    }
    code
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

fn dependencies(module: &Module, text: &str, modules: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    for path in paths(&code(text)) {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let child = || module.iter().cloned().chain([path[0].clone()]).collect::<Module>();
        let mut target: Module = match path[0].as_str() {
            "crate" => path[1..].to_vec(),
            "super" => [&module[..module.len() - ups], &path[ups..]].concat(),
            "self" => [&module[..], &path[1..]].concat(),
            _ if path.len() > 1 && modules.contains_key(&child()) => [&module[..], &path[..]].concat(),
            _ => continue,
        };
        while !modules.contains_key(&target) {
            target.pop();
        }
        if target != *module && !target.is_empty() {
            found.insert(target);
        }
    }
    found
}

#[test]
fn no_file_depends_on_one_that_depends_on_it() {
    let mut modules = BTreeMap::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut modules);
    // The binary's own, which uses the library as others do.
    modules.retain(|module, _| !matches!(module.first().map(String::as_str), Some("main" | "command")));
    let mut left: BTreeMap<&Module, BTreeSet<Module>> =
        modules.iter().map(|(module, text)| (module, dependencies(module, text, &modules))).collect();
    let arrows: usize = left.values().map(BTreeSet::len).sum();
    assert!(left.len() > 40 && arrows > 3 * left.len(), "{} files, {arrows} dependencies", left.len());
    let has = |from: &str, to: &str| left[&Module::from([from.to_owned()])].contains(&Module::from([to.to_owned()]));
    assert!(has("run", "callers") && has("expect", "scenario") && has("log", "user"), "{left:?}");
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
    let circle: Vec<PathBuf> = left.keys().map(|module| module.iter().collect()).collect();
    assert!(circle.is_empty(), "these depend on each other: {circle:?}");
}
