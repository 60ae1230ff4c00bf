//! Plain copies with non-temporal stores, in the widest registers of this CPU: the limit for a large copy, without any
//! recovery.

use core::arch::x86_64::*;

/// Copies `len` bytes.
///
/// # Safety
/// `src` is valid for reads and `dst` for writes of `len` bytes; both are page-aligned; `len` is a multiple of four
/// pages; they do not overlap.
pub type Copy = unsafe fn(*mut u8, *const u8, usize);

/// Returns two copies: front to back, and four pages at a time (which keeps four DRAM pages open).
pub fn copies() -> (Copy, Copy) {
    if is_x86_feature_detected!("avx512f") {
        (linear_avx512, paged_avx512)
    } else if is_x86_feature_detected!("avx") {
        (linear_avx, paged_avx)
    } else {
        (linear_sse2, paged_sse2)
    }
}

macro_rules! copies {
    ($feature:literal, $vector:ty, $load:ident, $stream:ident, $linear:ident, $paged:ident) => {
        #[target_feature(enable = $feature)]
        unsafe fn $linear(dst: *mut u8, src: *const u8, len: usize) {
            const N: usize = size_of::<$vector>();
            // SAFETY: within both ranges, and aligned, by contract.
            unsafe {
                for offset in (0..len).step_by(4 * N) {
                    _mm_prefetch::<_MM_HINT_T0>(src.wrapping_add(offset + 1024).cast());
                    _mm_prefetch::<_MM_HINT_T0>(src.wrapping_add(offset + 1024 + 2 * N).cast());
                    let values: [$vector; 4] = core::array::from_fn(|i| $load(src.add(offset + i * N).cast()));
                    for (i, value) in values.into_iter().enumerate() {
                        $stream(dst.add(offset + i * N).cast(), value);
                    }
                }
                _mm_sfence();
            }
        }

        #[target_feature(enable = $feature)]
        unsafe fn $paged(dst: *mut u8, src: *const u8, len: usize) {
            const N: usize = size_of::<$vector>();
            let page = faultin::page_size();
            // SAFETY: within both ranges, and aligned, by contract.
            unsafe {
                for block in (0..len).step_by(4 * page) {
                    for line in (0..page).step_by(2 * N) {
                        for p in 0..4 {
                            let offset = block + p * page + line;
                            _mm_prefetch::<_MM_HINT_T0>(src.wrapping_add(offset + 4 * 2 * N).cast());
                            let first = $load(src.add(offset).cast());
                            let second = $load(src.add(offset + N).cast());
                            $stream(dst.add(offset).cast(), first);
                            $stream(dst.add(offset + N).cast(), second);
                        }
                    }
                }
                _mm_sfence();
            }
        }
    };
}
copies!("avx512f", __m512i, _mm512_loadu_si512, _mm512_stream_si512, linear_avx512, paged_avx512);
copies!("avx", __m256i, _mm256_loadu_si256, _mm256_stream_si256, linear_avx, paged_avx);
copies!("sse2", __m128i, _mm_loadu_si128, _mm_stream_si128, linear_sse2, paged_sse2);
