//! Row 15, `search_ioctl` (btrfs): packs the results of a tree search into a user's buffer, each item after a header, and
//! only whole items.
//!
//! The tree is locked while items are copied, and the page fault that a copy takes may need that lock, so they are copied
//! with page faults disabled. After a short copy the record is dropped, the lock released, and the search continues at the
//! same key with the same position in the buffer: at a record's boundary, not at the first byte that was not copied.
//!
//! So the caller needs to know that *every* byte of the record can be stored. As found it stores a zero in each page of the
//! rest of the buffer. Where the zeros do not touch a bad granule, the record there is tried forever. And the zeros stay,
//! also after the last record.
//!
//! Fixed, it proves every byte of the rest and changes none. The length is the ioctl's argument, which the packing uses as
//! well; the contents of the buffer are never used. A bad byte that no record would have reached is `EFAULT`, too: it
//! concerns the rest of the buffer, as in 5.14 and in 6.12.
//!
//! The product is the records, parsed back from the buffer: each item that was found, once, in order, whole; and nothing
//! after them has changed except for the zeros as found. After an error, a part of one more record may be there.

#![forbid(unsafe_code)]

use faultin::memory::{ReadMemory, WriteMemory, WriteNoWait};

use super::search_tree::{Item, Key, Tree};
use crate::axes::Variant::{self, AsFound, Fixed};
use crate::bug::Bug;
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::{Never, With};
use crate::expect::{Expected, Moved, STILL_RETRYING};
use crate::helpers::{fault_in_pages_writeable, probe_write, touched};
use crate::log::{Log, Stuck};
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 15,
    name: "search_ioctl",
    place: "btrfs",
    need: Need::All,
    finding: "broken with poisoned memory and sub-page permissions, whichever semantics",
    origins: [
        "caller from 5.14, helper from 5.14 (fault_in_pages_writeable)",
        "caller from 6.12 with a bound, helper: faultin's probe_write in place of fault_in_subpage_writeable",
    ],
    expected: &EXPECTED,
    stores: true,
    job: Some(&SearchIoctl),
    ..Caller::NOT_YET
};

/// The caller.
struct SearchIoctl;

/// Number of attempts of the fixed variant at a record although every byte could be stored a moment ago.
const ATTEMPTS: u32 = 16;

/// The previous contents of the buffer.
const STALE: u8 = 0x77;
const FOUND: &str = "ok";
const EFAULT: &str = "EFAULT";
const EOVERFLOW: &str = "EOVERFLOW";
const TREE: &str = "the tree";

/// The arguments of a search, and its tree.
#[derive(Clone, Debug)]
struct Search {
    tree: Tree,
    /// Maximum number of items.
    wanted: usize,
    scale: Scale,
}

/// The progress of a search.
#[derive(Clone, Debug)]
struct Position {
    key: Key,
    /// Number of bytes packed.
    packed: usize,
    /// Number of records packed.
    items: usize,
    /// The start of the buffer's rest, each time the helper stored its zeros there, and whether it could store them all.
    zeroed: Vec<(usize, bool)>,
}

/// The result of processing one leaf.
enum Leaf {
    /// All its items are packed, or there is none; there may be more leaves.
    Done,
    /// A copy was short.
    Short,
    /// The search is over.
    Over(&'static str),
}

impl Search {
    fn of(scale: Scale) -> Search {
        let sizes: &[usize] = match scale {
            Scale::Full => &[20, 48, 0, 33, 100, 7],
            Scale::Small => &[1, 0, 2],
        };
        Search { tree: Tree::new(sizes), wanted: usize::MAX, scale }
    }

    /// Returns transaction, object, offset, kind, length: 32 bytes, or 4 that leave out the fields for which there is no
    /// room.
    fn header(&self, transaction: u64, key: Key, len: usize) -> Vec<u8> {
        match self.scale {
            Scale::Full => [transaction, key.object, key.offset, u64::from(key.kind) | (len as u64) << 32]
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect(),
            Scale::Small => vec![transaction as u8, key.object as u8, key.kind, len as u8],
        }
    }

    /// `copy_to_sk`: packs the items of a leaf from the key on.
    fn pack_leaf(&self, at: &mut Position, to: &impl WriteNoWait, log: &mut Log) -> Leaf {
        log.lock(TREE);
        let leaf = match self.tree.search_forward(at.key) {
            Some(((transaction, items), slot)) => self.pack_items(at, *transaction, &items[slot..], to, log),
            None => Leaf::Over(FOUND),
        };
        if !(log.has(Bug::KeepsTheLock) && matches!(leaf, Leaf::Short)) {
            log.unlock(TREE);
        }
        leaf
    }

    fn pack_items(
        &self,
        at: &mut Position,
        transaction: u64,
        items: &[Item],
        to: &impl WriteNoWait,
        log: &mut Log,
    ) -> Leaf {
        for item in items {
            at.key = item.key;
            let (record, fits) = self.record(transaction, item, to.len(), at.items > 0);
            if record.iter().map(Vec::len).sum::<usize>() > to.len() - at.packed {
                log.decide("the buffer is full");
                return Leaf::Over(if at.items > 0 { FOUND } else { EOVERFLOW });
            }
            let mut end = at.packed;
            for (what, part) in ["pack a header", "pack an item"].into_iter().zip(record) {
                if part.is_empty() {
                    continue;
                }
                let copied = match log.has(Bug::FaultsUnderTheLock) {
                    false => to.write_nowait(&part, end),
                    true => to.write(&part, end),
                };
                log.copied(what, part.len(), &copied);
                if copied.is_err() && !log.has(Bug::CutRecordCounts) {
                    // Nothing has moved: the next search is for this key and this position.
                    return Leaf::Short;
                }
                end += part.len();
            }
            at.packed = end;
            at.items += 1;
            if !fits {
                return Leaf::Over(EOVERFLOW);
            }
            if at.items >= self.wanted {
                log.decide("no more are wanted");
                return Leaf::Over(FOUND);
            }
        }
        match at.key.next() {
            Some(next) => at.key = next,
            None => return Leaf::Over(FOUND),
        }
        Leaf::Done
    }

    /// Returns header and data, and whether that is all of the item: for the first one that no buffer of this size could
    /// hold, a header without data.
    fn record(&self, transaction: u64, item: &Item, buffer: usize, any: bool) -> ([Vec<u8>; 2], bool) {
        let whole = [self.header(transaction, item.key, item.data.len()), item.data.clone()];
        if any || whole[0].len() + whole[1].len() <= buffer {
            (whole, true)
        } else {
            ([self.header(transaction, item.key, 0), Vec::new()], false)
        }
    }

    fn as_found<M: WriteNoWait>(&self, at: &mut Position, to: &M, log: &mut Log) -> Result<&'static str, Stuck> {
        loop {
            let faulted_in = fault_in_pages_writeable(&rest(to, at), log);
            at.zeroed.push((at.packed, faulted_in.is_ok()));
            if faulted_in.is_err() {
                return Ok(EFAULT);
            }
            match self.pack_leaf(at, to, log) {
                Leaf::Over(status) => return Ok(status),
                Leaf::Done => {}
                Leaf::Short => log.again()?,
            }
        }
    }

    fn fixed<M: WriteNoWait>(&self, at: &mut Position, to: &M, log: &mut Log) -> Result<&'static str, Stuck> {
        let mut attempt = 1;
        loop {
            if !made_writeable(&rest(to, at), log) {
                return Ok(EFAULT);
            }
            let before = at.packed;
            match self.pack_leaf(at, to, log) {
                Leaf::Over(status) => return Ok(status),
                Leaf::Done => attempt = 1,
                Leaf::Short => {
                    attempt = if at.packed > before { 1 } else { attempt + 1 };
                    if attempt > ATTEMPTS {
                        return Ok(EFAULT);
                    }
                    log.decide(format!("search again, attempt {attempt} of {ATTEMPTS}"));
                    log.again()?;
                }
            }
        }
    }

    /// Checks that the buffer has the records that the search reports as packed, and after them only bytes that `may_be`
    /// there.
    fn check(
        &self,
        at: &Position,
        status: &str,
        buffer: &[u8],
        may_be: impl Fn(usize, u8) -> bool,
    ) -> Result<(), String> {
        let (mut left, rest) = buffer.split_at(at.packed);
        let mut expected = self.tree.items().take(at.items);
        while !left.is_empty() {
            let (transaction, item) = expected.next().ok_or("more bytes than the records counted")?;
            let ([header, data], _) = self.record(transaction, item, buffer.len(), status != EOVERFLOW);
            left = left.strip_prefix(&header[..]).ok_or_else(|| format!("not the header of {:?}", item.key))?;
            left = left.strip_prefix(&data[..]).ok_or_else(|| format!("not the data of {:?}", item.key))?;
        }
        if expected.next().is_some() {
            return Err("fewer bytes than the records counted".into());
        }
        let given_up = match status {
            EFAULT => self.tree.items().nth(at.items),
            _ => None,
        };
        let given_up =
            given_up.map(|(transaction, item)| self.record(transaction, item, buffer.len(), true).0.concat());
        for (behind, &byte) in rest.iter().enumerate() {
            let part = given_up.as_ref().and_then(|record| record.get(behind)) == Some(&byte);
            if !part && !may_be(at.packed + behind, byte) {
                return Err(format!("{byte:#x} at {}, behind the last record", at.packed + behind));
            }
        }
        Ok(())
    }
}

/// Returns whether every byte of the rest can be written now.
fn made_writeable(rest: &impl WriteMemory, log: &mut Log) -> bool {
    if log.has(Bug::OneBytePerPage) {
        return fault_in_pages_writeable(rest, log).is_ok();
    }
    match probe_write(rest, log) {
        Ok(()) => true,
        Err(short) => log.has(Bug::FailureBehindTheFirstPageIsSuccess) && short.done >= rest.as_read().to_page_end(0),
    }
}

/// Returns the rest of the buffer.
fn rest<M: WriteMemory>(to: &M, at: &Position) -> M {
    to.subslice(at.packed..to.len()).expect("what is packed is within the buffer")
}

/// Returns where the helper as found has stored a zero, and where it may have.
fn zeroed<M: WriteMemory>(to: &M, at: &Position) -> (Vec<usize>, Vec<usize>) {
    let (mut certain, mut possible) = (Vec::new(), Vec::new());
    for &(start, all) in &at.zeroed {
        let rest = to.subslice(start..to.len()).expect("what is packed is within the buffer");
        let zeros = touched(&rest.as_read()).map(|at| start + at).collect::<Vec<_>>();
        if all { certain.extend(zeros) } else { possible.extend(zeros) }
    }
    (certain, possible)
}

impl Code for SearchIoctl {
    /// The single bad granule is within the second record, after the boundary where the search starts over: the helper's
    /// zeros do not touch it.
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        match scale {
            // The fifth record crosses into the second page; the tail is after the last one.
            Scale::Full => Object::new(vec![STALE; 512], 256).with_tail(448).with_restart(64),
            Scale::Small => Object::new(vec![STALE; 16], 8).with_tail(12).with_restart(8),
        }
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let (to, search) = (user.dest()?, Search::of(user.scale()));
        let mut at = Position { key: Key::FIRST, packed: 0, items: 0, zeroed: Vec::new() };
        let status = match variant {
            AsFound => search.as_found(&mut at, &to, log),
            Fixed => search.fixed(&mut at, &to, log),
        }?;
        let (zeros, possible) = zeroed(&to, &at);
        let mut product = search.check(&at, status, &user.contents()?, |offset, byte| {
            let background = if zeros.contains(&offset) { 0 } else { STALE };
            byte == background || (byte == 0 && possible.contains(&offset))
        });
        if product.is_ok() && !user.surroundings_intact()? {
            product = Err("bytes around the buffer changed".into());
        }
        Ok(Ended { status, moved: at.packed, product })
    }
}

const FINE: &str = "5.14 and 6.12: faults the rest of the buffer in, packs a leaf, and so on until nothing is found";
const RETRIES: &str =
    "5.14 and 6.12: what is evicted in front of the copy is faulted in again, at the record's boundary";
const ALL_OF_THE_REST: &str =
    "5.14: EFAULT unless all of the buffer's rest could be faulted in, even if the result would fit the first page";
const STORES: &str = "5.14 and 6.12: nothing can be stored there";
const LAST_BYTE: &str = "5.14: the helper stores to the last byte, too, and fails; no record would have reached it";
const LOOPS: &str =
    "the mail and the thread: a bad granule within a record, which a byte of each page does not see; restarts for ever";
const PROVES: &str = "6.12: EFAULT unless every granule of the buffer's rest could be written; the mail: needs ALL";

const EXPECTED: [Expected; 2] = [
    Expected::whole_or((With(FOUND, Moved::Bytes(400)), FINE), (With(EFAULT, Moved::Nothing), ALL_OF_THE_REST))
        .races(&[FOUND, EFAULT, STILL_RETRYING], "5.14: the loop has no bound of its own")
        .at(ReadOnly, STORES)
        .at_in(Evicted, 2, RETRIES)
        .at(InaccessibleTail, LAST_BYTE)
        .but(RestartGranuleBad, Never, LOOPS),
    Expected::whole_or((With(FOUND, Moved::Bytes(400)), FINE), (With(EFAULT, Moved::Nothing), PROVES))
        .races(&[FOUND, EFAULT], "ends within its bound, with whole records")
        .at(ReadOnly, STORES)
        .at_in(Evicted, 2, RETRIES),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;
    use crate::user::SimUser;

    fn start() -> Position {
        Position { key: Key::FIRST, packed: 0, items: 0, zeroed: Vec::new() }
    }

    fn user(len: usize, scenario: Scenario) -> SimUser {
        let object = Object::new(vec![STALE; len], len.min(256)).with_restart(64);
        SimUser::new(&object, scenario, Scale::Full).unwrap()
    }

    #[test]
    fn a_search_ends_where_the_buffer_does_or_enough_is_found() {
        // Length, wanted, and: status, records, bytes.
        for (len, wanted, expected) in [
            (512, usize::MAX, (FOUND, 6, 400)),
            (400, usize::MAX, (FOUND, 6, 400)),
            (399, usize::MAX, (FOUND, 5, 361)),
            (512, 3, (FOUND, 3, 164)),
            (52, usize::MAX, (FOUND, 1, 52)),
            (51, usize::MAX, (EOVERFLOW, 1, 32)),
            (31, usize::MAX, (EOVERFLOW, 0, 0)),
        ] {
            let search = Search { wanted, ..Search::of(Scale::Full) };
            for variant in Variant::ALL {
                let user = user(len, AllResident);
                let (to, mut at, mut log) = (user.dest().unwrap(), start(), Log::of(&user));
                let status = match variant {
                    AsFound => search.as_found(&mut at, &to, &mut log),
                    Fixed => search.fixed(&mut at, &to, &mut log),
                }
                .unwrap();
                assert_eq!((status, at.items, at.packed), expected, "{len} {variant:?}");
                let (zeros, _) = zeroed(&to, &at);
                let may_be = |at, byte| byte == if zeros.contains(&at) { 0 } else { STALE };
                assert_eq!(search.check(&at, status, &user.contents().unwrap(), may_be), Ok(()));
                assert!(log.held().is_empty());
            }
        }
    }

    #[test]
    fn as_found_leaves_zeros_behind_the_last_record_and_fixed_none() {
        for (variant, zeros) in [(AsFound, vec![400, 511]), (Fixed, vec![])] {
            let user = user(512, AllResident);
            SearchIoctl.run(variant, &user, &mut Log::of(&user)).unwrap();
            let after = user.contents().unwrap();
            assert_eq!((400..512).filter(|&at| after[at] == 0).collect::<Vec<_>>(), zeros, "{variant:?}");
        }
    }

    #[test]
    fn the_check_sees_a_record_that_is_wrong_missing_twice_there_or_in_part() {
        let search = Search::of(Scale::Full);
        let user = user(512, AllResident);
        let mut at = start();
        search.fixed(&mut at, &user.dest().unwrap(), &mut Log::of(&user)).unwrap();
        let right = user.contents().unwrap();
        let check = |at: &Position, buffer: &[u8]| search.check(at, FOUND, buffer, |_, byte| byte == STALE);
        assert_eq!(check(&at, &right), Ok(()));
        for spoiled in [0, 31, 40, 200, 399, 400, 511] {
            let mut wrong = right.clone();
            wrong[spoiled] ^= 0x40;
            assert!(check(&at, &wrong).is_err(), "{spoiled}");
        }
        let twice = [&right[..52], &right[..52], &right[52..460]].concat();
        assert!(check(&Position { packed: 452, items: 7, ..at.clone() }, &twice).is_err());
        assert!(check(&Position { packed: 361, ..at.clone() }, &right).is_err());
        assert!(check(&Position { items: 5, ..at.clone() }, &right).is_err());
        assert!(check(&Position { packed: 380, ..at.clone() }, &right).is_err());
    }

    #[test]
    fn the_record_with_the_bad_granule_is_the_second_one() {
        let user = user(512, RestartGranuleBad);
        let (search, mut at) = (Search::of(Scale::Full), start());
        let stuck = search.as_found(&mut at, &user.dest().unwrap(), &mut Log::of(&user));
        assert_eq!((stuck, at.packed, at.items), (Err(Stuck::Livelock), 52, 1));
    }
}
