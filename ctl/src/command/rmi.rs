//! `ctl rmi`

use strata_proto::store::v1 as pb;

use crate::args::Rmi;
use crate::error::{Error, Result};
use crate::input;
use crate::platform::Platform;
use crate::render::{self, name};
use crate::suggest;

/// Removes names, and images that have none left.
pub async fn run(platform: &Platform, args: &Rmi) -> Result<u8> {
    let platforms = args.platform.iter().map(|text| input::platform(text)).collect::<Result<Vec<_>>>()?;
    let mut client = platform.images().await?;
    let mut code = 0;
    for reference in &args.images {
        let (reference, platforms) = (reference.clone(), platforms.clone());
        let request = pb::DeleteImageRequest { reference, force: args.force, platforms };
        match client.delete_image(request).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                for untagged in &reply.untagged {
                    render::line(format!("Untagged: {}", name::familiar(untagged)))?;
                }
                for deleted in &reply.deleted {
                    render::line(format!("Deleted: {deleted}"))?;
                }
            }
            Err(status) => {
                let mut error = Error::from(status);
                // What uses the image of a platform keeps it, with force as well: what helps is said.
                if !args.platform.is_empty() && error.reason == "FAULT_IMAGE_IN_USE" {
                    error.hints.clear();
                }
                suggest::complete(error).await.print();
                code = 1;
            }
        }
    }
    Ok(code)
}
