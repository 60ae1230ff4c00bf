//! wip
#![cfg_attr(not(feature = "std"), no_std)]

#[macro_use]
mod arch;
pub mod copy;
pub mod fault;
#[cfg(feature = "std")]
mod registry;
#[cfg(feature = "std")]
pub mod signal;
pub mod table;

pub use copy::*;
pub use fault::*;
#[cfg(feature = "std")]
pub use signal::*;

