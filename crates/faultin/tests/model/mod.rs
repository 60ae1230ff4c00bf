//! Random operations on a layout of good and bad pages, compared with a model that knows every byte's content and
//! permission, and with the kernel's own copies.
//!
//! Any bytes given to [`run`] decode to a sequence of operations, so that a fuzzer can generate them; the same bytes always
//! decode to the same sequence.

mod layout;
mod operations;
mod source;

use layout::Layout;
use operations::Operation;
pub use source::Source;

/// The maximum number of operations in a sequence.
const LONGEST: usize = 40;

/// Counts of the outcomes of operations: a test that never reaches one of them tests nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub complete: u64,
    pub short: u64,
    pub refused: u64,
}

/// Runs the sequence that `bytes` decode to. The handler must be installed, and no other thread may copy.
///
/// # Panics
/// If an operation's result differs from the model's. The message has the whole sequence.
pub fn run(bytes: &[u8]) -> Tally {
    let mut source = Source::new(bytes);
    let widths = faultin::testing::vectors();
    let width = widths[source.below(widths.len())];
    assert!(faultin::testing::select_vector(width), "the width {width} is there and cannot be selected");
    let mut layout = Layout::new(&mut source);
    let mut story = vec![format!("{width}; {layout:?}")];
    let mut tally = Tally::default();
    for _ in 0..LONGEST {
        if source.is_empty() {
            break;
        }
        let operation = Operation::from_source(&mut source, &layout);
        story.push(format!("{operation:x?}"));
        match operation.check(&mut layout) {
            Ok(operations::End::Complete | operations::End::Found) => tally.complete += 1,
            Ok(operations::End::Short) => tally.short += 1,
            Ok(operations::End::Refused) => tally.refused += 1,
            Err(what) => panic!("{what}\nafter:\n{}", story.join("\n")),
        }
    }
    tally
}
