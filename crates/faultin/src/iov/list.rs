//! Storage of the segments of a list.

/// One segment is kept in place, as cheap as the segment itself; several are the caller's (`B`, a slice), or were imported.
/// The storage never grows after the list was made.
#[derive(Clone, Debug)]
pub(super) enum List<S, B> {
    One([S; 1]),
    Borrowed(B),
    #[cfg(feature = "std")]
    Imported(Box<[S]>),
}

impl<S, B: AsRef<[S]>> AsRef<[S]> for List<S, B> {
    #[inline]
    fn as_ref(&self) -> &[S] {
        match self {
            List::One(one) => one,
            List::Borrowed(many) => many.as_ref(),
            #[cfg(feature = "std")]
            List::Imported(many) => many,
        }
    }
}

impl<S, B: AsMut<[S]>> AsMut<[S]> for List<S, B> {
    #[inline]
    fn as_mut(&mut self) -> &mut [S] {
        match self {
            List::One(one) => one,
            List::Borrowed(many) => many.as_mut(),
            #[cfg(feature = "std")]
            List::Imported(many) => many,
        }
    }
}
