//! File systems that fail: a FUSE file whose server fails, answers short or dies, a disk whose blocks fail, wrong
//! checksums, full disks, an empty pool of huge pages, layers whose files move. The tests of the command are run with all
//! of them.
//!
//! Everything is mounted in a separate mount namespace, which ends with this process: nothing is left behind.

pub mod serve;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Stop, has_command, home, output, succeed, workspace};

pub const ABOUT: &str = "the tests on file systems that fail: FUSE, bad blocks, checksums, full disks (as root)";

/// Arguments of `cargo xtask env files`.
#[derive(clap::Args)]
pub struct Args {
    /// This process already runs in the namespace
    #[arg(long, hide = true)]
    inside: bool,
    /// Arguments for the test program: a part of the tests' names, `--nocapture`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Size in bytes of the blocks of the files, and their number.
const BLOCK: usize = 4096;
const BLOCKS: usize = 256;

/// The block whose checksum is wrong.
const CORRUPT: usize = 77;

/// The arguments of cargo. (One package alone has other features of its dependencies, and would be built again with all of them.)
const TESTS: [&str; 4] = ["test", "--workspace", "--test", "failing_files"];

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    if !args.inside {
        let user = output(Command::new("id").arg("-u")).map_err(Stop::Failed)?;
        if user.trim() != "0" {
            return Err(Stop::Skipped("root, to mount file systems".into()));
        }
        if !has_command("unshare") {
            return Err(Stop::Skipped("unshare, of util-linux".into()));
        }
        let allowed = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
        if !allowed.is_ok_and(|status| status.success()) {
            return Err(Stop::Skipped("the right to make a mount namespace".into()));
        }
        // Before the file systems exist: building has no time limit, tests on them do.
        succeed(Command::new("cargo").args(TESTS).arg("--no-run").current_dir(workspace())).map_err(Stop::Failed)?;
        let mut again = Command::new("unshare");
        again
            .args(["--mount", "--propagation", "private"])
            .arg(this()?)
            .args(["env", "files", "--inside", "--"])
            .args(&args.arguments);
        return succeed(&mut again).map_err(Stop::Failed);
    }
    let root = home("files");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).map_err(io)?;
    // An absolute path, for mounts and for the tests.
    let root = root.canonicalize().map_err(io)?;
    let mut servers = Vec::new();
    let mut there = 0;
    let all: [(&str, Make); 11] = [
        ("fuse", |root, servers| fuse(root, "fuse", servers)),
        ("dying", |root, servers| fuse(root, "dying", servers)),
        ("tier", tier),
        ("blocks", blocks),
        ("checksum", checksum),
        ("full-disk", full_disk),
        ("full-memory", full_memory),
        ("huge-pages", huge_pages),
        ("layers", |root, _| layers(root, "layers", Below::Together, "")),
        ("layers-apart", |root, _| layers(root, "layers-apart", Below::Apart, "")),
        ("layers-metacopy", |root, _| layers(root, "layers-metacopy", Below::Together, ",metacopy=on")),
    ];
    for (name, make) in all {
        match make(&root, &mut servers) {
            Ok(()) => there += 1,
            Err(why) => {
                faultin_test::skipped(name, why.trim().replace('\n', "; "));
                let _ = fs::remove_dir(root.join(name));
                fs::write(root.join(format!("{name}.missing")), why).map_err(io)?;
            }
        }
    }
    println!("{there} of {} file systems that fail", all.len());
    let tests = succeed(
        Command::new("timeout")
            .args(["--kill-after=5", "1200", "cargo"])
            .args(TESTS)
            .arg("--")
            .args(&args.arguments)
            .current_dir(workspace())
            .env("FAULTIN_FAILING_FILES", &root),
    );
    // Those on image files first, then the servers; the namespace ends the rest.
    let layers = ["layers", "layers-apart", "layers-metacopy"];
    for name in layers.map(str::to_owned).into_iter().chain(layers.map(|name| format!("{name}.below"))) {
        let _ = soon("umount").args(["--lazy", "--quiet"]).arg(root.join(name)).status();
    }
    for name in ["blocks", "checksum", "full-disk", "full-memory", "huge-pages", "fuse", "dying", "tier"] {
        let _ = soon("umount").args(["--lazy", "--quiet"]).arg(root.join(name)).status();
    }
    for mut server in servers {
        drop(server.stdin.take());
        let _ = server.wait();
    }
    if let Ok(before) = fs::read_to_string(root.join("huge-pages.before")) {
        let _ = fs::write(POOL, before);
    }
    let _ = fs::remove_dir_all(&root);
    tests.map_err(Stop::Failed)
}

/// Makes one below `root`; an error is the reason why it cannot be made.
type Make = fn(&Path, &mut Vec<Child>) -> Result<(), String>;

const POOL: &str = "/proc/sys/vm/nr_hugepages";

fn io(error: std::io::Error) -> Stop {
    Stop::Failed(error.to_string())
}

fn this() -> Result<PathBuf, Stop> {
    std::env::current_exe().map_err(io)
}

fn said(error: std::io::Error) -> String {
    error.to_string()
}

/// Returns the contents of the files: each block begins with its number.
fn content() -> Vec<u8> {
    let block = |i: usize| {
        let mut block = format!("faultin block {i:08} ").into_bytes();
        block.resize(BLOCK, b'a' + (i % 26) as u8);
        block
    };
    (0..BLOCKS).flat_map(block).collect()
}

fn folder(root: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = root.join(name);
    fs::create_dir_all(&folder).map_err(said)?;
    Ok(folder)
}

fn image(root: &Path, name: &str, len: u64) -> Result<PathBuf, String> {
    let path = root.join(name);
    File::create(&path).and_then(|file| file.set_len(len)).map_err(said)?;
    Ok(path)
}

/// Makes a command with a time limit: mounts on this machine may hang forever.
fn soon(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60", program]);
    command
}

/// Mounts an image file. (`mount -o loop` queries all other loop devices first, dead ones included.)
fn mount_image(kind: &str, image: &Path, mountpoint: &Path, options: &[&str]) -> Result<(), String> {
    let device = output(soon("losetup").args(options).args(["--find", "--show"]).arg(image))?;
    let device = device.trim();
    // Blocks that are read ahead are read as one, and fail as one.
    succeed(soon("blockdev").args(["--setra", "0", device]))?;
    let mounted = succeed(soon("mount").args(["-t", kind, device]).arg(mountpoint));
    // It is removed when it is unmounted.
    let _ = soon("losetup").args(["--detach", device]).status();
    mounted
}

/// Makes a FUSE file system with the files `data` and `image`.
fn fuse(root: &Path, name: &str, servers: &mut Vec<Child>) -> Result<(), String> {
    let data = root.join(format!("{name}.data"));
    fs::write(&data, content()).map_err(said)?;
    let image = image(root, &format!("{name}.image"), 64 << 20)?;
    serve_files(root, name, &[("data", &data), ("image", &image)], servers)
}

/// Makes a FUSE file system with the files of a disk tier, which are empty.
fn tier(root: &Path, servers: &mut Vec<Child>) -> Result<(), String> {
    let [index, data] = ["index", "data"].map(|file| image(root, &format!("tier.{file}"), 0));
    serve_files(root, "tier", &[("index", &index?), ("data", &data?)], servers)
}

/// Mounts a FUSE file system with these files.
fn serve_files(root: &Path, name: &str, files: &[(&str, &Path)], servers: &mut Vec<Child>) -> Result<(), String> {
    if !Path::new("/dev/fuse").exists() {
        return Err("/dev/fuse".into());
    }
    let mountpoint = folder(root, name)?;
    let exe = std::env::current_exe().map_err(said)?;
    let mut server = Command::new(exe)
        .arg("serve")
        .arg(&mountpoint)
        .args(files.iter().map(|(file, path)| format!("{file}={}", path.display())))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(said)?;
    let start = Instant::now();
    while !mountpoint.join("control").exists() {
        if start.elapsed() > Duration::from_secs(10) || server.try_wait().map_err(said)?.is_some() {
            let _ = server.kill();
            return Err("the server could not mount it".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    servers.push(server);
    Ok(())
}

/// Makes an ext4 on a disk whose blocks are the FUSE file's.
fn blocks(root: &Path, _: &mut Vec<Child>) -> Result<(), String> {
    let image = root.join("fuse/image");
    if !image.exists() {
        return Err("the served file system".into());
    }
    let mountpoint = folder(root, "blocks")?;
    succeed(soon("mkfs.ext4").args(["-q", "-F", "-b", "4096"]).arg(root.join("fuse.image")))?;
    // Without a separate cache between the disk and its blocks.
    mount_image("ext4", &image, &mountpoint, &["--direct-io=on"])?;
    write(&mountpoint.join("data"), &content())
}

/// Makes a btrfs with a block that does not match its checksum.
fn checksum(root: &Path, _: &mut Vec<Child>) -> Result<(), String> {
    if !has_command("mkfs.btrfs") {
        let _ = Command::new("apt-get").args(["install", "-qq", "-y", "btrfs-progs"]).stdout(Stdio::null()).status();
    }
    if !has_command("mkfs.btrfs") {
        return Err("mkfs.btrfs, of btrfs-progs".into());
    }
    let image = image(root, "checksum.image", 256 << 20)?;
    let mountpoint = folder(root, "checksum")?;
    succeed(soon("mkfs.btrfs").args(["-q", "--data", "single"]).arg(&image))?;
    let mount = || mount_image("btrfs", &image, &mountpoint, &[]);
    mount()?;
    write(&mountpoint.join("data"), &content())?;
    succeed(soon("umount").arg(&mountpoint))?;
    let file = File::options().read(true).write(true).open(&image).map_err(said)?;
    let bytes = fs::read(&image).map_err(said)?;
    let tag = format!("faultin block {CORRUPT:08} ").into_bytes();
    let at = bytes.windows(tag.len()).position(|window| window == tag).ok_or("the file's blocks in the image")?;
    file.write_all_at(b"X", at as u64 + 100).and_then(|()| file.sync_all()).map_err(said)?;
    mount()
}

/// Makes an ext4 with hardly any space.
fn full_disk(root: &Path, _: &mut Vec<Child>) -> Result<(), String> {
    let image = image(root, "full-disk.image", 8 << 20)?;
    let mountpoint = folder(root, "full-disk")?;
    succeed(soon("mkfs.ext4").args(["-q", "-F", "-m", "0", "-O", "^has_journal"]).arg(&image))?;
    mount_image("ext4", &image, &mountpoint, &[])
}

/// Makes a tmpfs with hardly any space.
fn full_memory(root: &Path, _: &mut Vec<Child>) -> Result<(), String> {
    let mountpoint = folder(root, "full-memory")?;
    succeed(soon("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&mountpoint))
}

/// Makes a file system on huge pages, of which there are two.
fn huge_pages(root: &Path, _: &mut Vec<Child>) -> Result<(), String> {
    let before = fs::read_to_string(POOL).map_err(said)?;
    fs::write(root.join("huge-pages.before"), &before).map_err(said)?;
    fs::write(POOL, "2").map_err(said)?;
    if fs::read_to_string(POOL).map_err(said)?.trim() != "2" {
        return Err("two huge pages".into());
    }
    let mountpoint = folder(root, "huge-pages")?;
    succeed(soon("mount").args(["-t", "hugetlbfs", "hugetlbfs"]).arg(&mountpoint))
}

/// The place of the layers of an overlay.
enum Below {
    /// On one tmpfs.
    Together,
    /// The lower one on the disk, the upper one on a tmpfs.
    Apart,
}

/// Number of files in the lower layer of each overlay, so that each test has some that were not copied up yet, and their
/// size in bytes.
const LAYERED: usize = 256;
const LAYERED_LEN: usize = 3 * BLOCK + 100;

/// Makes an overlayfs whose files are all in the lower layer: `0`, `1`, ….
fn layers(root: &Path, name: &str, below: Below, options: &str) -> Result<(), String> {
    let mountpoint = folder(root, name)?;
    let disk = folder(root, &format!("{name}.disk"))?;
    let memory = folder(root, &format!("{name}.below"))?;
    succeed(soon("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&memory))?;
    let lower = match below {
        Below::Together => folder(&memory, "lower")?,
        Below::Apart => folder(&disk, "lower")?,
    };
    let (upper, work) = (folder(&memory, "upper")?, folder(&memory, "work")?);
    for file in 0..LAYERED {
        fs::write(lower.join(file.to_string()), &content()[..LAYERED_LEN]).map_err(said)?;
    }
    let [lower, upper, work] = [lower, upper, work].map(|path| path.display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}{options}");
    succeed(soon("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&mountpoint))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut file = File::create(path).map_err(said)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(said)
}
