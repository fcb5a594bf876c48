//! `ctl manifest inspect`

use std::io::{IsTerminal, Write};

use strata_proto::store::v1 as pb;

use crate::args::ManifestInspect;
use crate::error::Result;
use crate::platform::Platform;
use crate::registries::{self, Registries};
use crate::render;

/// Prints a manifest or an index exactly as its registry has it.
pub async fn inspect(platform: &Platform, args: &ManifestInspect) -> Result<u8> {
    let reference = registries::reference(&args.image)?;
    let credentials = Registries::load()?.credentials(&reference).await?;
    let request = pb::ResolveManifestRequest { reference: reference.to_string(), credentials };
    let reply = platform.registry().await?.resolve_manifest(request).await?.into_inner();
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        // Whoever hashes it gets its digest.
        stdout.lock().write_all(&reply.document_json).map_err(render::unwritable)?;
        return Ok(0);
    }
    let text = String::from_utf8_lossy(&reply.document_json);
    let harmless: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    render::line(harmless)?;
    Ok(0)
}
