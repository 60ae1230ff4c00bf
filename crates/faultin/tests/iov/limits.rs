//! What `import_iovec` refuses and truncates, compared with readv and writev.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use faultin::iov::{ImportError, IovDest, IovSource};
use faultin::{ReadView, page_size};

/// The kernel's limit of segments in one list.
const UIO_MAXIOV: usize = 1024;

/// The kernel's limit of bytes in one call.
fn max_rw_count() -> usize {
    i32::MAX as usize & !(page_size() - 1)
}

fn iovec(base: usize, len: usize) -> libc::iovec {
    libc::iovec { iov_base: std::ptr::without_provenance_mut(base), iov_len: len }
}

/// A kernel address, where the sign distinguishes the halves of the address space.
const KERNEL: usize = 0xffff_8000_0000_0000;

fn imported(iovecs: &[libc::iovec]) -> Result<usize, ImportError> {
    // SAFETY: nothing is accessed.
    let source = unsafe { IovSource::<ReadView<'_>>::import_iovec(iovecs) }.map(|iov| iov.count());
    // SAFETY: as above.
    let dest = unsafe { IovDest::<faultin::WriteView<'_>>::import_iovec(iovecs) }.map(|iov| iov.count());
    assert_eq!(source.as_ref().ok(), dest.as_ref().ok());
    assert_eq!(source.as_ref().err().map(ImportError::errno), dest.as_ref().err().map(ImportError::errno));
    source
}

/// The result of writev to /dev/null, which accepts every byte without reading it.
fn accepted(iovecs: &[libc::iovec]) -> Result<usize, i32> {
    let null = File::options().write(true).open("/dev/null").unwrap();
    // SAFETY: the kernel checks every range. (A sanitizer's `writev` would read them.)
    let result = unsafe { libc::syscall(libc::SYS_writev, null.as_raw_fd(), iovecs.as_ptr(), iovecs.len()) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

#[test]
fn the_kernel_accepts_and_refuses_the_same() {
    let here = [0_u8; 64];
    let good = |len| iovec(here.as_ptr().addr(), len);
    let negative = isize::MIN as usize;
    let page = page_size();
    let cases: [(&str, Vec<libc::iovec>); 14] = [
        ("none", vec![]),
        ("one", vec![good(10)]),
        ("one, empty, nowhere", vec![iovec(0, 0)]),
        ("empty and bad in front", vec![iovec(8, 0), good(3)]),
        ("as many as allowed", vec![good(1); UIO_MAXIOV]),
        ("one more", vec![good(1); UIO_MAXIOV + 1]),
        ("a negative length", vec![good(1), good(negative)]),
        ("a length of all ones", vec![good(usize::MAX)]),
        ("a negative length behind a bad address", vec![iovec(KERNEL, 1), good(negative)]),
        ("the kernel's memory", vec![good(1), iovec(KERNEL, 1)]),
        ("the kernel's memory, nothing of it", vec![good(1), iovec(KERNEL, 0)]),
        ("the kernel's memory, alone and nothing of it", vec![iovec(KERNEL, 0)]),
        ("more than a call moves, in one", vec![iovec(page, max_rw_count() + page)]),
        ("more than a call moves, in two", vec![iovec(page, max_rw_count() - 5), iovec(page, 100)]),
    ];
    // User-mode emulators check lists themselves, by different rules.
    let emulated = !crate::kernel::has_process_vm();
    for (name, iovecs) in cases {
        let ours = imported(&iovecs);
        if emulated {
            continue;
        }
        match (accepted(&iovecs), &ours) {
            (Ok(kernel), Ok(ours)) => assert_eq!(kernel, *ours, "{name}"),
            (Err(kernel), Err(ours)) => assert_eq!(Some(kernel), ours.errno(), "{name}: {ours}"),
            (kernel, ours) => panic!("{name}: {kernel:?}, ours {ours:?}"),
        }
    }
}

#[test]
fn what_is_beyond_the_cap_is_left_out_without_a_word_and_its_address_is_checked() {
    let most = max_rw_count();
    assert_eq!(most, i32::MAX as usize - (page_size() - 1));
    let page = page_size();
    assert_eq!(imported(&[iovec(page, most), iovec(page, 1)]).unwrap(), most);
    assert_eq!(imported(&[iovec(page, most - 1), iovec(page, 1), iovec(page, 1)]).unwrap(), most);
    if cfg!(target_arch = "x86_64") {
        let refused = imported(&[iovec(page, most), iovec(KERNEL, 1)]).unwrap_err();
        assert_eq!((refused.errno(), refused.to_string().contains("segment 1")), (Some(libc::EFAULT), true));
    }
}

#[test]
fn errors_say_which_segment_and_convert_to_the_kernels() {
    let error = imported(&[iovec(8, 1), iovec(8, usize::MAX)]).unwrap_err();
    assert_eq!(error.to_string(), "segment 1 has a negative length");
    assert_eq!(faultin::errno(&io::Error::from(error)), Some(libc::EINVAL));
    let error = imported(&vec![iovec(8, 1); 2000]).unwrap_err();
    assert_eq!(error.to_string(), "2000 segments, 1024 are allowed");
    let error = imported(&[iovec(usize::MAX - 1, 4), iovec(8, 1)]).unwrap_err();
    assert_eq!(error.to_string(), "segment 0 is not in this process's addresses");
    assert_eq!(faultin::errno(&io::Error::from(error)), Some(libc::EFAULT));
}
