//! Programs to start from: `cargo run --example` lists them. The examples in the README and in the pages of `docs` are tests of this
//! package, which is not published: a published package has no files outside its folder.

macro_rules! pages {
    ($($name:ident $path:literal)*) => {$(
        #[cfg(doctest)]
        #[doc = include_str!($path)]
        struct $name;
    )*};
}

pages! {
    CacheAndPager "../docs/cache-and-pager.md"
    DiskFull "../docs/disk-full.md"
    FilesOthersTruncate "../docs/files-others-truncate.md"
    Guard "../docs/guard.md"
    GuestMemory "../docs/guest-memory.md"
    Readme "../README.md"
    OtherSignalHandlers "../docs/other-signal-handlers.md"
    SharedMemory "../docs/shared-memory.md"
    Stores "../docs/stores.md"
}
