//! The `barid` program; all of it is in the library.

use std::process::ExitCode;

// one allocator for server and index: it gives memory back under sled's many small pages
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    barid::app::run()
}
