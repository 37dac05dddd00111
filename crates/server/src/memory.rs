//! Gives memory back to the system after large payloads: the allocator keeps what it once had, and an idle server must
//! be small.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Large payloads often come one after the other; the last one of a burst gives back for all.
const QUIET: Duration = Duration::from_secs(1);
/// Idle threads of the pool end after ten seconds.
const THREADS_END: Duration = Duration::from_secs(12);

#[cfg(target_env = "gnu")]
const MAX_ARENAS: i32 = 2;

static PLANNED: AtomicBool = AtomicBool::new(false);

/// Few arenas: threads that each keep their own free memory are what makes a small server large.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets a number of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, MAX_ARENAS);
    }
}

/// Plans a trim, unless one is planned.
pub fn give_back_soon() {
    if PLANNED.swap(true, Ordering::AcqRel) {
        return;
    }
    tokio::spawn(async {
        tokio::time::sleep(QUIET).await;
        let _ = tokio::task::spawn_blocking(trim).await;
        // Threads that did the work keep theirs until they end.
        tokio::time::sleep(THREADS_END).await;
        PLANNED.store(false, Ordering::Release);
        let _ = tokio::task::spawn_blocking(trim).await;
    });
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
