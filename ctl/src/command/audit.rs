//! `ctl system audit`

use strata_proto::access::v1::VerifyAuditRequest;

use crate::args::AuditVerify;
use crate::error::{Error, Result};
use crate::platform::{Platform, SERVICES};
use crate::render;

/// Has each service check its audit log; fails when one is not what was written.
pub async fn verify(platform: &Platform, args: &AuditVerify) -> Result<u8> {
    let mut broken = Vec::new();
    for service in SERVICES {
        let known = args.head.iter().find(|(name, _)| name == service).map(|(_, head)| head.clone());
        let request = VerifyAuditRequest { known_head: known.unwrap_or_default() };
        let found = platform.audit(service).await?.verify_audit(request).await?.into_inner();
        if let Some(at) = found.broken {
            let line = if at.line == 0 { String::new() } else { format!(", line {}", at.line) };
            render::line(format!("{service}: broken at {}/{}{line}: {}", found.path, at.file, at.reason))?;
            broken.push(service);
        } else if found.head.is_empty() {
            render::line(format!("{service}: nothing was recorded yet"))?;
        } else {
            render::line(format!("{service}: {} records, head {}, in {}", found.records, found.head, found.path))?;
        }
    }
    if broken.is_empty() {
        return Ok(0);
    }
    Err(Error::new(format!("the audit log of {} was changed", broken.join(" and ")))
        .hint("what stands before that line is as it was written; a copy of the file elsewhere tells the rest"))
}
