//! Replaces `scalar` on systems other than Linux: the types that [`FileMap::load`](crate::FileMap::load) converts bytes
//! to.

mod sealed {
    /// The bytes of a value.
    pub trait Operations: Copy + Eq {
        /// Returns the value of these bytes, in this machine's byte order.
        fn from_bytes(bytes: &[u8]) -> Self;
    }
}

/// The integers of 8 to 128 bits. The trait is sealed.
pub trait Scalar: sealed::Operations {}

macro_rules! scalars {
    ($($ty:ident)*) => {$(
        impl Scalar for $ty {}
        impl sealed::Operations for $ty {
            fn from_bytes(bytes: &[u8]) -> Self {
                let mut value = [0; size_of::<Self>()];
                value.copy_from_slice(bytes);
                Self::from_ne_bytes(value)
            }
        }
    )*};
}
scalars! { u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize }
