//! The possible contents of a file for its users: for a few of its bytes all values that any order of the events allows.
//!
//! An operation that is under way takes effect at some moment between its beginning and its end, separately for each byte;
//! a store or a load of a user at one moment. So a byte is a set of pairs, of a value and of whether the operation has had
//! its effect.

use std::collections::BTreeSet;

/// A byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Byte {
    pos: u64,
    may: BTreeSet<(u8, bool)>,
    /// The value that the operation under way gives it.
    effect: Option<u8>,
}

impl Byte {
    /// Adds the values after the operation's effect, which may happen at any moment.
    fn close(&mut self) {
        if let Some(value) = self.effect
            && self.may.iter().any(|(_, done)| !done)
        {
            self.may.insert((value, true));
        }
    }
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Model {
    bytes: Vec<Byte>,
    pub(super) size: u64,
    /// The length of the file when the operation under way is done.
    pub(super) then: u64,
}

impl Model {
    pub(super) fn new(bytes: &[(u64, u8)], size: u64) -> Model {
        let bytes =
            bytes.iter().map(|&(pos, value)| Byte { pos, may: [(value, false)].into(), effect: None }).collect();
        Model { bytes, size, then: size }
    }

    pub(super) fn positions(&self) -> Vec<u64> {
        self.bytes.iter().map(|byte| byte.pos).collect()
    }

    fn is_behind(&self, pos: u64) -> bool {
        pos >= self.size.min(self.then)
    }

    /// Begins an operation that leaves the file with this length and has an effect on some bytes.
    pub(super) fn begin(&mut self, then: u64, effect: impl Fn(u64) -> Option<u8>) {
        self.then = then;
        for byte in &mut self.bytes {
            byte.effect = effect(byte.pos);
            byte.close();
        }
    }

    /// Sets the operation's effect on a byte, once it is known.
    pub(super) fn effect(&mut self, pos: u64, value: u8) {
        for byte in self.bytes.iter_mut().filter(|byte| byte.pos == pos) {
            byte.effect = Some(value);
            byte.close();
        }
    }

    /// Ends the operation: all of it has had its effect, or any part of it.
    pub(super) fn end(&mut self, done: bool, size: u64) {
        for byte in &mut self.bytes {
            let all = byte.effect.is_some() && done;
            byte.may = byte.may.iter().filter(|may| !all || may.1).map(|may| (may.0, false)).collect();
            byte.effect = None;
        }
        (self.size, self.then) = (size, size);
    }

    /// Records a store of a user.
    pub(super) fn stored(&mut self, pos: u64, value: u8) {
        let behind = self.is_behind(pos);
        for byte in self.bytes.iter_mut().filter(|byte| byte.pos == pos) {
            let stored: BTreeSet<_> = byte.may.iter().map(|may| (value, may.1)).collect();
            // Past the end it may be forgotten, and become zero again.
            let forgotten = byte.may.iter().map(|may| (0, may.1)).collect();
            byte.may = if behind { &stored | &forgotten } else { stored };
            byte.close();
        }
    }

    /// Returns whether a load may return this value.
    pub(super) fn may(&self, pos: u64, value: u8) -> bool {
        self.bytes.iter().filter(|byte| byte.pos == pos).all(|byte| byte.may.iter().any(|may| may.0 == value))
    }

    /// Records that a user has loaded this value, so the byte had it.
    pub(super) fn loaded(&mut self, pos: u64, value: u8) {
        if !self.is_behind(pos) {
            for byte in self.bytes.iter_mut().filter(|byte| byte.pos == pos) {
                byte.may.retain(|may| may.0 == value);
                byte.close();
            }
        }
    }

    /// Returns all values of a byte, in words.
    pub(super) fn says(&self, pos: u64) -> String {
        let of = |byte: &Byte| byte.may.iter().map(|may| may.0).collect::<BTreeSet<_>>();
        format!("{:?}", self.bytes.iter().filter(|byte| byte.pos == pos).map(of).next().unwrap_or_default())
    }
}
