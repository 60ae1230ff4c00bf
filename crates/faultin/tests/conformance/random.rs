//! Random layouts and sequences of operations, on the host's memory and on simulated memory of its page size: each
//! operation has the same result on both, and leaves the same bytes.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use faultin::memory::{AtomicMemory, ReadMemory, WriteMemory};
use faultin::{Access, Cause, Fault, Granularity, Short, page_size};
use faultin_sim::Geometry;
use proptest::prelude::*;

use super::host::Host;
use super::layout::{Backend, CANARY, Kind, Memory};
use super::sim::Simulated;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Read,
    Write(u8),
    Fill(u8),
    FaultInRead,
    FaultInWrite,
    ProbeRead(Granularity),
    ProbeWrite(Granularity),
    Load16,
    Load64,
    Store32(u32),
    Store128(u128),
    Swap64(u64),
    Add8(u8),
    Add32(u32),
    Exchange16(u16),
}

/// An operation at `offset`, with length `len` if it has one.
#[derive(Clone, Copy, Debug)]
struct Call {
    operation: Operation,
    offset: usize,
    len: usize,
}

/// The result, with addresses relative to the range. A scalar may report any bad byte of several pages: then only the
/// failure is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Bytes(Vec<u8>),
    Short(usize, Access, Cause, Option<usize>),
    Failed(Access),
}

impl Call {
    fn on<M: Memory>(self, memory: &M) -> (Outcome, Vec<u8>) {
        let Call { offset, len, .. } = self;
        let (read, write) = (memory.read(), memory.write());
        let some = NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN);
        let mut dst = Vec::new();
        let outcome = match self.operation {
            Operation::Read => {
                dst = vec![CANARY; len];
                let result = read.read(&mut dst, offset);
                copied(memory, result)
            }
            Operation::Write(byte) => {
                let src: Vec<u8> = (0..len).map(|i| byte.wrapping_add(i as u8)).collect();
                copied(memory, write.write(&src, offset))
            }
            Operation::Fill(byte) => copied(memory, write.fill(offset..offset.wrapping_add(len), byte)),
            Operation::FaultInRead => faulted_in(memory, read.fault_in(offset, some)),
            Operation::FaultInWrite => faulted_in(memory, write.fault_in(offset, some)),
            Operation::ProbeRead(granularity) => {
                copied(memory, read.probe(offset..offset.wrapping_add(len), granularity))
            }
            Operation::ProbeWrite(granularity) => {
                copied(memory, write.probe(offset..offset.wrapping_add(len), granularity))
            }
            Operation::Load16 => self.scalar(memory, 2, read.load::<u16>(offset).map(|v| v.to_ne_bytes().to_vec())),
            Operation::Load64 => self.scalar(memory, 8, read.load::<i64>(offset).map(|v| v.to_ne_bytes().to_vec())),
            Operation::Store32(value) => self.scalar(memory, 4, write.store(offset, value).map(|()| Vec::new())),
            Operation::Store128(value) => self.scalar(memory, 16, write.store(offset, value).map(|()| Vec::new())),
            Operation::Swap64(value) => {
                self.scalar(memory, 8, write.swap(offset, value).map(|old| old.to_ne_bytes().to_vec()))
            }
            Operation::Add8(value) => {
                self.scalar(memory, 1, write.fetch_add(offset, value, Relaxed).map(|old| old.to_ne_bytes().to_vec()))
            }
            Operation::Add32(value) => {
                self.scalar(memory, 4, write.fetch_add(offset, value, SeqCst).map(|old| old.to_ne_bytes().to_vec()))
            }
            Operation::Exchange16(new) => {
                let current = read.load::<u16>(offset).unwrap_or(0) & !(new & 1);
                let result = write.compare_exchange(offset, current, new, SeqCst, Relaxed);
                let told = |old: Result<u16, u16>| {
                    let old_bytes = old.unwrap_or_else(|old| old).to_ne_bytes();
                    [&old_bytes[..], &[u8::from(old.is_ok())]].concat()
                };
                self.scalar(memory, 2, result.map(told))
            }
        };
        (outcome, dst)
    }

    fn scalar<M: Memory>(self, memory: &M, len: usize, result: Result<Vec<u8>, Fault>) -> Outcome {
        let pages = self.offset / page_size()..=self.offset.saturating_add(len - 1) / page_size();
        match result {
            Ok(bytes) => Outcome::Bytes(bytes),
            Err(fault) if matches!(fault.cause(), Cause::OutOfRange | Cause::Alignment) => failed(memory, 0, fault),
            Err(fault) if pages.start() != pages.end() => Outcome::Failed(fault.access()),
            // A misaligned access may be reported at any of its bytes.
            Err(fault) if !self.offset.is_multiple_of(len) => Outcome::Short(0, fault.access(), fault.cause(), None),
            Err(fault) => failed(memory, 0, fault),
        }
    }
}

fn failed<M: Memory>(memory: &M, done: usize, fault: Fault) -> Outcome {
    let at = fault.address().map(|address| address.wrapping_sub(memory.base()));
    Outcome::Short(done, fault.access(), fault.cause(), at)
}

fn copied<M: Memory>(memory: &M, result: Result<(), Short>) -> Outcome {
    result.map_or_else(|short| failed(memory, short.done, short.fault), |()| Outcome::Bytes(Vec::new()))
}

fn faulted_in<M: Memory>(memory: &M, result: Result<NonZeroUsize, Fault>) -> Outcome {
    let bytes = |n: NonZeroUsize| Outcome::Bytes(n.get().to_ne_bytes().to_vec());
    result.map_or_else(|fault| failed(memory, 0, fault), bytes)
}

fn operation() -> impl Strategy<Value = Operation> {
    let granularity = || prop_oneof![Just(Granularity::Page), Just(Granularity::Line), Just(Granularity::Tag)];
    prop_oneof![
        2 => Just(Operation::Read),
        2 => any::<u8>().prop_map(Operation::Write),
        1 => any::<u8>().prop_map(Operation::Fill),
        1 => Just(Operation::FaultInRead),
        1 => Just(Operation::FaultInWrite),
        1 => granularity().prop_map(Operation::ProbeRead),
        1 => granularity().prop_map(Operation::ProbeWrite),
        1 => Just(Operation::Load16),
        1 => Just(Operation::Load64),
        1 => any::<u32>().prop_map(Operation::Store32),
        1 => any::<u128>().prop_map(Operation::Store128),
        1 => any::<u64>().prop_map(Operation::Swap64),
        1 => any::<u8>().prop_map(Operation::Add8),
        1 => any::<u32>().prop_map(Operation::Add32),
        1 => any::<u16>().prop_map(Operation::Exchange16),
    ]
}

/// More often than not near page boundaries, and occasionally past the end.
fn call(pages: usize) -> impl Strategy<Value = Call> {
    let page = page_size();
    let edge = (0..=pages, -20_isize..20).prop_map(move |(n, near)| (n * page).saturating_add_signed(near));
    let offset = prop_oneof![4 => edge, 1 => 0..pages * page];
    let len = prop_oneof![3 => 0..70_usize, 1 => 0..2 * page, 1 => (0..4_usize).prop_map(move |n| n * page)];
    (operation(), offset, len).prop_map(|(operation, offset, len)| Call { operation, offset, len })
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let kind = prop_oneof![3 => Just(Kind::Good), 2 => proptest::sample::select(&Kind::ALL[1..])];
    prop::collection::vec(kind, 1..6)
}

fn cases() -> impl Strategy<Value = (Vec<Kind>, Vec<Call>)> {
    kinds().prop_flat_map(|kinds| {
        let calls = prop::collection::vec(call(kinds.len()), 1..24);
        (Just(kinds), calls)
    })
}

#[test]
fn random_operations_end_alike_on_both() {
    let _serial = super::serial();
    // Fewer where each fault is emulated.
    let cases_run = if cfg!(target_arch = "x86_64") { 600 } else { 60 };
    let config = ProptestConfig { cases: cases_run, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((kinds, calls) in cases())| {
        let (host, sim) = (Host.memory(&kinds), Simulated(Geometry::host()).memory(&kinds));
        for call in calls {
            prop_assert_eq!(call.on(&sim), call.on(&host), "{:?}, simulated first", call);
            prop_assert!(sim.contents() == host.contents(), "{:?}", call);
        }
    });
}
