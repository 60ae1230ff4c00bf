//! The packages of this workspace, by `cargo metadata`.

use std::process::Command;

use serde_json::Value;

use crate::env::{output, workspace};

/// A package of this workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it may be published.
    pub published: bool,
    /// The library's file name without its extension; `None` for a package without a library.
    pub library: Option<String>,
    /// Whether the library's API is promised to users. A package that is published only because another package needs it has
    /// `package.metadata.api.internal = true`.
    pub promised: bool,
    /// Whether it names a repository.
    pub has_repository: bool,
    /// The other packages of the workspace that users of this one need, each with the required version.
    pub needs: Vec<(String, String)>,
}

/// Reads the packages of this workspace.
///
/// # Errors
/// If cargo cannot read the workspace.
pub fn all() -> Result<Vec<Package>, String> {
    let mut cargo = Command::new("cargo");
    let text = output(cargo.current_dir(workspace()).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    parse(&text)
}

/// Reads the packages from what `cargo metadata` prints.
fn parse(text: &str) -> Result<Vec<Package>, String> {
    let metadata: Value = serde_json::from_str(text).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
    packages.iter().map(|package| read(package).ok_or_else(|| format!("cargo metadata: {package}"))).collect()
}

fn read(package: &Value) -> Option<Package> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let is_library =
        |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib"));
    let mut needs = Vec::new();
    for dependency in package["dependencies"].as_array()? {
        if !dependency["path"].is_null() && dependency["kind"] != "dev" {
            needs.push((text(&dependency["name"])?, text(&dependency["req"])?));
        }
    }
    Some(Package {
        name: text(&package["name"])?,
        version: text(&package["version"])?,
        // A missing list means any registry, an empty one none.
        published: package["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
        library: package["targets"].as_array()?.iter().find(is_library).and_then(|target| text(&target["name"])),
        promised: package["metadata"]["api"]["internal"] != true,
        has_repository: !package["repository"].is_null(),
        needs,
    })
}

/// Returns the packages that are published, each after the packages that it needs.
///
/// # Errors
/// If a published package needs one that is not, or packages need each other.
pub fn in_order(packages: &[Package]) -> Result<Vec<&Package>, String> {
    let mut rest: Vec<&Package> = packages.iter().filter(|package| package.published).collect();
    let mut order: Vec<&Package> = Vec::new();
    while !rest.is_empty() {
        let ready =
            |package: &&Package| package.needs.iter().all(|(name, _)| order.iter().any(|have| have.name == *name));
        let Some(next) = rest.iter().position(ready) else {
            let names: Vec<&str> = rest.iter().map(|package| &*package.name).collect();
            return Err(format!("{} need each other, or a package that is not published", names.join(", ")));
        };
        order.push(rest.remove(next));
    }
    Ok(order)
}

/// Returns what is wrong with the versions: all published packages have one version, and require it of each other.
pub fn disagreements(packages: &[Package]) -> Vec<String> {
    let published = || packages.iter().filter(|package| package.published);
    let Some(version) = published().next().map(|package| &package.version) else {
        return vec!["no package is published".into()];
    };
    let mut wrong = Vec::new();
    for package in published() {
        if package.version != *version {
            wrong.push(format!("{} has version {}, other packages have {version}", package.name, package.version));
        }
        for (name, required) in &package.needs {
            if *required != format!("^{version}") {
                wrong.push(format!("{} requires {name} {required}, not ^{version}", package.name));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Largest number of packages from a registry that each published package depends on directly, optional ones included.
    const BUDGET: [(&str, usize); 8] = [
        ("faultin", 3),
        ("faultin-audit", 10),
        ("faultin-c", 1),
        ("faultin-cache", 8),
        ("faultin-cli", 5),
        ("faultin-guard", 4),
        ("faultin-sim", 0),
        ("faultin-store", 14),
    ];

    /// Returns the direct dependencies from a registry of each published package.
    fn dependencies() -> Vec<(String, BTreeSet<String>)> {
        let mut cargo = Command::new("cargo");
        let text = output(cargo.current_dir(workspace()).args(["metadata", "--no-deps", "--format-version", "1"]));
        let metadata: Value = serde_json::from_str(&text.unwrap()).unwrap();
        let packages = metadata["packages"].as_array().unwrap().iter();
        packages
            .filter(|package| read(package).unwrap().published)
            .map(|package| {
                let of_users = |other: &&Value| other["kind"] != "dev" && other["path"].is_null();
                let all = package["dependencies"].as_array().unwrap().iter().filter(of_users);
                let names = all.map(|other| other["name"].as_str().unwrap().to_owned()).collect();
                (package["name"].as_str().unwrap().to_owned(), names)
            })
            .collect()
    }

    /// A row of the table is `| package | dependency | reason |`.
    #[test]
    fn direct_dependencies_are_within_the_budget_and_each_has_its_reason_in_the_design() {
        let design = std::fs::read_to_string(workspace().join("DESIGN.md")).unwrap();
        let (_, section) = design.split_once("\n## Dependencies\n").expect("DESIGN.md has this section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows: BTreeSet<(String, String)> = section
            .lines()
            .filter_map(|line| {
                let [_, package, dependency, reason, _] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
                    return None;
                };
                let name = |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
                let row = (name(package)?, name(dependency)?);
                assert!(reason.len() > 10, "{row:?} has no reason");
                Some(row)
            })
            .collect();
        let all = dependencies();
        let is: BTreeSet<(String, String)> =
            all.iter().flat_map(|(name, others)| others.iter().map(|other| (name.clone(), other.clone()))).collect();
        assert_eq!(is, rows, "the manifests, and the table in DESIGN.md");
        let counts: Vec<(&str, usize)> = all.iter().map(|(name, others)| (&**name, others.len())).collect();
        assert_eq!(counts.len(), BUDGET.len(), "{counts:?}");
        for (name, most) in BUDGET {
            let count = counts.iter().find(|(other, _)| *other == name).map(|(_, count)| *count);
            assert!(count.is_some_and(|count| count <= most), "{name} has {count:?} dependencies, and may have {most}");
        }
    }

    fn package(name: &str, needs: &[(&str, &str)]) -> Package {
        Package {
            name: name.into(),
            version: "0.1.0".into(),
            published: true,
            library: None,
            promised: true,
            has_repository: true,
            needs: needs.iter().map(|&(name, version)| (name.into(), version.into())).collect(),
        }
    }

    #[test]
    fn metadata_is_read() {
        let text = r#"{"packages": [
            {"name": "a", "version": "1.2.3", "publish": null, "metadata": null,
             "targets": [{"kind": ["test"], "name": "t"}, {"kind": ["lib"], "name": "a_lib"}],
             "dependencies": [
                {"name": "b", "req": "^1.2.3", "kind": null, "path": "/b"},
                {"name": "libc", "req": "^0.2", "kind": null},
                {"name": "c", "req": "*", "kind": "dev", "path": "/c"}]},
            {"name": "b", "version": "1.2.3", "publish": [], "metadata": {"api": {"internal": true}},
             "targets": [{"kind": ["bin"], "name": "b"}], "dependencies": []}]}"#;
        let [a, b] = &parse(text).unwrap()[..] else { panic!("two packages") };
        assert_eq!((a.published, a.promised, a.library.as_deref()), (true, true, Some("a_lib")));
        assert_eq!(a.needs, [("b".to_owned(), "^1.2.3".to_owned())]);
        assert_eq!((b.published, b.promised, b.library.as_deref()), (false, false, None));
        assert!(parse("{}").is_err() && parse("").is_err() && parse(r#"{"packages": [{}]}"#).is_err());
    }

    #[test]
    fn packages_follow_what_they_need() {
        let list =
            [package("top", &[("middle", ""), ("base", "")]), package("middle", &[("base", "")]), package("base", &[])];
        let names: Vec<&str> = in_order(&list).unwrap().iter().map(|package| &*package.name).collect();
        assert_eq!(names, ["base", "middle", "top"]);
        let mut list = list;
        list[2].published = false;
        assert!(in_order(&list).unwrap_err().contains("top, middle"));
        assert!(in_order(&[package("a", &[("b", "")]), package("b", &[("a", "")])]).is_err());
    }

    #[test]
    fn versions_that_differ_are_found() {
        let mut list = [package("base", &[]), package("top", &[("base", "^0.1.0")])];
        assert_eq!(disagreements(&list), <[String; 0]>::default());
        list[1].needs[0].1 = "^0.1".into();
        assert_eq!(disagreements(&list), ["top requires base ^0.1, not ^0.1.0"]);
        list[1].needs[0].1 = "^0.1.0".into();
        list[1].version = "0.2.0".into();
        assert_eq!(disagreements(&list), ["top has version 0.2.0, other packages have 0.1.0"]);
        // An unpublished package may have any version.
        list[1].published = false;
        assert_eq!(disagreements(&list), <[String; 0]>::default());
    }

    #[test]
    fn the_workspace_can_be_published() {
        let packages = all().unwrap();
        assert_eq!(disagreements(&packages), <[String; 0]>::default());
        let order: Vec<&str> = in_order(&packages).unwrap().iter().map(|package| &*package.name).collect();
        assert!(
            order.starts_with(&["faultin", "faultin-sim", "faultin-cache"]) && order.contains(&"faultin-cli"),
            "{order:?}"
        );
    }
}
