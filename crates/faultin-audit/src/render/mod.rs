//! The renderings of a [model](crate::model): they decide how something is written, and nothing else.

pub mod html;
pub mod json;
pub mod markdown;
pub mod text;
