//! `ctl system verify`

use strata_proto::store::v1 as pb;

use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::{self, size};

/// Has the store read everything again; fails when something is damaged.
pub async fn run(platform: &Platform) -> Result<u8> {
    let mut events = platform.store().await?.verify(pb::VerifyRequest {}).await?.into_inner();
    while let Some(reply) = events.message().await? {
        match reply.event {
            Some(pb::verify_response::Event::Damage(damage)) => {
                let path = if damage.path.is_empty() { String::new() } else { format!(", {}", damage.path) };
                render::line(format!("damaged: {} {}{path}: {}", damage.kind, damage.object, damage.problem))?;
            }
            Some(pb::verify_response::Event::Completed(done)) => {
                let read = size::human(done.bytes_read);
                let counts =
                    format!("{} blobs, {} layers, {} images; {read} read", done.blobs, done.layers, done.images);
                if done.damaged == 0 {
                    render::line(format!("everything is whole: {counts}"))?;
                    return Ok(0);
                }
                render::line(counts)?;
                let error = Error::new(format!("{} damaged objects", done.damaged));
                return Err(
                    error.hint("remove the images that `ctl system verify` names, and build or import them again")
                );
            }
            None => {}
        }
    }
    Err(super::incomplete("an end of the check"))
}
