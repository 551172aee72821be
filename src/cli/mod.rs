//! What people type and see: loading, arguments, rendering and exit codes. The library below knows no terminal.

pub mod load;
