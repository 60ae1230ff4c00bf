//! `runtimes`: a host with its own handler beside Rust, Go and a JVM in one process, in every order.

use std::path::{Path, PathBuf};
use std::process::Command;

use faultin_test::skipped;

use crate::common::HERE;
use crate::kit::{Kit, dies, is_native, kit, run, source, text};

/// Returns every order of these letters.
fn orders(letters: &str) -> Vec<String> {
    if letters.is_empty() {
        return vec![String::new()];
    }
    let mut all = Vec::new();
    for (at, letter) in letters.char_indices() {
        let others = [&letters[..at], &letters[at + 1..]].concat();
        all.extend(orders(&others).into_iter().map(|order| format!("{letter}{order}")));
    }
    all
}

/// Returns the folder of a JDK.
fn jdk() -> Option<PathBuf> {
    let from_path = || {
        let path = std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|dir| dir.join("javac"))
            .find(|java| java.exists())?;
        Some(path.canonicalize().ok()?.parent()?.parent()?.to_owned())
    };
    let home = std::env::var_os("JAVA_HOME").map(PathBuf::from).or_else(from_path)?;
    let is_whole = ["include/jni.h", "lib/server/libjvm.so", "bin/javac"].iter().all(|file| home.join(file).exists());
    is_whole.then_some(home)
}

fn build_rust(kit: &Kit) {
    // Where this test was built: what it needs is there.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo.current_dir(HERE).args(["rustc", "--offline", "--package", "faultin-c", "--example", "rust"]);
    cargo.args(["--crate-type", "cdylib", "--target-dir"]).arg(target).env_remove("CARGO_BUILD_TARGET");
    run(&mut cargo);
    std::fs::copy(target.join("debug/examples/librust.so"), kit.path("librust.so")).unwrap();
}

fn build_go(kit: &Kit) {
    let mut go = kit.command("go");
    go.args(["build", "-buildmode=c-shared", "-o"]).arg(kit.path("libgo.so")).arg(source("runtimes/faults.go"));
    // Its runtime's C parts are compiled once.
    go.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go")).env("GO111MODULE", "off");
    run(&mut go);
}

#[test]
fn every_runtime_recovers_its_own_faults_in_every_order() {
    let Some(kit) = kit() else { return };
    if !is_native() {
        return skipped("native", "Go and the JVM are this machine's");
    }
    let Some(jdk) = jdk() else { return skipped("java", "no JDK with a libjvm") };
    let jdk_path = |name: &str| jdk.join(name).to_str().unwrap().to_owned();
    let headers = ["-isystem".into(), jdk_path("include"), "-isystem".into(), jdk_path("include/linux")];
    let mut libraries = kit.asks(&["faultin"]).expect("the library is installed");
    libraries.extend(["-lpthread".into(), "-ldl".into()]);
    libraries.extend(headers);
    let [host, naive] = [("host", &[][..]), ("naive", &["-DNAIVE"])]
        .map(|(name, options)| kit.compile(name, &["runtimes/host.c"], options, &libraries));
    run(Command::new(jdk.join("bin/javac")).arg("-d").arg(kit.folder.path()).arg(source("runtimes/Faults.java")));
    build_rust(&kit);
    let has_go = Command::new("go").arg("version").output().is_ok();
    if has_go {
        build_go(&kit);
    } else {
        skipped("go", "no Go compiler; the orders of the others are tested");
    }
    let start = |program: &Path, order: &str| {
        let mut command = kit.command(program);
        command.arg(order).arg(kit.folder.path()).env("LIBJVM", jdk.join("lib/server/libjvm.so"));
        command.current_dir(kit.folder.path());
        command
    };
    for order in orders(if has_go { "hrgj" } else { "hrj" }) {
        let said = text(&run(&mut start(&host, &order)).stdout);
        let last = said.rsplit("is installed\n").next().unwrap();
        let checks = if has_go { 7 } else { 5 };
        assert_eq!((last.matches("recovered\n").count(), said.contains("LOST")), (checks, false), "{order}:\n{said}");
    }
    dies(&mut start(&naive, "h"));
}
