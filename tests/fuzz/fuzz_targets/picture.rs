//! Pictures, with a count of what decoding allocates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retinad::fuzzing::{PICTURE_LIMIT, picture};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes beside the picture and the decoder's plan: Huffman tables, readers, error texts.
const BESIDE: usize = 1 << 20;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is the system allocator's; this only adds lengths up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    picture(bytes);
    let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    // The frame's bytes are copied once.
    let allowed = PICTURE_LIMIT + bytes.len() + BESIDE;
    assert!(peak <= allowed, "{peak} bytes allocated, {allowed} allowed");
});
