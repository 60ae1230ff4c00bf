//! The `.crate` files, unpacked beside each other, as users compile them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{home, succeed, workspace};
use crate::packages::Package;

/// The files that each package must contain.
const CARRIED: [&str; 5] = ["Cargo.toml", "Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// The packages, unpacked, as a separate workspace in which they depend on each other.
pub(super) struct Unpacked {
    root: PathBuf,
    folders: Vec<(String, PathBuf)>,
}

/// Returns the folder in which cargo builds the packages.
pub(super) fn target() -> PathBuf {
    home("release").join("target")
}

/// Unpacks the files that `cargo package` made, and checks their contents.
pub(super) fn unpack(published: &[&Package]) -> Result<Unpacked, String> {
    let root = home("release").join("packages");
    let io = |error: std::io::Error| format!("{}: {error}", root.display());
    if root.exists() {
        fs::remove_dir_all(&root).map_err(io)?;
    }
    fs::create_dir_all(&root).map_err(io)?;
    let (mut folders, mut wrong) = (Vec::new(), Vec::new());
    for package in published {
        let name = format!("{}-{}", package.name, package.version);
        let file = target().join("package").join(format!("{name}.crate"));
        succeed(Command::new("tar").arg("--extract").arg("--file").arg(&file).arg("--directory").arg(&root))?;
        let folder = root.join(&name);
        wrong.extend(lacks(&folder).map_err(io)?.into_iter().map(|what| format!("{name}: {what}")));
        folders.push((package.name.clone(), folder));
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    fs::write(root.join("Cargo.toml"), manifest(published)).map_err(io)?;
    // The versions that are checked in. cargo leaves out unused packages.
    fs::copy(workspace().join("Cargo.lock"), root.join("Cargo.lock")).map_err(io)?;
    let unpacked = Unpacked { root, folders };
    succeed(unpacked.cargo("metadata").args(["--quiet", "--format-version", "1"]).stdout(std::process::Stdio::null()))?;
    Ok(unpacked)
}

impl Unpacked {
    /// Builds the documentation as docs.rs does.
    pub(super) fn document(&self) -> Result<(), String> {
        let mut cargo = self.cargo("doc");
        cargo.args(["--quiet", "--locked", "--workspace", "--no-deps", "--all-features"]);
        succeed(cargo.env("RUSTDOCFLAGS", "--deny warnings"))
    }

    /// Installs a package's commands below a folder.
    pub(super) fn install(&self, package: &str, below: &Path) -> Result<(), String> {
        let (_, folder) = self.folders.iter().find(|(name, _)| name == package).ok_or("no such package")?;
        let mut cargo = self.cargo("install");
        cargo.args(["--quiet", "--locked", "--force", "--no-track"]);
        succeed(cargo.arg("--path").arg(folder).arg("--root").arg(below))
    }

    fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.root).arg(command).env("CARGO_TARGET_DIR", target());
        cargo
    }
}

/// Returns the manifest of a workspace of the unpacked packages. They are not in the registry yet: they are taken from
/// here.
fn manifest(published: &[&Package]) -> String {
    let names = || published.iter().map(|package| (&package.name, format!("{}-{}", package.name, package.version)));
    let members: Vec<String> = names().map(|(_, folder)| format!("{folder:?}")).collect();
    let patches: String = names().map(|(name, folder)| format!("{name} = {{ path = {folder:?} }}\n")).collect();
    format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n\n[patch.crates-io]\n{patches}", members.join(", "))
}

/// Returns the files that an unpacked package lacks: of [`CARRIED`], and those that its sources name.
fn lacks(folder: &Path) -> std::io::Result<Vec<String>> {
    let lacking = CARRIED.iter().filter(|name| !folder.join(name).is_file()).map(|name| format!("no {name}"));
    let mut wrong: Vec<String> = lacking.collect();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                for named in named(&fs::read_to_string(&path)?) {
                    if !path.with_file_name(named).is_file() || leaves(folder, &path, named) {
                        wrong.push(format!("{} names {named}, which is not in the package", path.display()));
                    }
                }
            }
        }
    }
    Ok(wrong)
}

/// Returns whether a path, relative to a file's folder, leaves the package.
fn leaves(package: &Path, file: &Path, named: &str) -> bool {
    let depth = file.strip_prefix(package).map_or(0, |inside| inside.components().count() - 1);
    named
        .split('/')
        .try_fold(depth, |depth, part| if part == ".." { depth.checked_sub(1) } else { Some(depth + 1) })
        .is_none()
}

/// Returns the files that a source file includes, or names as modules; relative to its folder.
fn named(source: &str) -> Vec<&str> {
    let marks = ["include_str!(\"", "include_bytes!(\"", "include!(\"", "#[path = \""];
    let after =
        |mark: &'static str| source.split(mark).skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name);
    marks.into_iter().flat_map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_outside_a_package_are_found() {
        let folder = crate::env::target().join("tmp").join(format!("archive-{}", std::process::id()));
        let source = folder.join("package/src/deep");
        fs::create_dir_all(&source).unwrap();
        for name in CARRIED {
            fs::write(folder.join("package").join(name), "").unwrap();
        }
        fs::write(folder.join("outside.md"), "").unwrap();
        fs::write(source.join("b.rs"), "").unwrap();
        let include = |path: &str| {
            format!("#[cfg(doctest)]\n#[doc = include_str!(\"{path}\")]\nstruct A;\n#[path = \"b.rs\"]\nmod b;\n")
        };
        let check = |path: &str| {
            fs::write(source.join("a.rs"), include(path)).unwrap();
            lacks(&folder.join("package")).unwrap()
        };
        assert_eq!(check("../../README.md"), <[String; 0]>::default());
        // It exists here, and not where the package is unpacked.
        assert_eq!(check("../../../outside.md").len(), 1);
        assert_eq!(check("../../../package/README.md").len(), 1);
        assert_eq!(check("missing.md").len(), 1);
        fs::remove_file(folder.join("package/LICENSE-MIT")).unwrap();
        assert_eq!(check("../../README.md"), ["no LICENSE-MIT"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn siblings_are_taken_from_where_they_are_unpacked() {
        let package = Package {
            name: "a".into(),
            version: "1.2.3".into(),
            published: true,
            library: None,
            promised: true,
            has_repository: true,
            needs: Vec::new(),
        };
        let text = manifest(&[&package]);
        assert!(text.contains("members = [\"a-1.2.3\"]") && text.ends_with("a = { path = \"a-1.2.3\" }\n"), "{text}");
    }
}
