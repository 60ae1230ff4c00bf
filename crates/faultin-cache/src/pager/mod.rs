//! Mappings of cached files whose page faults we serve.

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "a request is memory of the thread that waits for its answer")]
pub(crate) mod mailbox;
#[cfg(test)]
#[allow(unsafe_code, reason = "signals")]
mod mailbox_stress;
