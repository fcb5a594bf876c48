//! Measures ours against each peer on PATH.
fn main() {}
