//! What both directions share, word for word: moving the position, and questions about what is left.

macro_rules! cursor {
    ($access:expr) => {
        /// Bytes left.
        #[doc(alias = "iov_iter_count")]
        #[inline]
        pub fn count(&self) -> usize {
            self.state.count()
        }

        /// Bytes before the position: what moved since the list was made, less what was reverted.
        #[inline]
        pub fn moved(&self) -> usize {
            self.state.moved()
        }

        /// Whether no byte is left.
        #[inline]
        pub fn is_empty(&self) -> bool {
            self.count() == 0
        }

        /// Goes forward by `n` bytes, at most by what is left.
        #[doc(alias = "iov_iter_advance")]
        #[inline]
        pub fn advance(&mut self, n: usize) {
            self.state.advance(self.list.as_ref(), n);
        }

        /// Goes back by `n` bytes; they are left again.
        ///
        /// Differs from the kernel's, which does not look where the start is (`BUG`, or a walk through other memory),
        /// and ignores more than `MAX_RW_COUNT`.
        ///
        /// # Errors
        /// [`OutsideIov`] if fewer bytes lie before: nothing is changed.
        #[doc(alias = "iov_iter_revert")]
        pub fn revert(&mut self, n: usize) -> Result<(), OutsideIov> {
            self.state.revert(self.list.as_ref(), n)
        }

        /// Caps the bytes left at `limit`. Positions stay what they were, so what is behind the cap comes back with
        /// [`reexpand`](Self::reexpand) only.
        #[doc(alias = "iov_iter_truncate")]
        pub fn truncate(&mut self, limit: usize) {
            self.state.truncate(limit);
        }

        /// Sets the bytes left to `count`: what they were before [`truncate`](Self::truncate), less what moved since.
        ///
        /// # Errors
        /// [`OutsideIov`] if the segments have fewer bytes from here: nothing is changed. (The kernel believes it.)
        #[doc(alias = "iov_iter_reexpand")]
        pub fn reexpand(&mut self, count: usize) -> Result<(), OutsideIov> {
            self.state.reexpand(count)
        }

        /// Where the list stands.
        #[doc(alias = "iov_iter_save_state")]
        pub fn save(&self) -> IovState {
            self.state
        }

        /// Goes to where the list stood, before or after.
        ///
        /// # Errors
        /// [`OutsideIov`] if this is no state of such a list: nothing is changed.
        #[doc(alias = "iov_iter_restore")]
        pub fn restore(&mut self, state: IovState) -> Result<(), OutsideIov> {
            if !state.belongs_to(self.list.as_ref(), &self.state) {
                return Err(OutsideIov);
            }
            self.state = state;
            Ok(())
        }

        /// Bytes left in the current segment: 0 only if none are left at all.
        ///
        /// Differs from the kernel's, which answers 0 on a zero-length segment although bytes follow.
        #[doc(alias = "iov_iter_single_seg_count")]
        pub fn single_seg_count(&self) -> usize {
            self.state.pieces(self.list.as_ref(), usize::MAX).next().map_or(0, |piece| piece.len)
        }

        /// [`Short`] with nothing done, if fewer than `len` bytes are left.
        #[inline]
        pub(super) fn need(&self, len: usize) -> Result<(), Short> {
            if len > self.count() {
                return Err(Short { done: 0, fault: Fault::refused_nowhere($access, Cause::OutOfRange) });
            }
            Ok(())
        }

        /// What `transfer` returned, all or nothing: goes back if it was short.
        #[inline]
        fn all_or_revert(&mut self, result: Result<usize, Short>) -> Result<(), Short> {
            result.map(drop).inspect_err(|short| {
                let reverted = self.revert(short.done);
                debug_assert_eq!(reverted, Ok(()), "the bytes that moved lie before the position");
            })
        }
    };
}
