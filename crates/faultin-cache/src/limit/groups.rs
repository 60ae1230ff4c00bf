//! The limits of control groups: of the process's own, and of all groups around it, up to the root that it can see.
//!
//! `/proc/self/cgroup` has the path of the group in each hierarchy, and `/proc/self/mountinfo` where the hierarchies are
//! mounted, and which of their groups is the root of the mount. Both versions may be mounted at the same time; the memory is
//! limited by either.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// A hierarchy that may limit memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    /// The files of a group with its limits.
    fn files(self) -> &'static [&'static str] {
        match self {
            Version::V1 => &["memory.limit_in_bytes"],
            Version::V2 => &["memory.max", "memory.high"],
        }
    }
}

/// Returns the least limit in bytes. Files are looked up below `root`.
pub(super) fn limit(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let groups = read("proc/self/cgroup")?;
    let mounts = read("proc/self/mountinfo")?;
    let of_mount = |(version, mount, point): (Version, String, String)| {
        let group = path_of_group(&groups, version)?;
        let point = below(root, &point);
        let mut folder = below(&point, within(group, &mount));
        let mut least = None;
        // Up to the root of the mount.
        while folder.starts_with(&point) {
            let limits = version.files().iter().filter_map(|file| number(&fs::read_to_string(folder.join(file)).ok()?));
            least = limits.chain(least).min();
            if !folder.pop() {
                break;
            }
        }
        least
    };
    mounts.lines().filter_map(mount).filter_map(of_mount).min()
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Parses a limit; `max` is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Returns the path of the group in a hierarchy, from the lines of `/proc/self/cgroup`: `id:controllers:path`.
fn path_of_group(lines: &str, version: Version) -> Option<&str> {
    lines.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = match version {
            Version::V1 => controllers.split(',').any(|name| name == "memory"),
            Version::V2 => id == "0" && controllers.is_empty(),
        };
        is_it.then_some(path)
    })
}

/// Returns the path of a group from the root of a mount, which shows the groups below `mount`. A group that the mount does
/// not show counts as its root.
fn within<'a>(group: &'a str, mount: &str) -> &'a str {
    let rest = if mount == "/" { Some(group) } else { group.strip_prefix(mount) };
    let is_below = |rest: &&str| {
        (rest.is_empty() || rest.starts_with('/')) && !Path::new(rest).components().any(|part| part.as_os_str() == "..")
    };
    rest.filter(is_below).unwrap_or("")
}

/// Parses a line of `/proc/self/mountinfo`: the version of the hierarchy, the root of the mount, and its place.
fn mount(line: &str) -> Option<(Version, String, String)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    let mut fields = after.split(' ');
    let (kind, options) = (fields.next()?, fields.nth(1).unwrap_or_default());
    let version = match kind {
        "cgroup2" => Version::V2,
        "cgroup" if options.split(',').any(|option| option == "memory") => Version::V1,
        _ => return None,
    };
    Some((version, unescaped(root), unescaped(place)))
}

/// Replaces the escapes of `mountinfo`: a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[3..]);
            }
            None => {
                bytes.push(b'\\');
                bytes.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes files below a new root.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_least_limit_of_all_groups_around_it_counts() {
        let files = |max: &'static str, high: &'static str, above: &'static str| {
            [
                ("proc/self/cgroup", "0::/a.slice/b.scope\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/a.slice/memory.max", above),
                ("sys/fs/cgroup/a.slice/memory.high", "max\n"),
                ("sys/fs/cgroup/a.slice/b.scope/memory.max", max),
                ("sys/fs/cgroup/a.slice/b.scope/memory.high", high),
                // Another group.
                ("sys/fs/cgroup/c/memory.max", "1\n"),
            ]
        };
        for (max, high, above, ought) in [
            ("max\n", "max\n", "max\n", None),
            ("1000\n", "max\n", "max\n", Some(1000)),
            ("1000\n", "900\n", "max\n", Some(900)),
            ("1000\n", "max\n", "800\n", Some(800)),
            ("nonsense", "", "700", Some(700)),
            ("18446744073709551616\n", "5\n", "max\n", Some(5)),
        ] {
            assert_eq!(limit(root(&files(max, high, above)).path()), ought, "{max:?} {high:?} {above:?}");
        }
    }

    #[test]
    fn both_versions_are_asked_wherever_they_are_mounted() {
        let root = root(&[
            ("proc/self/cgroup", "5:cpu,memory:/x/y\n1:name=systemd:/z\n0::/w\n"),
            (
                "proc/self/mountinfo",
                "36 25 0:31 / /groups/my\\040memory rw - cgroup cgroup rw,memory\n\
                 37 25 0:32 / /groups/cpuset rw - cgroup cgroup rw,cpuset\n\
                 38 25 0:33 / /groups/unified rw - cgroup2 none rw\n\
                 39 25 0:34 / / rw - ext4 /dev/memory rw,memory\n\
                 broken line\n",
            ),
            ("groups/my memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("groups/my memory/x/memory.limit_in_bytes", "5000\n"),
            ("groups/my memory/x/y/memory.limit_in_bytes", "6000\n"),
            ("groups/cpuset/memory.limit_in_bytes", "1\n"),
            ("groups/unified/w/memory.max", "7000\n"),
        ]);
        assert_eq!(limit(root.path()), Some(5000));
        fs::write(root.path().join("groups/unified/w/memory.max"), "4000\n").unwrap();
        assert_eq!(limit(root.path()), Some(4000));
    }

    #[test]
    fn a_container_sees_a_part_of_the_hierarchy() {
        let with = |group: &'static str, mount: &'static str| {
            let line = format!("30 23 0:26 {mount} /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
            let root = root(&[
                ("proc/self/cgroup", group),
                ("proc/self/mountinfo", &line),
                ("sys/fs/cgroup/memory.max", "300\n"),
                ("sys/fs/cgroup/inner/memory.max", "200\n"),
                ("memory.max", "1\n"),
            ]);
            limit(root.path())
        };
        assert_eq!(with("0::/docker/abc\n", "/docker/abc"), Some(300));
        assert_eq!(with("0::/docker/abc/inner\n", "/docker/abc"), Some(200));
        assert_eq!(with("0::/docker/abcdef/inner\n", "/docker/abc"), Some(300), "not below it");
        assert_eq!(with("0::/../inner\n", "/"), Some(300), "outside of the namespace");
        assert_eq!(with("0::/\n", "/"), Some(300));
        assert_eq!(with("nothing\n", "/"), None);
    }

    #[test]
    fn without_the_files_nothing_is_known() {
        assert_eq!(limit(root(&[]).path()), None);
        assert_eq!(limit(root(&[("proc/self/cgroup", "0::/a\n")]).path()), None);
    }
}
