//! What happens inside: `strata-init` acts on a [`Plan`](plan::Plan) and keeps the process it made.
//! Single-threaded, no logging, no environment reads; every decision was made by who wrote the plan.

mod codec;
pub mod plan;
pub mod wire;

pub use codec::DecodeError;
