//! Which memory a page cache's folios live in: what each kind costs, and whether a protocol that takes pages away from
//! mappings loses a store.
//!
//! `cargo run --release --example folio_memory` prints both; DESIGN.md has the figures and what followed from them. With
//! a number of MiB it measures with as much memory (512 if absent).

mod coherence;
mod memory;
mod speed;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mebibytes: usize = std::env::args().nth(1).map_or(Ok(512), |word| word.parse())?;
    speed::print(mebibytes << 20)?;
    coherence::print()
}
