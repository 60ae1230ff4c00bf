//! Names of rows of the audit on the command line.

use clap::ValueEnum;
use faultin_audit::{Caller, Variant, callers};

/// The rows of one name: clap's one value, although it may be several rows.
#[derive(Clone)]
pub struct Callers(Vec<Caller>);

impl Callers {
    /// Returns all named rows, in order, none twice.
    pub fn chosen(named: &[Callers]) -> Vec<Caller> {
        let mut rows: Vec<Caller> = named.iter().flat_map(|names| names.0.clone()).collect();
        rows.sort_by_key(|caller| caller.row);
        rows.dedup_by_key(|caller| caller.row);
        rows
    }
}

/// Parses a name or a number.
///
/// # Errors
/// The existing names.
pub fn parse(name: &str) -> Result<Callers, String> {
    match callers::named(name) {
        rows if rows.is_empty() => {
            let mut names: Vec<&str> = callers::all().iter().map(|caller| caller.name).collect();
            names.sort_unstable();
            names.dedup();
            Err(format!("no such caller; there are 1 to {}, or\n  {}", callers::all().len(), names.join("\n  ")))
        }
        rows => Ok(Callers(rows)),
    }
}

/// Which code of the callers.
#[derive(Clone, Copy, ValueEnum)]
pub enum Which {
    /// As it was found.
    AsFound,
    /// As it should be.
    Fixed,
    /// Both kinds.
    Both,
}

impl Which {
    /// Returns whether this variant is selected.
    pub fn has(self, variant: Variant) -> bool {
        match self {
            Which::AsFound => variant == Variant::AsFound,
            Which::Fixed => variant == Variant::Fixed,
            Which::Both => true,
        }
    }
}
