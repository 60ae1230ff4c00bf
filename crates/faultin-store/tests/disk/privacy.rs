//! What other users can read, and where they could lead a tier.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it exists").mode() & 0o7777
}

fn kind(dir: &Path) -> Result<(), ErrorKind> {
    Disk::open(dir, 1 << 20).map(drop).map_err(|error| error.kind())
}

#[test]
fn files_are_for_their_user_only() {
    let place = Place::new();
    put(&place.open(8), 0..4);
    assert_eq!(mode(&place.dir()), 0o700);
    let files = || fs::read_dir(place.dir()).expect("a folder").map(|file| file.expect("a file").path());
    assert_eq!(files().count(), 2);
    for file in files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        fs::set_permissions(&file, Permissions::from_mode(0o666)).expect("changed");
    }
    assert_eq!(count(&place.open(8), 0..4), 4);
    files().for_each(|file| assert_eq!(mode(&file), 0o600, "{}", file.display()));
}

#[test]
fn no_name_is_on_the_disk() {
    let place = Place::new();
    let disk = place.open(8);
    let secret = Key { object: "s3://SECRET-bucket/SECRET".into(), version: "SECRET".into(), range: 0..4 };
    disk.put(secret.clone(), "data".into());
    assert!(disk.flush(Duration::from_secs(60)));
    assert_eq!(disk.get(&secret, &mut [0; 4]), Some(4));
    drop(disk);
    for file in fs::read_dir(place.dir()).expect("a folder") {
        let bytes = fs::read(file.expect("a file").path()).expect("its bytes");
        assert!(!bytes.windows(6).any(|window| window == b"SECRET"));
    }
}

#[test]
fn a_directory_that_others_may_write_to_is_rejected() {
    let place = Place::new();
    fs::create_dir(place.dir()).expect("a folder");
    for bad in [0o777, 0o1777, 0o720, 0o702] {
        fs::set_permissions(place.dir(), Permissions::from_mode(bad)).expect("changed");
        assert_eq!(kind(&place.dir()), Err(ErrorKind::PermissionDenied), "{bad:o}");
    }
    fs::set_permissions(place.dir(), Permissions::from_mode(0o755)).expect("changed");
    assert_eq!(kind(&place.dir()), Ok(()));
}

#[test]
fn links_are_not_followed() {
    let place = Place::new();
    let target = place.0.path().join("target");
    fs::create_dir(&target).expect("a folder");
    symlink(&target, place.dir()).expect("a link");
    for path in [place.dir(), place.dir().join(""), place.dir().join("."), place.0.path().join("tier///")] {
        assert_eq!(kind(&path), Err(ErrorKind::NotADirectory), "{}", path.display());
    }
    assert_eq!(fs::read_dir(&target).expect("a folder").count(), 0, "nothing was made there");
    fs::remove_file(place.dir()).expect("removed");

    // Links and other names in the directory are as if the disk failed: they appear after the tier was chosen.
    let victim = place.0.path().join("victim");
    for name in ["index", "data"] {
        for is_symbolic in [true, false] {
            fs::write(&victim, "precious").expect("a file");
            fs::create_dir(place.dir()).expect("a folder");
            let link = place.dir().join(name);
            if is_symbolic { symlink(&victim, link) } else { fs::hard_link(&victim, link) }.expect("a link");
            let disk = place.open(8);
            assert!(matches!(disk.stats().state, DiskState::Failed(_)), "{name}: {:?}", disk.stats());
            put(&disk, 0..1);
            assert!(!has(&disk, 0));
            assert_eq!(fs::read_to_string(&victim).expect("a file"), "precious");
            fs::remove_dir_all(place.dir()).expect("removed");
        }
    }
}

#[test]
fn another_users_directory_is_rejected() {
    let place = Place::new();
    fs::create_dir(place.dir()).expect("a folder");
    if let Err(error) = std::os::unix::fs::chown(place.dir(), Some(12_345), None) {
        return faultin_test::skipped("root", format_args!("a directory of another user: {error}"));
    }
    assert_eq!(kind(&place.dir()), Err(ErrorKind::PermissionDenied));
}

#[test]
fn a_file_in_place_of_the_directory_is_an_error() {
    let place = Place::new();
    fs::write(place.dir(), "").expect("a file");
    assert!(kind(&place.dir()).is_err());
    assert!(kind(&place.dir().join("below")).is_err());
}
