//! Compiles and runs example programs.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use std::os::unix::fs::PermissionsExt;

use faultin_test::{processes, skipped};

use crate::common::{HERE, WARNINGS, compiled, compiler, has_shared, library, programs};

/// What compiles programs here.
pub struct Kit {
    /// The folder of pkg-config's file.
    packages: PathBuf,
    /// The folder of the shared library.
    libraries: PathBuf,
    /// Where programs are made: one folder for each test.
    pub folder: tempfile::TempDir,
}

/// Returns the kit; `None` after a skip.
pub fn kit() -> Option<Kit> {
    if compiled().is_none() && Command::new("pkg-config").arg("--version").output().is_err() {
        skipped("pkg-config", "no pkg-config");
        return None;
    }
    let library = library()?;
    if !has_shared(library) {
        return None;
    }
    let libraries = library.shared.parent().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let packages = match std::env::var_os("FAULTIN_C_PREFIX") {
        Some(prefix) => Path::new(&prefix).join("lib/pkgconfig"),
        None => {
            // A library that is not installed has the file that it would have.
            let text = std::fs::read_to_string(format!("{HERE}/faultin.pc.in")).unwrap();
            let text = text.replace("@LIBDIR@", libraries.to_str().unwrap()).replace("@VERSION@", "0");
            let text = text.replace("@INCLUDEDIR@", &format!("{HERE}/include")).replace("@PREFIX@", HERE);
            std::fs::write(folder.path().join("faultin.pc"), text.replace("@LIBS_PRIVATE@", "")).unwrap();
            folder.path().to_owned()
        }
    };
    Some(Kit { packages, libraries, folder })
}

/// Returns whether this machine runs what is compiled, without an emulator.
pub fn is_native() -> bool {
    processes::run("").get_program().is_empty()
}

/// Returns the path of a file of the examples.
pub fn source(name: &str) -> String {
    format!("{HERE}/examples/{name}")
}

impl Kit {
    /// Returns a path in the folder of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a command that finds the library at run time, and pkg-config's file of it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", &self.libraries).env("PKG_CONFIG_PATH", &self.packages);
        command
    }

    /// Returns what pkg-config says about packages, `None` if it does not have all of them for the target of this test.
    pub fn asks(&self, packages: &[&str]) -> Option<Vec<String>> {
        let is_all = packages == ["faultin"];
        if compiled().is_some() || !is_native() && !is_all {
            return is_all.then(Vec::new);
        }
        let output = self.command("pkg-config").args(["--cflags", "--libs"]).args(packages).output().unwrap();
        let words = String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
        output.status.success().then_some(words)
    }

    /// Compiles a program, or a library, of these files of the examples. Returns its path, or that of a script that runs it.
    pub fn compile(&self, to: &str, sources: &[&str], options: &[&str], libraries: &[String]) -> PathBuf {
        let file = self.path(to);
        // The name of a copy for a machine without a compiler.
        let name = [&["example", to], sources, options].concat().join("-").replace('/', "-");
        let copy = programs().join(name);
        if compiled().is_some() {
            std::fs::copy(copy, &file).unwrap();
            return file;
        }
        let mut command = self.command(compiler());
        command.args(["-std=c99", "-g", "-O2"]).args(WARNINGS).args(options).arg("-o").arg(&file);
        run(command.args(sources.iter().map(|name| source(name))).args(libraries));
        std::fs::copy(&file, copy).unwrap();
        if is_native() || options.contains(&"-shared") {
            return file;
        }
        self.launcher(&file)
    }

    /// Makes a script that runs a program for another architecture.
    fn launcher(&self, program: &Path) -> PathBuf {
        let runner = processes::run(program);
        let words = std::iter::once(runner.get_program()).chain(runner.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let script = program.with_extension("sh");
        std::fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "))).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        script
    }

    /// Compiles a program that is one file, and its naive twin.
    pub fn twins(&self, name: &str) -> [PathBuf; 2] {
        let libraries = self.asks(&["faultin"]).expect("the library is installed");
        let sources = [&*format!("{name}.c")];
        [self.compile(name, &sources, &[], &libraries), self.compile("naive", &sources, &["-DNAIVE"], &libraries)]
    }
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// Runs a naive twin: SIGBUS must kill it.
pub fn dies(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{command:?}: {}\n{}", output.status, text(&output.stderr));
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
