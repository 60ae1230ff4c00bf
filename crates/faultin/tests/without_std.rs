//! What a kernel takes from this crate (`default-features = false`): the table, its lookup and the copies, without vector
//! registers and without asking the CPU what it has.
//!
//! `fixtures/kernel` is such a kernel, with a trap handler of its own. It is compiled for a machine whose vector registers
//! are not to be used, which the compiler checks; its machine code is looked at here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::archive::ArchiveFile;
use object::{Architecture, Object, ObjectSection, ObjectSymbol, SectionKind};

/// The compiler's flags of a kernel: it saves no vector registers when it is entered, so it must use none.
const NO_VECTORS: &str =
    if cfg!(target_arch = "x86_64") { "-C target-feature=-mmx,-sse,-sse2" } else { "-C target-feature=-neon" };

/// Builds the fixture; the archive, or what is missing.
fn build() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel/Cargo.toml");
    let output = Command::new(&cargo)
        .args(["build", "--release", "--offline", "--manifest-path"])
        .arg(&manifest)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", NO_VECTORS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .map_err(|error| format!("{}: {error}", cargo.display()))?;
    assert!(output.status.success(), "the fixture does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    // Another target than the host's has a folder of its own.
    let triple = std::env::var_os("CARGO_BUILD_TARGET").unwrap_or_default();
    Ok(target.join(triple).join("release/libkernel.a"))
}

/// The machine code of this crate and of the fixture, one object file each; not what the compiler brings along.
fn members(archive: &[u8]) -> Vec<(String, object::File<'_>)> {
    let archive = ArchiveFile::parse(archive).expect("an archive");
    let members = archive.members().map(|member| {
        let member = member.expect("a member");
        let name = String::from_utf8_lossy(member.name()).into_owned();
        (name, member)
    });
    members
        .filter(|(name, _)| name.starts_with("kernel-") || name.starts_with("faultin-"))
        .map(|(name, member)| (name, member))
        .filter_map(|(name, member)| {
            let data = member.data(archive_data(&archive)).ok()?;
            Some((name, object::File::parse(data).ok()?))
        })
        .collect()
}
