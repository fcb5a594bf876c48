//! What the archive crate promises, shown on real directories. Runs as root, since owners and devices are part of it.
//! `tar.rs` makes archives, byte by byte; the other files are one subject each.

mod breakouts;
mod compressed;
mod damage;
mod gunzip;
mod judges;
mod listed;
mod malformed;
mod metadata;
mod properties;
mod races;
mod recipes;
mod tar;
mod whiteouts;
