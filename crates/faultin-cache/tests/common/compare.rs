//! Comparison of file contents with a readable report of the difference.

/// Where and how two files differ, in a form that is readable in a failure message.
pub fn first_difference(is: &[u8], ought: &[u8]) -> Option<String> {
    let at = (0..is.len().max(ought.len())).find(|&at| is.get(at) != ought.get(at))?;
    let more = |bytes: &[u8]| format!("{:02x?}", &bytes[at.min(bytes.len())..bytes.len().min(at + 16)]);
    let lens = format!("{} and {} bytes", is.len(), ought.len());
    Some(format!("{lens}; at {at} there is {}, where {} ought to be", more(is), more(ought)))
}

/// Asserts that both are the same.
#[track_caller]
pub fn assert_same(is: &[u8], ought: &[u8], what: &str) {
    if let Some(difference) = first_difference(is, ought) {
        panic!("{what}: {difference}");
    }
}
