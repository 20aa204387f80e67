//! Memory that the allocator keeps after much of it was needed for a moment.

/// Gives memory that nothing uses back to the system.
///
/// A model is decoded, checked and packed in several times the memory that it runs in, and the GNU allocator keeps what
/// was freed, for each thread that loaded one: 17 MB for a plan of the shipped model. Other allocators give it back by
/// themselves.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[allow(unsafe_code, reason = "a function of the C library, which has no safe name")]
        // SAFETY: malloc_trim may be called at any time and from any thread, and touches no memory that is in use.
        unsafe {
            libc::malloc_trim(0)
        };
    }
}
