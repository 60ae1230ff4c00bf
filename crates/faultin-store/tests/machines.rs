//! Four machines, which are network namespaces of this one: a store, two readers, and one that replaces the object all the time.
//! Each reader gets the bytes of one version, all of them, or *replaced*; and nothing else.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{BLOCK, Reader, cached, client, map, read};
use faultin_cache::pager::Mode;
use faultin_store::Cause;
use faultin_store::object_store::ObjectStoreExt;
use faultin_store_test::{Access, Server, pattern};
use faultin_test::Random;

/// The role of a child, and what it needs to know.
const ROLE: &str = "FAULTIN_STORE_ROLE";

/// Set where network namespaces may be made.
const NETWORK: &str = "FAULTIN_STORE_NETWORK";

const PORT: u16 = 9000;
const STORE: Ipv4Addr = Ipv4Addr::new(10, 77, 41, 1);

/// What each version is long, of which each has another length.
fn len(version: u8) -> usize {
    60 * BLOCK + usize::from(version)
}

/// Number of times that a reader must have seen each of both.
const ENOUGH: u32 = 15;

/// A network of namespaces, which is removed when this is dropped.
struct Network {
    prefix: String,
    machines: Vec<&'static str>,
}

impl Network {
    /// # Errors
    /// What this process may not do, or lacks.
    fn new(machines: &[&'static str]) -> Result<Network, String> {
        let mut network = Network { prefix: format!("fs{}", std::process::id()), machines: Vec::new() };
        for (number, machine) in machines.iter().copied().enumerate() {
            let name = network.name(machine);
            ip(&["netns", "add", &name])?;
            network.machines.push(machine);
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            let address = format!("10.77.41.{}/24", number + 1);
            if number == 0 {
                ip(&["-n", &name, "link", "add", "switch", "type", "bridge"])?;
                ip(&["-n", &name, "addr", "add", &address, "dev", "switch"])?;
                ip(&["-n", &name, "link", "set", "switch", "up"])?;
                continue;
            }
            let (first, port) = (network.name(machines[0]), format!("port{number}"));
            ip(&["-n", &first, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", &first, "link", "set", &port, "master", "switch", "up"])?;
            ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        }
        Ok(network)
    }

    fn name(&self, machine: &str) -> String {
        format!("{}-{machine}", self.prefix)
    }

    /// Runs the test of this name in a child on a machine.
    fn run(&self, machine: &str, role: &str) -> Child {
        let exe = std::env::current_exe().expect("a path");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(machine)]).arg(exe);
        command.args(["--exact", "a_machine", "--nocapture"]).env(ROLE, role);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this binary runs again")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in &self.machines {
            let _ = ip(&["netns", "del", &self.name(machine)]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim_end()))
}

#[test]
fn readers_on_other_machines_get_one_version_or_replaced() {
    common::watchdog();
    if std::env::var_os(NETWORK).is_none() {
        return faultin_test::skipped(
            "network-namespaces",
            format_args!("{NETWORK} is not set: cargo xtask env stores sets it"),
        );
    }
    let network = match Network::new(&["store", "one", "two", "writer"]) {
        Ok(network) => network,
        Err(error) => return faultin_test::skipped("network-namespaces", error),
    };
    let mut store = network.run("store", "store");
    let mut lines = BufReader::new(store.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).expect("text"), 0, "the store has ended");
    }
    let mut writer = network.run("writer", "writer");
    let readers = ["one", "two"].map(|machine| network.run(machine, "reader"));
    for reader in readers {
        let output = reader.wait_with_output().expect("a child");
        let text = String::from_utf8_lossy(&output.stdout);
        faultin_test::assert_ran(output.status, &text);
        assert!(output.status.success(), "{text}");
        let counts = text.lines().find(|line| line.contains("versions whole")).expect("its counts");
        println!("{counts}");
    }
    for child in [&mut writer, &mut store] {
        // The end of its input ends it.
        drop(child.stdin.take());
        assert!(child.wait().expect("a child").success());
    }
}

/// The children of the test above.
#[test]
fn a_machine() {
    let Ok(role) = std::env::var(ROLE) else { return };
    common::watchdog();
    let address = SocketAddr::from((STORE, PORT));
    match role.as_str() {
        "store" => {
            let server = Server::start_at(address, Access::Signed).expect("a server");
            server.put(common::PATH, pattern(0, len(0)));
            println!("ready");
            wait_for_the_end();
        }
        "writer" => write(address),
        "reader" => read_versions(address),
        other => panic!("no role {other}"),
    }
}

fn wait_for_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Replaces the object, in bursts with pauses: some readers shall get through.
fn write(address: SocketAddr) {
    let store = client(address).build().expect("threads");
    let (backend, path) = store.backend(common::URL).expect("a URL");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    std::thread::spawn(move || {
        for version in (1..=u8::MAX).cycle() {
            runtime.block_on(backend.put(&path, pattern(version, len(version)).into())).expect("written");
            std::thread::sleep(Duration::from_millis(if version % 8 == 0 { 150 } else { 3 }));
        }
    });
    wait_for_the_end();
}

/// Reads the object again and again, in a random order, in each way.
fn read_versions(address: SocketAddr) {
    let store = client(address).build().expect("threads");
    let random = Random::new(u64::from(std::process::id()));
    let (mut whole, mut replaced) = (0, 0);
    while whole < ENOUGH || replaced < ENOUGH {
        let object = match store.open(common::URL) {
            Ok(object) => object,
            Err(error) => {
                assert!(matches!(error.cause(), Cause::Replaced { .. }), "{error}");
                replaced += 1;
                continue;
            }
        };
        let size = object.size() as usize;
        let version = u8::try_from(size - len(0)).expect("the length of a version");
        let bytes = pattern(version, size);
        let file = cached(&object);
        let mapping = if random.once_in(2) { map(&file, Mode::Mprotect) } else { None };
        let reader: &dyn Reader = match &mapping {
            Some(mapping) => mapping,
            None if random.once_in(2) => &file,
            None => &object,
        };
        let start = random.below(60_usize);
        let blocks = (0..61).map(|block| (block + start) % 61);
        let result = blocks.map(|block| (block * BLOCK, BLOCK.min(size - block * BLOCK)));
        let result = result.filter(|(_, len)| *len > 0).find_map(|(pos, len)| read(reader, &bytes, pos, len).err());
        match result {
            None => whole += 1,
            Some(short) => {
                assert!(matches!(short.error.cause(), Cause::Replaced { .. }), "{}", short.message);
                replaced += 1;
            }
        }
    }
    println!("{whole} versions whole, {replaced} replaced");
}
