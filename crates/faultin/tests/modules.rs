//! The files of `map` form layers: no file depends on one that depends on it.

use std::path::Path;

use faultin_test::modules::Modules;

#[test]
fn no_file_of_map_depends_on_one_that_depends_on_it() {
    // `state` is the half of `stamp` that another system has another one of.
    const LEFT_OUT: [&str; 2] = ["state", "stamp_tests"];
    let is_left_out = |module: &[String]| {
        module.first().is_none_or(|name| name != "map") || module.iter().any(|name| LEFT_OUT.contains(&name.as_str()))
    };
    let modules = Modules::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), is_left_out);
    let has = |from: &[&str], to: &[&str]| {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        modules.dependencies(&path(from)).contains(&path(to))
    };
    assert!(modules.len() > 30, "{} files", modules.len());
    assert!(
        has(&["map", "answer"], &["map", "file"]) && has(&["map", "file"], &["map", "engine"]),
        "known ones are found"
    );
    assert!(has(&["map", "shared", "options"], &["map", "engine"]), "known ones are found");
    let circles = modules.circles();
    assert!(circles.is_empty(), "these depend on each other: {circles:?}");
}
