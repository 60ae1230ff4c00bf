//! A process that forks while one of its threads reads a slice.

use crate::fixture::{content, each, set_len};
use crate::scan::add;

#[test]
fn a_child_of_a_scanning_process_can_scan() {
    each(|case| {
        let page = faultin::page_size();
        let (path, map) = case.mapped(4 * page);
        // SAFETY: the closure does not rely on the bytes.
        let _ = unsafe {
            map.with_slice(.., |bytes| {
                set_len(&path, page);
                // SAFETY: the child does arithmetic and this library's system calls, and exits.
                match libc::fork() {
                    0 => {
                        let sum = add(bytes);
                        let whole = !case.faults() || sum == add(&content(page));
                        libc::_exit(i32::from(!whole));
                    }
                    child => {
                        let mut status = 0;
                        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                        assert_eq!(status, 0, "the child's sum");
                    }
                }
            })
        };
    });
}
