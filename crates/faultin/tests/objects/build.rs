//! Builds the fixtures: small crates outside the workspace, in a folder that cargo keeps for this test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use faultin_test::processes;

/// How the objects are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// Like `cargo build`.
    Plain,
    /// Optimised in sixteen codegen units: as many assembly units, each with an object record, which are merged into one.
    ManyUnits,
    /// Optimised as a whole, in one unit.
    Lto,
    /// By GNU ld with garbage collection of sections.
    GnuLd,
    /// With the crate in a Rust dynamic library.
    Dynamic,
}

impl Build {
    fn profile(self) -> &'static str {
        match self {
            Build::ManyUnits => "many",
            Build::Lto => "whole",
            _ => "dev",
        }
    }

    fn rustflags(self) -> &'static str {
        match self {
            Build::GnuLd if cfg!(target_arch = "x86_64") => {
                "-Clinker-features=-lld -Clink-arg=-fuse-ld=bfd -Clink-arg=-Wl,--gc-sections"
            }
            Build::GnuLd => "-Clink-arg=-fuse-ld=bfd -Clink-arg=-Wl,--gc-sections",
            Build::Dynamic => "-Cprefer-dynamic",
            _ => "",
        }
    }

    fn members(self) -> &'static [Member] {
        if self == Build::Dynamic { DYNAMIC } else { PLUGINS }
    }
}

struct Member {
    name: &'static str,
    manifest: &'static str,
}

const PLUGINS: &[Member] = &[
    Member {
        name: "plugin",
        manifest: "[lib]\npath = '{fixtures}/plugin.rs'\ncrate-type = ['cdylib']\n[dependencies]\n{faultin}\n",
    },
    Member {
        name: "with",
        manifest: "[[bin]]\nname = 'with'\npath = '{fixtures}/host.rs'\n[features]\ndefault = ['with']\nwith = []\n\
            [dependencies]\n{faultin}\nlibc = '0.2'\n",
    },
    Member {
        name: "without",
        manifest: "[[bin]]\nname = 'without'\npath = '{fixtures}/host.rs'\n[features]\nwith = []\n\
            [dependencies]\nlibc = '0.2'\n",
    },
];

const DYNAMIC: &[Member] = &[
    Member {
        name: "shared",
        manifest: "[lib]\npath = '{fixtures}/shared.rs'\ncrate-type = ['dylib']\n[dependencies]\n{faultin}\n",
    },
    Member {
        name: "inlined",
        manifest: "[[bin]]\nname = 'inlined'\npath = '{fixtures}/inlined.rs'\n[dependencies]\nshared.path = '../shared'\n",
    },
    Member {
        name: "only_install",
        manifest: "[[bin]]\nname = 'only_install'\npath = '{fixtures}/only_install.rs'\n\
            [dependencies]\nshared.path = '../shared'\n",
    },
];

/// The folder with the artifacts, or what this machine lacks.
pub(crate) fn built(build: Build) -> Result<PathBuf, String> {
    static BUILT: [OnceLock<Result<PathBuf, String>>; 5] = [const { OnceLock::new() }; 5];
    BUILT[build as usize].get_or_init(|| make(build)).clone()
}

fn make(build: Build) -> Result<PathBuf, String> {
    if build == Build::GnuLd && Command::new("ld.bfd").arg("--version").output().is_err() {
        return Err("ld.bfd".into());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("objects-{build:?}"));
    let mut manifest = String::from("[workspace]\nresolver = '3'\nmembers = [");
    for member in build.members() {
        manifest += &format!("'{}', ", member.name);
        let text =
            format!("[package]\nname = '{}'\nversion = '0.0.0'\nedition = '2024'\n{}", member.name, member.manifest)
                .replace("{fixtures}", here.join("tests/objects/fixtures").to_str().unwrap())
                .replace("{faultin}", &format!("faultin.path = '{}'", here.display()));
        write(&root.join(member.name).join("Cargo.toml"), &text);
    }
    manifest += "]\n[profile.many]\ninherits = 'release'\ncodegen-units = 16\n\
        [profile.whole]\ninherits = 'release'\ncodegen-units = 1\nlto = 'fat'\n";
    write(&root.join("Cargo.toml"), &manifest);
    // The workspace's versions, so that nothing has to be downloaded.
    if let Ok(lock) = std::fs::read_to_string(here.join("../../Cargo.lock")) {
        write(&root.join("Cargo.lock"), &lock);
    }
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .current_dir(&root)
        .args(["build", "--offline", "--quiet", "--profile", build.profile(), "--target", &processes::target()])
        .arg("--target-dir")
        .arg(root.join("target"))
        .env("RUSTFLAGS", build.rustflags())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    assert!(output.status.success(), "{build:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    let profile = if build.profile() == "dev" { "debug" } else { build.profile() };
    Ok(root.join("target").join(processes::target()).join(profile))
}

/// Writes a file unless its contents are the same, to keep cargo from rebuilding.
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    std::fs::write(path, text).unwrap();
}
