//! The files of the crate form layers: no file depends on one that depends on it.

use std::path::Path;

use faultin_test::modules::{Module, Modules};

#[test]
fn no_file_depends_on_one_that_depends_on_it() {
    // Without the binary's own, which uses the library as others do.
    let is_left_out = |module: &[String]| matches!(module.first().map(String::as_str), Some("main" | "command"));
    let modules = Modules::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), is_left_out);
    // A re-export leads to the file in the folder that defines the name.
    let has = |from: &str, to: &str| {
        let needed = modules.dependencies(&Module::from([from.to_owned()]));
        needed.iter().any(|module| module.first().is_some_and(|first| first == to))
    };
    assert!(modules.len() > 40, "{} files", modules.len());
    assert!(has("run", "callers") && has("expect", "scenario") && has("log", "user"), "known dependencies are found");
    let circles = modules.circles();
    assert!(circles.is_empty(), "these depend on each other: {circles:?}");
}
