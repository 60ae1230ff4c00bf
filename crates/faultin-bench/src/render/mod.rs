//! The results as pictures: plots, and one page with all of them. They decide how something is shown, and nothing else.

#![forbid(unsafe_code)]

mod axis;
mod page;
mod plots;

pub use page::page;
pub use plots::files;
