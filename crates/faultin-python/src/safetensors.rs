//! The header of a file of tensors, by the crate `safetensors`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use safetensors::tensor::Metadata;

/// A tensor: name, type, shape, and its range after the header.
type Tensor = (String, String, Vec<usize>, usize, usize);

/// The strings of the header, by their keys.
type Strings = std::collections::HashMap<String, String>;

/// Parses the JSON text of a header. Returns the strings of `__metadata__`, and the tensors in the order of the file. The
/// ranges follow one another without a gap, and fit type and shape.
#[pyfunction]
pub(crate) fn safetensors_header(text: &Bound<'_, PyBytes>) -> PyResult<(Option<Strings>, Vec<Tensor>)> {
    let metadata: Metadata =
        serde_json::from_slice(text.as_bytes()).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let (start, end) = info.data_offsets;
        tensors.push((name, format!("{:?}", info.dtype), info.shape.clone(), start, end));
    }
    let strings = metadata.metadata().as_ref();
    let strings = strings.map(|map| map.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
    Ok((strings, tensors))
}
