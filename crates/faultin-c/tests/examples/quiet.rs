//! `quiet`: a library that installs nothing, in a host that has its own handler of SIGBUS.

use crate::common::dies_past_the_end;
use crate::kit::{dies, kit, run, text};

#[test]
fn a_library_leaves_the_signals_of_its_host_alone() {
    let Some(kit) = kit() else { return };
    let faultin = kit.asks(&["faultin"]).expect("the library is installed");
    let library = |options: &[&str]| {
        kit.compile("liblines.so", &["quiet/lines.c"], &[&["-shared", "-fPIC"], options].concat(), &faultin)
    };
    // The host does not know that its library uses another one.
    let here = kit.folder.path().to_str().unwrap();
    let links =
        [format!("-L{here}"), "-llines".into(), "-Wl,-rpath,$ORIGIN".into(), "-Wl,--allow-shlib-undefined".into()];
    library(&["-DNAIVE"]);
    library(&[]);
    let host = kit.compile("host", &["quiet/host.c"], &[], &links);
    // After everything is compiled: a machine without a compiler gets it from this test.
    if dies_past_the_end() {
        return;
    }
    let said = text(&run(&mut kit.command(&host)).stdout);
    let lines = [
        "library: 2 lines in 1 of 4 pages, Bad address\n",
        "host: signals are unchanged, its handler was called 0 times\n",
        "host: its own faults are still recovered\n",
    ];
    assert_eq!(said, lines.concat());

    library(&["-DNAIVE"]);
    dies(&mut kit.command(&host));
}
