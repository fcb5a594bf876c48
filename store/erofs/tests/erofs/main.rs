//! Images against directories: what the kernel shows of one is what unpacking to the other made.
//! Needs root and Linux 6.12, as the store does where it is set to use images.

mod hostile;
mod index;
mod judges;
mod laws;
mod same;
mod seen;
#[allow(dead_code, reason = "shared with the tests of strata-archive, which use all of it")]
#[path = "../../../archive/tests/archive/tar.rs"]
mod tar;
