//! The library and the programs, built once.
//!
//! `cargo xtask env c` sets how, by variables: `FAULTIN_C_PREFIX`, where the library is installed; `FAULTIN_C_COMPILER` and
//! `FAULTIN_C_FLAGS`, for the programs; `FAULTIN_C_PROGRAMS`, a folder that has them already, for a machine without a compiler.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

use faultin_test::{is_emulated, processes, skipped};

/// The folder of this package.
pub const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// What the header and the programs compile with.
pub const WARNINGS: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Werror"];

/// The files of the library.
pub struct Library {
    /// `libfaultin.a`.
    pub archive: PathBuf,
    /// `libfaultin.so.0`, beside `libfaultin.so`.
    pub shared: PathBuf,
    /// What a program that links with the archive needs as well.
    pub needs: Vec<String>,
    /// What `pkg-config --static --libs` says.
    words: Vec<String>,
    /// The folder of the header.
    include: PathBuf,
}

/// How a program gets the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// From the archive.
    Static,
    /// From the shared library.
    Shared,
    /// By `dlopen`, from the path that is its first argument.
    Load,
    /// From the archive, by the command of docs/c.md.
    Archive,
    /// From the archive, by its command for glibc and `-static`.
    Whole,
}

/// Returns the compiler for the target that tests are built for: the one that links for it.
pub fn compiler() -> String {
    if let Ok(compiler) = std::env::var("FAULTIN_C_COMPILER") {
        return compiler;
    }
    let variable = format!("CARGO_TARGET_{}_LINKER", processes::target().to_uppercase().replace('-', "_"));
    std::env::var(variable).unwrap_or_else(|_| "cc".into())
}

/// The folder that has the programs, if they are compiled already.
pub fn compiled() -> Option<PathBuf> {
    std::env::var_os("FAULTIN_C_PROGRAMS").map(PathBuf::from)
}

/// Returns the folder of the programs.
pub fn programs() -> PathBuf {
    let folder = compiled().unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Returns the library; `None` after a skip.
pub fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| match std::env::var_os("FAULTIN_C_PREFIX") {
        Some(prefix) if compiled().is_some() => Ok(Library::under(Path::new(&prefix), Vec::new())),
        Some(prefix) => installed(Path::new(&prefix)),
        None => build(),
    });
    let library = library.as_ref();
    library.inspect_err(|missing| skipped("toolchain", missing)).ok()
}

/// Finds the library that is installed under a prefix, as its pkg-config file says.
fn installed(prefix: &Path) -> Result<Library, String> {
    let asked = |options: &[&str]| {
        let output = Command::new("pkg-config")
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
            .args(options)
            .arg("faultin")
            .output()
            .map_err(|error| format!("pkg-config: {error}"))?;
        assert!(output.status.success(), "pkg-config: {}", String::from_utf8_lossy(&output.stderr));
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let (cflags, libs) = (asked(&["--cflags"])?, asked(&["--libs"])?);
    let words = asked(&["--static", "--libs"])?.split_whitespace().map(str::to_owned).collect();
    assert!(cflags.contains(&format!("-I{}", prefix.join("include").display())), "{cflags}");
    assert!(libs.contains(&format!("-L{}", prefix.join("lib").display())) && libs.contains("-lfaultin"), "{libs}");
    let needs = asked(&["--static", "--libs-only-l"])?;
    let needs = needs.split_whitespace().filter(|library| *library != "-lfaultin").map(str::to_owned).collect();
    let library = Library { words, ..Library::under(prefix, needs) };
    // For a second copy of the library in one process.
    if library.shared.exists() {
        let second = library.shared.with_file_name("libsecond.so");
        std::fs::copy(&library.shared, second).map_err(|error| error.to_string())?;
    }
    Ok(library)
}

impl Library {
    fn under(prefix: &Path, needs: Vec<String>) -> Library {
        let folder = prefix.join("lib");
        let (archive, shared) = (folder.join("libfaultin.a"), folder.join("libfaultin.so.0"));
        Library { archive, shared, needs, words: Vec::new(), include: prefix.join("include") }
    }

    /// Returns the words of pkg-config with `-l:libfaultin.a` in place of `-lfaultin`, and these replacements.
    fn static_words(&self, replacements: &[(&str, &str)]) -> Vec<String> {
        let replaced = |word: &String| {
            let all = [("-lfaultin", "-l:libfaultin.a")];
            let found = all.iter().chain(replacements).find(|(from, _)| from == word);
            found.map_or_else(|| word.clone(), |(_, to)| (*to).to_owned())
        };
        self.words.iter().map(replaced).collect()
    }
}

fn build() -> Result<Library, String> {
    Command::new(compiler()).arg("--version").output().map_err(|error| format!("{}: {error}", compiler()))?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("library");
    let made = folder.join(processes::target()).join("debug");
    let needs = made.join("native-static-libs");
    std::fs::create_dir_all(&made).unwrap();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .current_dir(HERE)
        .args(["rustc", "--package", "faultin-c", "--lib", "--offline", "--target", &processes::target()])
        .args(["--crate-type", "staticlib,cdylib", "--target-dir"])
        .arg(&folder)
        .args(["--", "-Clink-arg=-Wl,-soname,libfaultin.so.0", "--print"])
        .arg(format!("native-static-libs={}", needs.display()))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let needs = std::fs::read_to_string(needs).expect("the compiler has written it, now or before");
    let library = Library {
        archive: made.join("libfaultin_c.a"),
        shared: folder.join("libfaultin.so.0"),
        needs: needs.split_whitespace().map(str::to_owned).collect(),
        words: format!("-L{} -lfaultin {needs}", folder.display()).split_whitespace().map(str::to_owned).collect(),
        include: Path::new(HERE).join("include"),
    };
    std::fs::copy(&library.archive, folder.join("libfaultin.a")).unwrap();
    std::fs::copy(made.join("libfaultin_c.so"), &library.shared).unwrap();
    std::fs::copy(&library.shared, folder.join("libfaultin.so")).unwrap();
    // For a second copy of the library in one process.
    std::fs::copy(&library.shared, folder.join("libsecond.so")).unwrap();
    Ok(library)
}

/// Returns whether there is a shared library; `false` after a skip.
pub fn has_shared(library: &Library) -> bool {
    let exists = library.shared.exists();
    if !exists {
        skipped("shared-library", "there is only the archive for this C library");
    }
    exists
}

/// Returns a program of `tests/c`, compiled; `None` after a skip.
pub fn program(name: &str, link: Link) -> Option<PathBuf> {
    let library = library()?;
    if matches!(link, Link::Shared | Link::Load) && !has_shared(library) {
        return None;
    }
    let folder = library.shared.parent().unwrap();
    // Tests that run at the same time may make the same one.
    static BUILT: Mutex<BTreeMap<(String, Link), PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = built.get(&(name.to_owned(), link)) {
        return Some(program.clone());
    }
    let output = programs().join(format!("{name}-{link:?}"));
    if compiled().is_some() {
        return Some(output);
    }
    let flags = std::env::var("FAULTIN_C_FLAGS").unwrap_or_default();
    let mut command = Command::new(compiler());
    command.args(["-std=c99", "-g", "-O1"]).args(WARNINGS).arg("-I").arg(&library.include);
    command.args(flags.split_whitespace());
    command.arg("-o").arg(&output).arg(format!("{HERE}/tests/c/{name}.c"));
    match link {
        Link::Static => {
            // (glibc alone has the malloc beneath, and sanitizers have their own.)
            if cfg!(target_env = "gnu") && flags.is_empty() {
                command.arg("-DCOUNT_ALLOCATIONS");
            }
            command.arg(&library.archive).arg("-L").arg(folder).args(&library.needs);
        }
        Link::Shared => {
            command.arg("-L").arg(folder).arg("-lfaultin").arg(format!("-Wl,-rpath,{}", folder.display()));
        }
        Link::Load => {}
        Link::Archive => {
            command.args(library.static_words(&[]));
        }
        Link::Whole => {
            command.arg("-static").args(library.static_words(&[("-lgcc_s", "-lgcc_eh")]));
        }
    }
    let compiled = command.args(["-lpthread", "-ldl"]).output().unwrap();
    assert!(compiled.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&compiled.stderr));
    built.insert((name.to_owned(), link), output.clone());
    Some(output)
}

/// Runs a program.
pub fn run(program: &Path, arguments: &[&str]) -> Output {
    let mut command = processes::run(program);
    if let Some(library) = library() {
        command.env("FAULTIN_LIBRARIES", library.shared.parent().unwrap());
    }
    command.args(arguments);
    command.output().unwrap()
}

/// Whether this test cannot run, because the kernel's copies ask about pages by a call that ends an emulator if they are past the end
/// of a file; reports that.
pub fn dies_past_the_end() -> bool {
    static DIES: OnceLock<bool> = OnceLock::new();
    let dies = *DIES.get_or_init(|| {
        let Some(program) = program("past_end", Link::Load) else { return false };
        let output = run(&program, &[]);
        let says = String::from_utf8_lossy(&output.stderr);
        let asserts = is_emulated() && says.contains("cpu == current_cpu");
        assert!(output.status.success() || asserts, "{}: {says}", output.status);
        asserts
    });
    if dies {
        skipped("native", "QEMU reads sets of signals itself, and dies past the end of a file");
    }
    dies
}

/// Returns what a tool prints about a file; `None` after a skip.
pub fn tool(name: &str, options: &[&str], file: impl AsRef<OsStr>) -> Option<String> {
    match Command::new(name).args(options).arg(file.as_ref()).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => panic!("{name}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            skipped("toolchain", format_args!("{name}: {error}"));
            None
        }
    }
}
