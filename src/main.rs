//! The `trueup` command; everything is in the library.

/// Records are many small values: an allocator made for those halves the time that a large pass takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    trueup::cli::main()
}
