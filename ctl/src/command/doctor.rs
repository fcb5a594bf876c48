//! `ctl doctor`

use strata_proto::runtime::v1 as pb;

use crate::args::Doctor;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render;

/// Prints what is open to whom and what is in the way, each with what to do about it. 1: something does not work.
pub async fn run(platform: &Platform, args: &Doctor) -> Result<u8> {
    let reply = platform.runtime().await?.diagnose(pb::DiagnoseRequest {}).await?.into_inner();
    let is_problem = |finding: &pb::Finding| finding.kind() == pb::FindingKind::Problem;
    let code = u8::from(reply.findings.iter().any(is_problem));
    if args.format.as_deref().is_some_and(|format| format != "json") {
        return Err(Error::usage("--format takes json"));
    }
    if args.format.is_some() {
        for finding in &reply.findings {
            let (kind, what, fix) = (word(finding), &finding.what, &finding.fix);
            render::line(serde_json::json!({ "Kind": kind, "What": what, "Fix": fix }))?;
        }
        return Ok(code);
    }
    for finding in &reply.findings {
        render::line(format!("{:<8} {}", word(finding), finding.what))?;
        render::line(format!("{:<8} -> {}", "", finding.fix))?;
    }
    if reply.findings.is_empty() {
        render::line("nothing is open, and nothing is in the way")?;
    }
    Ok(code)
}

fn word(finding: &pb::Finding) -> &'static str {
    match finding.kind() {
        pb::FindingKind::Open => "open",
        pb::FindingKind::Notice => "notice",
        pb::FindingKind::Problem => "problem",
        pb::FindingKind::Unspecified => "unknown",
    }
}
