//! The rules of the house as tests: who may depend on whom, where `unsafe` may be, what protos must say, how files are named.

mod dependencies;
mod protos;
mod rows;
mod sources;
