//! The model as JSON.
//!
//! `{"rows": […], "summary": {…}}`. A row is a cell. `ok` is `true` or `false` where the cell ran; `false`, too, for a skip
//! that is not allowed here; `null` where it did not run and did not have to. `expected` is `null` for rows that do not run
//! yet. `actual` contains `∞` for a livelock, and is `not yet`, `skipped: …` or `–` for a cell that did not run.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::model::{Cell, Model, Summary};

#[derive(Serialize)]
struct Json<'a> {
    rows: &'a [Cell],
    summary: &'a Summary,
}

/// Returns the model as a JSON text.
///
/// # Panics
/// Never: cells and totals can all be written.
pub fn text(model: &Model) -> String {
    let json = Json { rows: &model.cells, summary: &model.summary };
    serde_json::to_string_pretty(&json).expect("strings, numbers and truth values")
}
