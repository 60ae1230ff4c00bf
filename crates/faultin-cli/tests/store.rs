//! Objects of object stores, as users of the command meet them.

mod common;

use std::process::Output;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn said(output: &Output) -> (Option<i32>, &str, &str) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// In both builds, and also where the command line is wrong. An accepted URL has no such part, so a list of checksums has none either.
#[test]
fn no_output_has_a_secret_of_a_url() {
    let sum = blake3::hash(b"");
    let folder = tempfile::tempdir().expect("a folder");
    let urls = [
        "https://127.0.0.1:1/x?X-Amz-Signature=hunter22",
        "HTTPS://127.0.0.1:1/x?sig=hunter22",
        "http:127.0.0.1:1/x?sig=hunter22",
        "http://me:hunter22@127.0.0.1:1/x",
        "ftp://me:hunter22@127.0.0.1/x",
        "s3://bucket/x;sig=hunter22",
        "https://127.0.0.1:1/o?GoogleAccessId=me@iam.example&Signature=hunter22",
    ];
    for url in urls {
        let list = folder.path().join("list");
        std::fs::write(&list, format!("{sum}  {url}\nBLAKE3 ({url}) = {sum}\n")).expect("written");
        let list = list.to_str().expect("text");
        for args in [
            &["sum", url][..],
            &["sum", "--check", list],
            &["sum", "--check", url],
            &["store", "check", url],
            &["store", "check", "s3://bucket", url],
            &["sum", "--length", url, "/dev/null"],
            &["sum", &format!("--length={url}"), "/dev/null"],
            &[url],
        ] {
            let output = common::faultin().args(args).output().expect("it runs");
            let (code, out, err) = said(&output);
            assert!(code == Some(1) || code == Some(2), "{args:?}: {code:?} {out}{err}");
            assert!(!out.contains("hunter22") && !err.contains("hunter22"), "{args:?}: {out}{err}");
            assert!(!(out.is_empty() && err.is_empty()), "{args:?}");
        }
    }
    // The host, or at least the scheme, is left.
    let output = common::faultin().args(["sum", urls[0]]).output().expect("it runs");
    assert!(said(&output).2.contains("https://127.0.0.1:1/x: "), "{}", said(&output).2);
}

/// A build without stores says so, and how to get another one.
#[cfg(not(feature = "store"))]
#[test]
fn without_the_feature_the_command_says_what_is_missing() {
    let output = common::faultin().args(["store", "check", "s3://bucket/folder"]).output().expect("it runs");
    let (code, out, err) = said(&output);
    assert_eq!((code, out), (Some(2), ""));
    assert!(err.contains("s3://bucket/folder") && err.contains("--features store"), "{err}");
    let output = common::faultin().args(["sum", "s3://bucket/key", "/dev/null"]).output().expect("it runs");
    let (code, out, err) = said(&output);
    assert_eq!((code, out), (Some(1), format!("{}  /dev/null\n", blake3::hash(b"")).as_str()));
    assert!(err.contains("s3://bucket/key") && err.contains("--features store"), "{err}");
}

#[cfg(feature = "store")]
mod with_the_feature {
    use std::process::Command;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use faultin_store_test::{Access, Fault, Proxy, SECRET_KEY, Server, environment, has_loopback, pattern};

    use super::{common, said};

    const LEN: usize = 9 << 20;

    /// A server with an object, and a proxy before it.
    fn net(access: Access) -> Option<(std::sync::Arc<Mutex<Server>>, Proxy)> {
        if !has_loopback() {
            return None;
        }
        let server = Server::start_at(([127, 0, 0, 1], 0).into(), access).expect("a server");
        server.put("bucket/object", pattern(0, LEN));
        let proxy = Proxy::start(server.address(), |_| Fault::None).expect("a proxy");
        Some((std::sync::Arc::new(Mutex::new(server)), proxy))
    }

    fn faultin(proxy: &Proxy, access: Access, args: &[&str]) -> Command {
        let mut command = common::faultin();
        command.args(args).envs(environment(proxy.address()));
        if access == Access::Anonymous {
            command.env("AWS_SKIP_SIGNATURE", "true");
        }
        command
    }

    #[test]
    fn the_checksum_of_an_object_is_that_of_its_bytes() {
        let Some((_server, proxy)) = net(Access::Signed) else { return };
        let line = format!("{}  s3://bucket/object\n", blake3::hash(&pattern(0, LEN)));
        let output = faultin(&proxy, Access::Signed, &["sum", "s3://bucket/object"]).output().expect("it runs");
        let (code, out, err) = said(&output);
        assert_eq!((code, out), (Some(0), line.as_str()), "{err}");
        assert!(err.contains(&format!("{LEN} bytes")) && err.contains("0 of them retries"), "{err}");
        // Its own list, and two failures that another attempt repairs.
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("list");
        std::fs::write(&list, out).expect("written");
        let seen = AtomicU64::new(0);
        proxy.set_script(move |_| match seen.fetch_add(1, SeqCst) {
            3 | 5 => Fault::slow_down(),
            _ => Fault::None,
        });
        let list = list.to_str().expect("text");
        let output = faultin(&proxy, Access::Signed, &["sum", "--check", list]).output().expect("it runs");
        let (code, out, err) = said(&output);
        assert_eq!((code, out), (Some(0), "s3://bucket/object: OK\n"), "{err}");
        assert!(err.contains("2 of them retries"), "{err}");
    }

    #[test]
    fn an_object_that_is_replaced_has_no_checksum() {
        let Some((server, proxy)) = net(Access::Signed) else { return };
        let seen = AtomicU64::new(0);
        proxy.set_script(move |request| {
            if request.method == "GET" && seen.fetch_add(1, SeqCst) == 1 {
                server.lock().expect("no panic").put("bucket/object", pattern(1, LEN));
            }
            Fault::None
        });
        let args = ["sum", "s3://bucket/object", "s3://bucket/none", "/dev/null"];
        let output = faultin(&proxy, Access::Signed, &args).output().expect("it runs");
        let (code, out, err) = said(&output);
        // The other file is hashed all the same.
        assert_eq!((code, out), (Some(1), format!("{}  /dev/null\n", blake3::hash(b"")).as_str()), "{err}");
        assert!(err.contains("replaced") && err.contains("there is no such object"), "{err}");
    }

    #[test]
    fn no_output_has_the_secret() {
        let Some((_server, proxy)) = net(Access::Signed) else { return };
        for args in [&["sum", "s3://bucket/object"][..], &["store", "check", "s3://bucket/folder"]] {
            let mut command = faultin(&proxy, Access::Signed, args);
            let output = command.env("AWS_ACCESS_KEY_ID", "nobody").output().expect("it runs");
            let (code, out, err) = said(&output);
            assert_eq!(code, Some(1), "{out}{err}");
            assert!(!out.contains(SECRET_KEY) && !err.contains(SECRET_KEY), "{out}{err}");
        }
    }

    /// Runs a program that may write a core, waits until `is_there`, and kills it with a signal that makes it write one;
    /// returns whether it has.
    fn writes_core(program: &mut Command, is_there: impl FnOnce()) -> bool {
        use std::os::unix::process::ExitStatusExt;

        let folder = tempfile::tempdir().expect("a folder");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "ulimit -c unlimited && exec \"$@\"", "sh"])
            .arg(program.get_program())
            .args(program.get_args());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = shell.current_dir(folder.path()).spawn().expect("it runs");
        is_there();
        let killed = Command::new("kill").args(["-QUIT", &child.id().to_string()]).status().expect("kill runs");
        assert!(killed.success());
        child.wait().expect("it ends").core_dumped()
    }

    /// Credentials are in the memory of the process.
    #[test]
    fn the_command_leaves_no_core() {
        let Some((_server, proxy)) = net(Access::Signed) else { return };
        let a_moment = || std::thread::sleep(std::time::Duration::from_millis(300));
        if !writes_core(Command::new("sleep").arg("100"), a_moment) {
            return faultin_test::skipped("core-files", "a program that gets SIGQUIT writes no core");
        }
        let (asks, asked) = std::sync::mpsc::channel();
        let asks = Mutex::new(asks);
        proxy.set_script(move |_| {
            let _ = asks.lock().expect("no panic").send(());
            Fault::Silence
        });
        let mut command = faultin(&proxy, Access::Signed, &["sum", "s3://bucket/object"]);
        assert!(!writes_core(&mut command, || asked.recv().expect("a request")));
    }

    #[test]
    fn a_check_has_a_table_and_a_status() {
        let check = ["store", "check", "s3://bucket/folder"];
        let Some((_server, proxy)) = net(Access::Signed) else { return };
        let output = faultin(&proxy, Access::Signed, &check).output().expect("it runs");
        let (code, out, err) = said(&output);
        assert_eq!((code, err), (Some(0), ""), "{out}");
        assert!(out.contains("exactly one wins") && !out.contains("NO"), "{out}");

        // The table could not be printed.
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
        let output = faultin(&proxy, Access::Signed, &check).stdout(full).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{}", super::text(&output.stderr));

        let Some((_server, proxy)) = net(Access::Anonymous) else { return };
        proxy.set_script(|_| Fault::StripConditions);
        let output = faultin(&proxy, Access::Anonymous, &check).output().expect("it runs");
        let (code, out, err) = said(&output);
        assert_eq!((code, err), (Some(1), ""), "{out}");
        assert!(out.contains("NO: the condition is ignored"), "{out}");

        proxy.set_script(|request| match request.method.as_str() {
            "PUT" => Fault::StripConditions,
            _ => Fault::None,
        });
        let output = faultin(&proxy, Access::Anonymous, &check).output().expect("it runs");
        assert_eq!(output.status.code(), Some(3), "{}", super::text(&output.stdout));

        let output = faultin(&proxy, Access::Signed, &["store", "check", "gopher://bucket"]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{}", super::text(&output.stderr));
    }
}
