//! Ceph's gateway for S3 (radosgw), over one monitor and one disk in memory: Debian's packages, all in one folder, on ports of
//! 127.0.0.1 that are free.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::{Stop, debian, has_command, output};
use super::is_root;

const PACKAGES: [&str; 4] = ["ceph-common", "ceph-mon", "ceph-osd", "radosgw"];

/// Of the cluster; any will do.
const ID: &str = "a7f64266-0894-4f1e-a635-d0aeaca0e993";

/// The keys that the tests use.
const ACCESS_KEY: &str = "faultin-test-key";
const SECRET_KEY: &str = "faultin-test-secret";

/// Number of seconds that each part may take to start.
const PATIENCE: u32 = 120;

/// A gateway with the bucket `bucket`. Its processes are killed when it is dropped.
pub struct Gateway {
    /// What it calls itself.
    pub version: String,
    port: u16,
    processes: Vec<Child>,
    folder: PathBuf,
}

impl Gateway {
    /// Installs what is missing, and starts everything anew in `folder`.
    ///
    /// # Errors
    /// [`Stop::Skipped`] if this is not root, or the packages cannot be installed.
    pub fn start(folder: &Path) -> Result<Gateway, Stop> {
        if ["ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin"].iter().any(|name| !has_command(name)) {
            if !is_root() || !has_command("apt-get") {
                return Err(Stop::Skipped("radosgw, or root and apt-get to install it".into()));
            }
            debian::apt(Command::new("apt-get").args(["-q", "update"])).map_err(Stop::Skipped)?;
            let mut install = Command::new("apt-get");
            install.args(["install", "-q", "-y", "--no-install-recommends"]).args(PACKAGES);
            debian::apt(&mut install).map_err(Stop::Skipped)?;
        }
        if !has_command("curl") {
            return Err(Stop::Skipped("curl, to make a bucket".into()));
        }
        let _ = fs::remove_dir_all(folder);
        for part in ["mon", "osd"] {
            fs::create_dir_all(folder.join(part)).map_err(|error| Stop::Failed(format!("{part}: {error}")))?;
        }
        let [monitor, port] = [free()?, free()?];
        let mut gateway = Gateway { version: String::new(), port, processes: Vec::new(), folder: folder.to_owned() };
        gateway.write_configuration(monitor)?;
        gateway.start_cluster(monitor).map_err(Stop::Failed)?;
        gateway.start_gateway().map_err(Stop::Failed)?;
        Ok(gateway)
    }

    /// Returns where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the variables of its clients.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", format!("http://{}", self.address())),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into()),
        ]
    }

    fn write_configuration(&self, monitor: u16) -> Result<(), Stop> {
        let folder = self.folder.display();
        let text = format!(
            "[global]\nfsid = {ID}\nmon host = [v1:127.0.0.1:{monitor}/0]\n\
             public network = 127.0.0.0/8\nms bind msgr2 = false\n\
             auth cluster required = none\nauth service required = none\nauth client required = none\n\
             osd pool default size = 1\nosd pool default min size = 1\nosd crush chooseleaf type = 0\n\
             osd pool default pg num = 4\nosd pool default pgp num = 4\nosd pool default pg autoscale mode = off\n\
             mon allow pool size one = true\nmon data avail crit = 1\nmon data avail warn = 2\n\
             run dir = {folder}\nadmin socket = {folder}/$name.asok\nlog file = {folder}/$name.log\n\
             pid file = {folder}/$name.pid\nmon data = {folder}/mon\nosd data = {folder}/osd\n\
             osd objectstore = memstore\nmemstore device bytes = 2147483648\n\
             rgw frontends = beast endpoint=127.0.0.1:{}\nrgw data = {folder}\n",
            self.port
        );
        let file = self.configuration();
        fs::write(&file, text).map_err(|error| Stop::Failed(format!("{}: {error}", file.display())))
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("ceph.conf")
    }

    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(name);
        command.arg("--conf").arg(self.configuration()).args(args);
        command
    }

    /// Starts a daemon, which stays in the foreground.
    fn daemon(&mut self, name: &str, args: &[&str]) -> Result<(), String> {
        let log = self.folder.join(format!("{name}.out"));
        let out = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let error = out.try_clone().map_err(|error| error.to_string())?;
        let mut daemon = self.command(name, args);
        let child = daemon.arg("-f").stdin(Stdio::null()).stdout(out).stderr(error).spawn();
        self.processes.push(child.map_err(|error| format!("{name}: {error}"))?);
        Ok(())
    }

    fn start_cluster(&mut self, monitor: u16) -> Result<(), String> {
        let (map, address) = (self.folder.join("monmap"), format!("[v1:127.0.0.1:{monitor}]"));
        let map = map.to_string_lossy().into_owned();
        output(Command::new("monmaptool").args(["--create", "--addv", "a", &address, "--fsid", ID, &map]))?;
        output(&mut self.command("ceph-mon", &["--mkfs", "-i", "a", "--monmap", &map]))?;
        self.daemon("ceph-mon", &["-i", "a"])?;
        let disk = "c3b1a9a4-7cc0-4d8c-8b48-4d5a4d0f7b1e";
        until("the monitor", || output(&mut self.command("ceph", &["--connect-timeout", "5", "osd", "new", disk])))?;
        output(&mut self.command("ceph-osd", &["--mkfs", "-i", "0", "--osd-uuid", disk]))?;
        self.daemon("ceph-osd", &["-i", "0"])?;
        until("the disk", || {
            let state = output(&mut self.command("ceph", &["osd", "stat"]))?;
            if state.contains("1 up") { Ok(state) } else { Err(state) }
        })?;
        Ok(())
    }

    fn start_gateway(&mut self) -> Result<(), String> {
        self.version = output(Command::new("radosgw").arg("--version"))?.trim_end().to_owned();
        self.daemon("radosgw", &["-n", "client.rgw"])?;
        until("the gateway", || {
            let address = self.address();
            std::net::TcpStream::connect(&address).map(|_| String::new()).map_err(|error| format!("{address}: {error}"))
        })?;
        let user = ["user", "create", "--uid", "tests", "--display-name", "tests", "--access-key", ACCESS_KEY];
        let mut create = self.command("radosgw-admin", &user);
        output(create.args(["--secret-key", SECRET_KEY]))?;
        until("the bucket", || {
            let (keys, url) = (format!("{ACCESS_KEY}:{SECRET_KEY}"), format!("http://{}/bucket", self.address()));
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail", "--request", "PUT", "--user", &keys]);
            curl.args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
            output(curl.arg(url))
        })?;
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free() -> Result<u16, Stop> {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| Ok(listener.local_addr()?.port()));
    port.map_err(|error| Stop::Skipped(format!("a port of 127.0.0.1: {error}")))
}

/// Repeats something until it works.
///
/// # Errors
/// The last error.
fn until(what: &str, mut works: impl FnMut() -> Result<String, String>) -> Result<String, String> {
    let mut last = String::new();
    for _ in 0..PATIENCE {
        match works() {
            Ok(done) => return Ok(done),
            Err(error) => last = error,
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Err(format!("{what} has not started: {last}"))
}
