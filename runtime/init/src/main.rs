//! The binary `strata-init`; its roles are in the library.

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    strata_init::run(&args)
}
