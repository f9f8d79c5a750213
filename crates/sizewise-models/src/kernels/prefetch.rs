//! How does memory that will be read soon get nearer to the processor?

#![allow(unsafe_code)]

/// Asks for what a slice refers to, without waiting for it. A hint: it changes nothing that can be seen but time.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let begin: *const i8 = slice.as_ptr().cast();
        for line in (0..size_of_val(slice)).step_by(64) {
            // SAFETY: the address lies within the slice, and a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(begin.add(line)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slice;
}
