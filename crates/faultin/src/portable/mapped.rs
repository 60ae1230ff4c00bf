//! Replaces `map::mapped` on systems other than Linux, where files are not mapped: every map reads with `pread(2)`.
//!
//! [`Space`] and [`Mapping`] have no values. The file API's code for mappings compiles and never runs.

use std::fs::File;
use std::path::Path;

use super::engine::{Engine, Window};
use super::error::{OperationError, Reason};
use super::options::{Backend, MapOptions};
use super::stamp::Stamp;
use crate::fault::{Fault, Short};
use crate::registry::InstallError;
use crate::scalar::Scalar;
use crate::scan::Plain;

/// The access rights of a map.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rights {
    /// Reading only.
    Read,
}

/// The mappings of a map; no value exists.
#[derive(Debug)]
pub(super) enum Space {}

/// A mapping; no value exists.
#[derive(Debug)]
pub(super) enum Mapping {}

/// The mapping of a file: none.
pub(super) struct Mapped {
    pub space: Option<Space>,
    pub may_move: bool,
    pub unmapped: Option<File>,
}

impl Mapped {
    /// # Errors
    /// [`Reason::Handler`] if the options require a mapping.
    pub(super) fn new(
        options: &MapOptions,
        _: &File,
        _: Option<&Path>,
        _: Window,
        _: &Stamp,
        Rights::Read: Rights,
    ) -> Result<Self, Reason> {
        match options.asked() {
            Backend::Automatic | Backend::Pread => Ok(Mapped { space: None, may_move: false, unmapped: None }),
            Backend::Mapped => Err(Reason::Handler(InstallError::Unsupported)),
        }
    }
}

impl Space {
    pub(super) fn newest(&self) -> Option<&Mapping> {
        match *self {}
    }

    pub(super) fn prepare(&self) {
        match *self {}
    }

    pub(super) fn renew(
        &self,
        _: &Engine,
        _: &MapOptions,
        _: Option<&Path>,
        _may_move: bool,
        _before: &Stamp,
        _now: &Stamp,
    ) -> Result<(), OperationError> {
        match *self {}
    }
}

impl Mapping {
    pub(super) fn base(&self) -> *mut u8 {
        match *self {}
    }

    pub(super) fn read(&self, _at: usize, _dst: &mut [u8]) -> Result<(), Short> {
        match *self {}
    }

    pub(super) fn read_ahead(&self, _at: usize, _dst: &mut [u8]) -> Result<(), Short> {
        match *self {}
    }

    pub(super) fn read_streaming(&self, _at: usize, _dst: &mut [u8]) -> Result<(), Short> {
        match *self {}
    }

    pub(super) fn load<T: Scalar>(&self, _at: usize) -> Result<T, Fault> {
        match *self {}
    }

    pub(super) fn is_searchable(&self) -> bool {
        match *self {}
    }

    pub(super) fn range(&self, _at: usize, _len: usize) -> Result<Plain, Fault> {
        match *self {}
    }

    pub(super) fn epoch(&self) -> u64 {
        match *self {}
    }

    pub(super) fn whole_since(&self, _before: u64, _src: *const u8) -> Result<(), Fault> {
        match *self {}
    }
}

impl MapOptions {
    /// Does nothing: systems have different hints, and none is needed.
    pub(super) fn hint(&self, _: &Engine, _: Option<&Mapping>, _len: u64) {
        let _ = self.hints();
    }
}

impl Window {
    /// Returns the number of bytes before the window that are mapped with it.
    pub(super) fn lead(&self) -> usize {
        0
    }
}
