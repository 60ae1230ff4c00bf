//! The callers of the kernel's fault-in helpers, in the order of the mail, and the four that the series added.
//!
//! A row is data (a [`Caller`]) and code. Rows whose code is the same but for a setting are in one file. Each runs in two
//! [variants](crate::Variant) that differ in their steps; for both, one line names the caller and kernel version and the
//! helper.

#![deny(unsafe_code)]

mod armada_gem_pwrite_ioctl;
mod copy_fpstate_to_sigframe;
mod copy_page_from_iter_iovec;
mod copy_page_to_iter_iovec;
mod gfs2;
mod kernel_loops;
mod kvm_use_magic_page;
mod looker;
mod product;
mod restore_fpregs_from_user;
mod search_ioctl;
mod search_tree;
mod segments;
mod ucontext;
mod writes;

use crate::caller::Caller;

/// Every row, in order.
static ROWS: &[Caller] = &[
    kvm_use_magic_page::CALLER,
    ucontext::SWAPCONTEXT_PPC32,
    ucontext::DEBUG_SETCONTEXT,
    ucontext::SWAPCONTEXT_PPC64,
    restore_fpregs_from_user::CALLER,
    armada_gem_pwrite_ioctl::CALLER,
    copy_page_from_iter_iovec::CALLER,
    writes::GENERIC_PERFORM_WRITE,
    writes::F2FS_FILE_WRITE_ITER,
    writes::FUSE_FILL_WRITE_PAGES,
    writes::BTRFS_BUFFERED_WRITE,
    writes::NTFS_PERFORM_WRITE,
    writes::IOMAP_WRITE_ACTOR,
    copy_fpstate_to_sigframe::CALLER,
    search_ioctl::CALLER,
    copy_page_to_iter_iovec::CALLER,
    gfs2::BUFFERED_WRITE,
    gfs2::BUFFERED_READ,
    gfs2::DIRECT_READ,
    gfs2::DIRECT_WRITE,
];

/// Returns every row, in order.
pub fn all() -> Vec<Caller> {
    ROWS.into()
}

/// Returns the rows with this name (which two of them share) or this number.
pub fn named(name: &str) -> Vec<Caller> {
    let number = name.trim_start_matches('#').parse::<u8>().ok();
    let spelling = |name: &str| name.to_lowercase().replace([' ', '-'], "_");
    all()
        .into_iter()
        .filter(|caller| Some(caller.row) == number || spelling(caller.name) == spelling(name.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axes::Variant;
    use crate::scenario::{Buffer, Scenario};

    #[test]
    fn twenty_rows_in_order() {
        assert_eq!(all().len(), 20);
        for (index, caller) in all().iter().enumerate() {
            assert_eq!(usize::from(caller.row), index + 1);
        }
        assert!(all().iter().all(|caller| caller.job.is_some()));
        let mapped = all().into_iter().filter(|caller| caller.mapped.is_some());
        assert_eq!(mapped.map(|caller| caller.row).collect::<Vec<u8>>(), [17, 18, 19, 20]);
    }

    #[test]
    fn found_by_name_and_by_number() {
        let rows = |name| named(name).iter().map(|caller| caller.row).collect::<Vec<_>>();
        assert_eq!(rows("restore_fpregs_from_user"), [5]);
        assert_eq!(rows("swapcontext"), [2, 4]);
        assert_eq!(rows("gfs2 direct read"), [19]);
        assert_eq!(rows("gfs2-direct-read"), [19]);
        assert_eq!((rows("14"), rows("#6"), rows("21"), rows("")), (vec![14], vec![6], vec![], vec![]));
    }

    #[test]
    fn every_cell_that_exists_has_an_expectation_with_a_source() {
        for caller in all() {
            for (variant, scenario) in Variant::ALL.into_iter().flat_map(|v| Scenario::ALL.map(|s| (v, s))) {
                let exists = match scenario.column().buffer {
                    Buffer::Any => true,
                    Buffer::OwnFolio => (8..=13).contains(&caller.row) || caller.row >= 17,
                    Buffer::Mapping(_) => caller.row >= 17,
                };
                let expectation = caller.expectation(variant, scenario);
                let has_source = expectation.is_some_and(|expectation| !expectation.source.is_empty());
                assert_eq!(expectation.is_some(), exists, "{} {variant:?} {scenario:?}", caller.name);
                assert_eq!(has_source, exists, "{} {variant:?} {scenario:?}", caller.name);
            }
        }
    }
}
