//! `cargo xtask header`: the header of the C library, from its source by cbindgen.
//!
//! It is checked in, so that the library builds and installs with cargo alone. cbindgen reads the source as the compiler has
//! expanded it, because the functions for each size of a value are made by a macro.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::env::{output, workspace};

/// Arguments of `cargo xtask header`.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; exit status 1 if the header is out of date
    #[arg(long)]
    check: bool,
}

/// Writes the header, or compares it.
pub fn main(args: &Args) -> ExitCode {
    match run(args.check) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("crates/faultin-c/include/faultin.h: not what the source gives now");
            println!("To write it: cargo xtask header");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the header is as it should be.
fn run(is_check: bool) -> Result<bool, String> {
    let package = workspace().join("crates/faultin-c");
    let path = package.join("include/faultin.h");
    let header = header(&package)?;
    if fs::read_to_string(&path).is_ok_and(|now| now == header) {
        return Ok(true);
    }
    if is_check {
        return Ok(false);
    }
    fs::write(&path, header).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(true)
}

fn header(package: &std::path::Path) -> Result<String, String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).env("RUSTC_BOOTSTRAP", "1");
    let source = output(cargo.args([
        "rustc",
        "--package",
        "faultin-c",
        "--lib",
        "--quiet",
        "--profile",
        "check",
        "--",
        "-Zunpretty=expanded",
    ]))?;
    let expanded: PathBuf = crate::env::target().join(format!("faultin-c.{}.rs", std::process::id()));
    fs::write(&expanded, source).map_err(|error| format!("{}: {error}", expanded.display()))?;
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml"))?;
    let bindings = cbindgen::Builder::new().with_config(config).with_src(&expanded).generate();
    let _ = fs::remove_file(&expanded);
    let mut text = Vec::new();
    bindings.map_err(|error| error.to_string())?.write(&mut text);
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    Ok(for_c(&text))
}

/// Removes what is for readers of Rust: the sections *Safety*, which repeat in its terms what the parameters say.
fn for_c(text: &str) -> String {
    let (mut kept, mut is_safety): (Vec<&str>, bool) = (Vec::new(), false);
    for line in text.lines() {
        if line.trim() == "* # Safety" {
            is_safety = true;
            // The empty line before it.
            if kept.last().is_some_and(|last| last.trim() == "*") {
                kept.pop();
            }
        } else if is_safety && line.trim() == "*/" {
            is_safety = false;
        }
        if !is_safety {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::for_c;

    #[test]
    fn safety_is_left_out() {
        let text = "/**\n * Copies.\n *\n * # Safety\n * `dst` is valid.\n */\nint f(void);\n";
        assert_eq!(for_c(text), "/**\n * Copies.\n */\nint f(void);\n");
    }
}
