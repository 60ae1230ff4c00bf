//! The header of a file of tensors, by the crate `safetensors`; and whether a program has the file open for writing.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use safetensors::tensor::Metadata;

use crate::map::FileMap;

/// Returns whether any process has the file of a map open for writing, or mapped to be written; `False` where the kernel does
/// not tell.
///
/// A lease of readers is refused as long as there is a writer. It is given back at once.
#[pyfunction]
pub(crate) fn is_being_written(py: Python<'_>, map: &FileMap) -> PyResult<bool> {
    let map = map.open_map()?;
    Ok(py.detach(|| refuses_lease(map.as_fd().as_raw_fd())))
}

/// File systems of this machine (ext2 to ext4, XFS, Btrfs, F2FS, ZFS, bcachefs, tmpfs, overlayfs), by the numbers that `statfs` has
/// for them, on which a lease is refused with EAGAIN because of a writer. A client of NFS or SMB refuses all leases with it, as
/// long as the server has not delegated the file.
const LOCAL: [u32; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e, 0x0102_1994, 0x794c_7630];

fn is_local(fd: i32) -> bool {
    let mut system = core::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: room for the answer, which there is if the call succeeds.
    unsafe { libc::fstatfs(fd, system.as_mut_ptr()) == 0 && LOCAL.contains(&(system.assume_init().f_type as u32)) }
}

/// `F_SETSIG` of `asm-generic/fcntl.h`: the signal in place of SIGIO.
const F_SETSIG: i32 = 10;

fn refuses_lease(fd: i32) -> bool {
    // Own open file, which alone has the lease. (Not waiting: another process may have a lease of its own.)
    let path = format!("/proc/self/fd/{fd}");
    let Ok(file) = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) else { return false };
    if !is_local(file.as_raw_fd()) {
        return false;
    }
    // SAFETY: of a descriptor of this function. Who opens the file to write while there is a lease is stopped until it is given
    // back, and the kernel sends this process a signal: SIGIO would end it, and SIGURG is ignored by default.
    unsafe {
        if libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) != 0 {
            return false;
        }
        if libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0 {
            libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK);
            return false;
        }
    }
    // Everything else is no answer: a file of another user, or a kernel without leases.
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

/// A tensor: name, type, shape, and its range after the header.
type Tensor = (String, String, Vec<usize>, usize, usize);

/// The strings of the header, by their keys.
type Strings = std::collections::HashMap<String, String>;

/// Parses the JSON text of a header. Returns the strings of `__metadata__`, and the tensors in the order of the file. The
/// ranges follow one another without a gap, and fit type and shape.
#[pyfunction]
pub(crate) fn safetensors_header(text: &Bound<'_, PyBytes>) -> PyResult<(Option<Strings>, Vec<Tensor>)> {
    let metadata: Metadata =
        serde_json::from_slice(text.as_bytes()).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let (start, end) = info.data_offsets;
        tensors.push((name, format!("{:?}", info.dtype), info.shape.clone(), start, end));
    }
    let strings = metadata.metadata().as_ref();
    let strings = strings.map(|map| map.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
    Ok((strings, tensors))
}
