//! Layers as EROFS images, from outside: a store that is set to them is the same store to everybody. The contract suite
//! and the tests of commands run a second time, those that have to do with layers.

mod images;
mod suites;
