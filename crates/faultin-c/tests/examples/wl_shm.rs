//! `wl_shm`: a client that truncates its pool gets a protocol error, and the server lives.

use faultin_test::skipped;

use crate::kit::{dies, kit, run, text};

const SOURCES: [&str; 3] = ["wl_shm/server.c", "wl_shm/shm.c", "wl_shm/client.c"];

#[test]
fn a_client_that_truncates_its_pool_gets_a_protocol_error() {
    let Some(kit) = kit() else { return };
    let Some(libraries) = kit.asks(&["faultin", "wayland-server", "wayland-client"]) else {
        return skipped("wayland", "no libwayland for what this test is compiled for, or pkg-config does not have it");
    };
    let ours = kit.compile("wl_shm", &SOURCES, &[], &libraries);
    for arguments in [&[][..], &["install"]] {
        let said = text(&run(kit.command(&ours).args(arguments)).stdout);
        let lines = [
            "client: protocol error 2 of wl_buffer",
            "server: 3 frames, 1 protocol errors, still alive",
            "the file was truncated from 65536 to 1024 bytes",
        ];
        assert!(lines.iter().all(|line| said.contains(line)), "{arguments:?}: {said}");
    }
    dies(&mut kit.command(kit.compile("naive", &SOURCES, &["-DNAIVE"], &libraries)));
}
