//! The `barid` program; all of it is in the library.

use std::process::ExitCode;

// one allocator for server and index: it gives memory back under sled's many small pages
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Two arenas do for a program that waits more than it computes; memory that a burst needed goes back
/// within half a second. Measured with a million queued messages: a quarter less at the peak.
#[allow(unsafe_code, reason = "the name under which the allocator looks for its settings")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: &[u8] = b"narenas:1,dirty_decay_ms:500,muzzy_decay_ms:0,tcache_max:1024\0";

fn main() -> ExitCode {
    barid::app::run()
}
