//! What is done about a fault: policies and a finding make a verdict.

use std::ops::Range;
use std::time::Duration;

use crate::access::Access;
use crate::fault::Cause;
use crate::inspect::{ADRERR, Finding};
use crate::policy::Policies;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The program gets its signal. Why a policy that was asked for does not apply; empty if none was.
    Deliver(String),
    /// The access is repeated at once.
    Repeat,
    /// The thread is held until there is space.
    WaitForSpace(Option<Duration>),
    /// The thread is held, and the access tried again so many more times.
    Retry(u32),
    /// The addresses show zeros.
    Zero(Range<u64>),
}

/// An access may be repeated so often in a row without a pause, before the look is not believed any more.
const REPEATS: u32 = 3;

/// A mapping may have been replaced so often in a row when it was looked at.
pub(super) const REPLACED: u32 = 64;

/// Decides. `tries` is how often the thread was made to repeat this access so far; `shows_zeros`, whether the address is in a
/// range that shows zeros by now.
pub(super) fn verdict(policies: &Policies, finding: &Finding, tries: u32, shows_zeros: bool) -> Verdict {
    let fault = &finding.fault;
    // Another thread met the same fault, and it has been repaired since.
    if shows_zeros && tries < REPEATS {
        return Verdict::Repeat;
    }
    // Another thread has mapped something else there.
    if finding.is_replaced && *policies != Policies::default() && tries < REPLACED {
        return Verdict::Repeat;
    }
    // What the policies wait for may be why: a server that hangs, a machine that is overloaded. The access asks again, unless
    // a signal that was sent would be lost by that.
    if finding.is_overdue && fault.code == ADRERR {
        match (policies.wait_space, policies.retry) {
            (Some(wait), _) => return Verdict::WaitForSpace(wait.limit),
            (None, Some(retries)) if tries < retries => return Verdict::Retry(retries - tries),
            _ if policies.zero && tries < REPEATS => return Verdict::Repeat,
            _ => {}
        }
    }
    match &fault.cause {
        Cause::NoSpace { .. } | Cause::HugePages { .. } => match policies.wait_space {
            // It may be a load, which needs no space, and have failed for a reason that is over.
            Some(_) if fault.access == Access::Unknown && tries < REPEATS => Verdict::Repeat,
            Some(wait) => Verdict::WaitForSpace(wait.limit),
            None => Verdict::Deliver(String::new()),
        },
        Cause::Accessible { .. } => match (policies.wait_space, policies.retry, policies.zero) {
            (None, None, false) => Verdict::Deliver(String::new()),
            _ if tries < REPEATS => Verdict::Repeat,
            (Some(wait), retry, _)
                if fault.access.may_store() && (fault.access != Access::Unknown || retry.is_none()) =>
            {
                Verdict::WaitForSpace(wait.limit)
            }
            (_, Some(retries), _) if tries - REPEATS < retries => Verdict::Retry(retries - (tries - REPEATS)),
            _ => Verdict::Deliver("the page can be read, and the access fails all the same".into()),
        },
        Cause::Io { .. } => match policies.retry {
            Some(retries) if tries < retries => Verdict::Retry(retries - tries),
            _ if policies.zero => zeros(finding, only_page(finding)),
            Some(retries) => Verdict::Deliver(format!("it has failed {retries} times more")),
            None => Verdict::Deliver(String::new()),
        },
        Cause::PastEnd { .. } if policies.zero => zeros(finding, to_the_end(finding)),
        _ => Verdict::Deliver(String::new()),
    }
}

/// The page of the fault: what a device cannot read, another page may have.
fn only_page(finding: &Finding) -> Range<u64> {
    let start = finding.fault.address / finding.page * finding.page;
    start..start + finding.page
}

/// All of the mapping from the page of the fault: there is no file there.
fn to_the_end(finding: &Finding) -> Range<u64> {
    only_page(finding).start..finding.range.end
}

fn zeros(finding: &Finding, range: Range<u64>) -> Verdict {
    let instead = match finding.fault.access {
        Access::Load if finding.is_code => "code never is zeros",
        Access::Load if finding.recovers => "the program has a handler that recovers",
        Access::Load if range.is_empty() => "the mapping is not known",
        Access::Load => return Verdict::Zero(range),
        Access::Fetch => "code never is zeros",
        Access::Unknown => "it is not known that it is a load",
        Access::Store | Access::LoadAndStore => "a store would be lost",
    };
    Verdict::Deliver(format!("no zeros: {instead}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::decide::Signal;
    use crate::fault::Space;
    use crate::policy::WaitSpace;

    pub fn finding(cause: Cause, access: Access) -> Finding {
        let signal = Signal { number: libc::SIGBUS, code: 2, address: 0x11_008, damaged: 0 };
        let mut finding = Finding::without(7, signal, String::new());
        (finding.fault.cause, finding.fault.access) = (cause, access);
        Finding { range: 0x10_000..0x20_000, page: 4096, ..finding }
    }

    pub fn past_end() -> Cause {
        Cause::PastEnd { size: 0, mapped_to: 0x10_000, changed: std::time::SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn each_cause_has_its_policy() {
        let space = Space::default();
        let full = || Cause::NoSpace { errno: None, space };
        let (io, fine) = (|| Cause::Io { errno: libc::EIO }, || Cause::Accessible { space });
        let huge = || Cause::HugePages { page: 2 << 20, total: 1, free: 0 };
        let none = Policies::default();
        let wait = Policies { wait_space: Some(WaitSpace { limit: None }), ..none };
        let retry = Policies { retry: Some(2), ..none };
        let most = Policies { retry: Some(u32::MAX), ..none };
        let zero = Policies { zero: true, ..none };
        let all = Policies { wait_space: wait.wait_space, retry: Some(2), zero: true };
        let signal = || Verdict::Deliver(String::new());
        let (load, store, unknown) = (Access::Load, Access::Store, Access::Unknown);
        let table = [
            ("explain", none, finding(full(), store), 0, signal()),
            ("wait", wait, finding(full(), store), 0, Verdict::WaitForSpace(None)),
            ("wait for a huge page", wait, finding(huge(), store), 0, Verdict::WaitForSpace(None)),
            ("it may be a load", wait, finding(full(), unknown), 2, Verdict::Repeat),
            ("it waits all the same", wait, finding(full(), unknown), 3, Verdict::WaitForSpace(None)),
            ("others do not wait", retry, finding(full(), store), 0, signal()),
            ("zeros are no space", zero, finding(full(), load), 0, signal()),
            ("retry", retry, finding(io(), load), 0, Verdict::Retry(2)),
            ("retry, the last one", retry, finding(io(), load), 1, Verdict::Retry(1)),
            ("retry, in vain", retry, finding(io(), load), 2, Verdict::Deliver("it has failed 2 times more".into())),
            ("retry, then zeros", all, finding(io(), load), 2, Verdict::Zero(0x11_000..0x12_000)),
            ("zeros of a page", zero, finding(io(), load), 0, Verdict::Zero(0x11_000..0x12_000)),
            ("zeros of the rest", zero, finding(past_end(), load), 0, Verdict::Zero(0x11_000..0x20_000)),
            (
                "a truncated file",
                all,
                finding(past_end(), store),
                0,
                Verdict::Deliver("no zeros: a store would be lost".into()),
            ),
            ("explain what is fine", none, finding(fine(), load), 0, signal()),
            ("repeat what is fine", zero, finding(fine(), load), 0, Verdict::Repeat),
            ("wait, if it is not", wait, finding(fine(), store), 3, Verdict::WaitForSpace(None)),
            ("wait, if it may be a store", wait, finding(fine(), unknown), 3, Verdict::WaitForSpace(None)),
            ("retry, if it may be a load", all, finding(fine(), unknown), 3, Verdict::Retry(2)),
            ("retry, if it is not", retry, finding(fine(), load), 3, Verdict::Retry(2)),
            ("any number of retries", most, finding(fine(), load), 3, Verdict::Retry(u32::MAX)),
            ("what it has sent", all, finding(Cause::Sent, load), 0, signal()),
            ("what is misaligned", all, finding(Cause::Misaligned, load), 0, signal()),
        ];
        for (what, policies, finding, tries, expected) in table {
            assert_eq!(verdict(&policies, &finding, tries, false), expected, "{what}");
        }
    }

    #[test]
    fn zeros_are_for_loads_of_data_only() {
        let zero = Policies { zero: true, ..Policies::default() };
        let of = |finding: Finding| verdict(&zero, &finding, 0, false);
        for access in [Access::Store, Access::LoadAndStore, Access::Fetch, Access::Unknown] {
            assert!(matches!(of(finding(past_end(), access)), Verdict::Deliver(why) if !why.is_empty()), "{access:?}");
        }
        let load = || finding(past_end(), Access::Load);
        assert!(matches!(of(Finding { is_code: true, ..load() }), Verdict::Deliver(_)));
        assert!(matches!(of(Finding { recovers: true, ..load() }), Verdict::Deliver(_)));
        assert!(matches!(of(load()), Verdict::Zero(_)));
    }

    #[test]
    fn what_was_replaced_meanwhile_is_tried_again() {
        let all = Policies { wait_space: None, retry: None, zero: true };
        let replaced = Finding { is_replaced: true, ..finding(Cause::Unknown { facts: String::new() }, Access::Load) };
        assert_eq!(verdict(&all, &replaced, 0, false), Verdict::Repeat);
        assert_eq!(verdict(&all, &replaced, REPLACED, false), Verdict::Deliver(String::new()));
        assert_eq!(verdict(&Policies::default(), &replaced, 0, false), Verdict::Deliver(String::new()));
    }

    #[test]
    fn a_fault_that_nobody_could_look_at_in_time_is_tried_again() {
        let none = Policies::default();
        let limit = Some(Duration::from_secs(9));
        let wait = Policies { wait_space: Some(WaitSpace { limit }), retry: Some(1), zero: true };
        let retry = Policies { retry: Some(1), ..none };
        let zero = Policies { zero: true, ..none };
        let overdue =
            || Finding { is_overdue: true, ..finding(Cause::Unknown { facts: String::new() }, Access::Unknown) };
        let of = |policies, tries| verdict(&policies, &overdue(), tries, false);
        let signal = || Verdict::Deliver(String::new());
        assert_eq!([of(none, 0), of(retry, 1), of(zero, REPEATS)], [signal(), signal(), signal()]);
        assert_eq!([of(wait, 0), of(wait, 100)], [Verdict::WaitForSpace(limit), Verdict::WaitForSpace(limit)]);
        assert_eq!([of(retry, 0), of(zero, 0)], [Verdict::Retry(1), Verdict::Repeat]);
        let mut sent = overdue();
        sent.fault.code = libc::SI_USER;
        assert_eq!(verdict(&wait, &sent, 0, false), signal());
    }

    #[test]
    fn a_twin_of_a_repaired_fault_repeats_its_access() {
        let zero = Policies { zero: true, ..Policies::default() };
        let twin = finding(Cause::Unknown { facts: String::new() }, Access::Load);
        assert_eq!(verdict(&zero, &twin, 0, true), Verdict::Repeat);
        assert_eq!(verdict(&zero, &twin, 0, false), Verdict::Deliver(String::new()));
        assert_eq!(verdict(&zero, &twin, 3, true), Verdict::Deliver(String::new()), "not forever");
    }
}
