//! The binary `strata-init`; its roles are in the library.

fn main() {
    eprintln!("strata-init: no role is there yet");
    std::process::exit(125);
}
