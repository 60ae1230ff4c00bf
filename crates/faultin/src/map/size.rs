//! Whether a file's size is the number of its bytes: [`has_known_size`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::stamp::Stamp;
use crate::errno::CallError;
use crate::map::mapping::file_system;

/// File systems whose files are made up when they are read, by the `f_type` of `statfs(2)`. Their sizes are 0, a page, or
/// whatever their author thought of. Reading there can wait forever (`trace_pipe`, `kmsg`) or have effects, so nothing is
/// tried: the kind of the file system is enough.
const MADE_UP: [u32; 20] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x7472_6163, // tracefs
    0x6462_6720, // debugfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6265_6570, // configfs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x5a3c_69f0, // apparmorfs
    0x6573_5543, // fusectl
    0x0765_5821, // resctrl
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
    0x4249_4e4d, // binfmt_misc
    0xcafe_4a11, // bpf
    0x6e73_6673, // namespaces
    0x1980_0202, // message queues
    0xabba_1974, // xenfs
];

/// How often a file of size 0 has to give a byte to count as one that has no size. (One may be filled and emptied meanwhile.)
const ATTEMPTS: usize = 8;

/// What a map of a file without a known size says.
pub(crate) const UNKNOWN: &str = "its size is not known, read it as a stream";

/// Returns whether the size that `fstat(2)` reports of a regular file is the number of its bytes.
///
/// It is not on proc, sysfs, tracefs, debugfs, cgroup and their kin, which `fstatfs(2)` tells apart: nothing is read there.
/// Elsewhere a file of size 0 that has a first byte has no size (FUSE servers with direct I/O make such files).
///
/// # Errors
/// Those of `fstat(2)`, and of reading one byte from a file of size 0.
pub fn has_known_size(file: &File) -> io::Result<bool> {
    has_size(file, Stamp::of(file)?.size)
}

/// The same for a file whose size was asked for.
pub(crate) fn has_size(file: &File, size: u64) -> io::Result<bool> {
    if file_system(file).is_some_and(|(kind, _)| MADE_UP.contains(&kind)) {
        return Ok(false);
    }
    if size > 0 {
        return Ok(true);
    }
    // A file that was empty when it was asked may have a first byte a moment later, and a size.
    for _ in 0..ATTEMPTS {
        match file.read_at(&mut [0], 0) {
            Ok(0) => return Ok(true),
            Ok(_) if Stamp::of(file)?.size > 0 => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => match error.raw_os_error() {
                // Not open for reading, or with O_DIRECT, which does not read one byte: the size is all there is to ask.
                Some(libc::EBADF | libc::EINVAL) => return Ok(true),
                // Neither a position nor a moment of its own: that is a stream.
                Some(libc::ESPIPE | libc::EAGAIN) => return Ok(false),
                _ => return Err(CallError::name("pread64", error)),
            },
        }
    }
    Ok(false)
}
