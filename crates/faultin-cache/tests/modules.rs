//! The files of the crate form layers: no file depends on one that depends on it, except those that explore and stress the others.

use std::path::Path;

use faultin_test::modules::Modules;

#[test]
fn no_file_depends_on_one_that_depends_on_it() {
    const TESTS: [&str; 4] = ["exploration", "explore", "mailbox_stress", "stress"];
    let is_left_out = |module: &[String]| module.iter().any(|name| TESTS.contains(&name.as_str()));
    let modules = Modules::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), is_left_out);
    let has = |from: &[&str], to: &[&str]| {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        modules.dependencies(&path(from)).contains(&path(to))
    };
    assert!(modules.len() > 60, "{} files", modules.len());
    assert!(has(&["read"], &["inode"]) && has(&["inode"], &["inside", "core"]), "known dependencies are found");
    assert!(
        has(&["inside", "core"], &["folio", "inside", "table"]) && !has(&["inode"], &["cache"]),
        "known dependencies are found"
    );
    let circles = modules.circles();
    assert!(circles.is_empty(), "these depend on each other: {circles:?}");
}
