//! What the list of a public API is tested with. `sample.json` is what rustdoc 1.95 writes about it, without what no list needs:
//! blanket implementations, items of other crates that are not named, documentation and positions.

mod private {
    #[derive(Clone, Debug)]
    pub struct Moved {
        pub bytes: usize,
        secret: *const u8,
    }
    impl Moved {
        pub const fn new(bytes: usize) -> Self {
            Self { bytes, secret: core::ptr::null() }
        }
        /// # Safety
        /// None: this never runs.
        pub unsafe fn read<T: Copy>(&self, at: usize) -> Option<T> {
            let _ = (at, self.secret);
            None
        }
        #[doc(hidden)]
        pub fn concealed(&self) {}
    }
}
pub use private::Moved;

pub mod inner {
    pub use crate::private::Moved;

    #[non_exhaustive]
    pub enum Cause {
        Unmapped,
        Other { code: i32 },
    }
    pub trait Load {
        const WIDTH: usize;
        fn load(&self) -> u8;
    }
    impl Load for u8 {
        const WIDTH: usize = 1;
        fn load(&self) -> u8 {
            *self
        }
    }
}

#[doc(hidden)]
pub mod concealed {
    pub fn concealed() {}
}
