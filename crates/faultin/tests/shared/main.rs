//! Memory shared with a peer that cuts it, punches holes into it, rewrites it and lies: over a mapping and over pread, in
//! memfds and in files, sealed and not.

mod answers;
mod cuts;
mod fixture;
mod huge;
mod kinds;
mod peer;
mod rings;
mod slices;
mod space;
