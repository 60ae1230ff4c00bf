//! A root that holds a C library and nothing else: no shell, no /proc, no /dev. Programs that run there need no more.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use super::archive::Unpacked;
use crate::env::{Stop, debian, home};

/// The package with the command.
const COMMAND: &str = "faultin-cli";
/// The libraries that a Rust program links.
const LIBRARIES: [&str; 2] = ["libc6", "libgcc-s1"];
/// The length of the file that is hashed, and its checksum: one of BLAKE3's own test vectors, of bytes that count modulo
/// 251.
const VECTOR: (usize, &str) = (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085");

/// Installs the command into a bare root and runs it there. The inner error names what this machine lacks.
pub(super) fn install_and_run(unpacked: &Unpacked, version: &str) -> Result<Result<(), String>, String> {
    let root = home("release").join("root");
    if let Err(why) = make(&root)? {
        return Ok(Err(why));
    }
    unpacked.install(COMMAND, &root.join("usr/local"))?;
    let io = |error: std::io::Error| format!("{}: {error}", root.display());
    let bytes: Vec<u8> = (0..VECTOR.0).map(|at| (at % 251) as u8).collect();
    fs::write(root.join("data"), bytes).map_err(io)?;
    fs::write(root.join("sums"), format!("{}  data\n", VECTOR.1)).map_err(io)?;

    let told = run(&root, &["--version"])?;
    expect(&told, 0, &format!("faultin {version}\n"))?;
    expect(&run(&root, &["sum", "data"])?, 0, &format!("{}  data\n", VECTOR.1))?;
    expect(&run(&root, &["sum", "--check", "sums"])?, 0, "data: OK\n")?;
    expect(&run(&root, &["sum", "missing"])?, 1, "")?;
    println!("faultin {version} runs in {}, and has BLAKE3's checksum of {} bytes", root.display(), VECTOR.0);
    Ok(Ok(()))
}

/// Makes the root from packages of Debian, which are unpacked and not installed.
fn make(root: &Path) -> Result<Result<(), String>, String> {
    for tool in ["apt-get", "dpkg", "chroot"] {
        if !crate::env::has_command(tool) {
            return Ok(Err(format!("no {tool}")));
        }
    }
    match debian::unpack(&LIBRARIES, &home("release").join("download"), root) {
        Ok(()) => {}
        Err(Stop::Skipped(why)) => return Ok(Err(format!("{} cannot be downloaded: {why}", LIBRARIES.join(" and ")))),
        Err(Stop::Failed(why)) => return Err(why),
    }
    // Newer packages have everything in /usr; the base system has the links.
    for name in ["lib", "lib64"] {
        if !root.join(name).exists() && root.join("usr").join(name).exists() {
            symlink(format!("usr/{name}"), root.join(name)).map_err(|error| format!("{}: {error}", root.display()))?;
        }
    }
    // The loader, as a program, prints its own version: a root that cannot be entered is not a failure of the release.
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let Some(loader) = loader.into_iter().find(|path| root.join(&path[1..]).exists()) else {
        return Err(format!("{} has no loader", root.display()));
    };
    match enter(root, loader).arg("--version").output() {
        Ok(out) if out.status.success() => Ok(Ok(())),
        Ok(out) => Ok(Err(format!("no root can be entered: {}", String::from_utf8_lossy(&out.stderr).trim_end()))),
        Err(error) => Ok(Err(format!("no root can be entered: {error}"))),
    }
}

/// Returns a command that runs in the root; for users other than root, in a user namespace.
fn enter(root: &Path, program: &str) -> Command {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("chroot")
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "chroot"]);
        command
    };
    command.arg(root).arg(program).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn run(root: &Path, arguments: &[&str]) -> Result<Output, String> {
    let mut command = enter(root, "/usr/local/bin/faultin");
    command.args(arguments).output().map_err(|error| format!("{command:?}: {error}"))
}

/// Returns an error if a command has ended in another way.
fn expect(out: &Output, code: i32, printed: &str) -> Result<(), String> {
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if out.status.code() == Some(code) && stdout == printed {
        return Ok(());
    }
    Err(format!(
        "in the bare root: {}, not {code}; printed {stdout:?}, not {printed:?}; {}",
        out.status,
        stderr.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn what_a_command_prints_and_how_it_ends_both_count() {
        let out = |code: i32, text: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: text.into(),
            stderr: "why".into(),
        };
        assert_eq!(expect(&out(1, "a"), 1, "a"), Ok(()));
        assert!(expect(&out(0, "a"), 1, "a").unwrap_err().ends_with("why"));
        assert!(expect(&out(1, "b"), 1, "a").is_err());
        // A signal has no code.
        assert!(expect(&Output { status: ExitStatus::from_raw(7), ..out(0, "a") }, 0, "a").is_err());
    }
}
