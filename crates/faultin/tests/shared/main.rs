//! Memory shared with a peer that truncates it, punches holes into it, rewrites it, and stores invalid values: with a
//! mapping and with pread, in memfds and in files, sealed and not.

mod answers;
mod cuts;
mod fixture;
mod huge;
mod kinds;
mod peer;
mod rings;
mod slices;
mod space;
