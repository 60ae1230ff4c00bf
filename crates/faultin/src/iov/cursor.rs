//! Operations common to both directions: moving the position, and queries about what is left.

macro_rules! cursor {
    ($access:expr) => {
        /// Returns the number of bytes left.
        #[doc(alias = "iov_iter_count")]
        #[inline]
        pub fn count(&self) -> usize {
            self.state.count()
        }

        /// Returns the number of bytes before the position: what moved since the list was made, minus what was reverted.
        #[inline]
        pub fn moved(&self) -> usize {
            self.state.moved()
        }

        /// Returns whether no byte is left.
        #[inline]
        pub fn is_empty(&self) -> bool {
            self.count() == 0
        }

        /// Moves the position forward by `n` bytes, at most by the number of bytes left.
        #[doc(alias = "iov_iter_advance")]
        #[inline]
        pub fn advance(&mut self, n: usize) {
            self.state.advance(self.list.as_ref(), n);
        }

        /// Moves the position back by `n` bytes; they are left again.
        ///
        /// Differs from the kernel's function, which does not check for the start (`BUG`, or a walk through other memory),
        /// and ignores more than `MAX_RW_COUNT`.
        ///
        /// # Errors
        /// [`IovRangeError`] if fewer than `n` bytes are before the position: nothing is changed.
        #[doc(alias = "iov_iter_revert")]
        pub fn revert(&mut self, n: usize) -> Result<(), IovRangeError> {
            self.state.revert(self.list.as_ref(), n)
        }

        /// Caps the number of bytes left at `limit`. Positions keep their meaning: bytes past the cap are available again
        /// only after [`reexpand`](Self::reexpand).
        #[doc(alias = "iov_iter_truncate")]
        pub fn truncate(&mut self, limit: usize) {
            self.state.truncate(limit);
        }

        /// Sets the number of bytes left to `count`: the number before [`truncate`](Self::truncate), minus what moved
        /// since.
        ///
        /// # Errors
        /// [`IovRangeError`] if the segments have fewer bytes from here: nothing is changed. (The kernel's function does not
        /// check.)
        #[doc(alias = "iov_iter_reexpand")]
        pub fn reexpand(&mut self, count: usize) -> Result<(), IovRangeError> {
            self.state.reexpand(count)
        }

        /// Returns the position of the list.
        #[doc(alias = "iov_iter_save_state")]
        pub fn save(&self) -> IovState {
            self.state
        }

        /// Moves to a saved position, before or after the current one.
        ///
        /// # Errors
        /// [`IovRangeError`] if `state` is no state of such a list: nothing is changed.
        #[doc(alias = "iov_iter_restore")]
        pub fn restore(&mut self, state: IovState) -> Result<(), IovRangeError> {
            if !state.belongs_to(self.list.as_ref(), &self.state) {
                return Err(IovRangeError);
            }
            self.state = state;
            Ok(())
        }

        /// Returns the number of bytes left in the current segment: 0 only if none are left at all.
        ///
        /// Differs from the kernel's function, which returns 0 on a zero-length segment although bytes follow.
        #[doc(alias = "iov_iter_single_seg_count")]
        pub fn single_seg_count(&self) -> usize {
            self.state.pieces(self.list.as_ref(), usize::MAX).next().map_or(0, |piece| piece.len)
        }

        /// Returns [`Short`] with nothing done if fewer than `len` bytes are left.
        #[inline]
        pub(super) fn need(&self, len: usize) -> Result<(), Short> {
            if len > self.count() {
                return Err(Short { done: 0, fault: Fault::rejected_nowhere($access, Cause::OutOfRange) });
            }
            Ok(())
        }

        /// Makes the result of `transfer` all or nothing: moves back if it was short.
        #[inline]
        fn all_or_revert(&mut self, result: Result<usize, Short>) -> Result<(), Short> {
            result.map(drop).inspect_err(|short| {
                let reverted = self.revert(short.done);
                debug_assert_eq!(reverted, Ok(()), "the bytes that moved lie before the position");
            })
        }
    };
}
