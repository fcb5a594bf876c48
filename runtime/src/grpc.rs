//! The runtime's services on the wire: translation only, the work is in `engine`.

use strata_rpc::{fault, to_status};
use tonic::Status;

use crate::error::Error;

mod attachments;
pub mod containers;
mod convert;
pub mod devices;
pub mod events;
pub mod files;
mod fixed;
mod grants;
mod health;
mod isolation;
mod life;
mod logs;
pub mod networks;
mod ports;
pub mod secrets;
mod stats;
pub mod streams;
pub mod system;
pub mod volumes;

/// Answers with a fault.
fn refuse(error: Error) -> Status {
    if let Error::Lost { what } = &error {
        tracing::error!(what, "a task of the runtime panicked");
    }
    tracing::debug!(error = fault::chain(&error), "refused");
    to_status(&error)
}
