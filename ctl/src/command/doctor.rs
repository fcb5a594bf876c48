//! `ctl doctor`: what is open to whom, and what is in the way, each with what to do about it. `doctor/` looks at this host, for
//! what its services need before they can say anything; the runtime tells of containers and networks.

mod certificates;
mod cgroups;
mod disk;
mod kernel;
mod ports;
mod rootless;
mod units;

use std::path::Path;

use jiff::Timestamp;
use strata_proto::runtime::v1 as pb;
use strata_rpc::paths;

use crate::args::Doctor;
use crate::contexts::Contexts;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render;

/// Prints what is open to whom and what is in the way, each with what to do about it. 1: something does not work.
pub async fn run(platform: &Platform, args: &Doctor) -> Result<u8> {
    if args.format.as_deref().is_some_and(|format| format != "json") {
        return Err(Error::usage("--format takes json"));
    }
    let findings = findings(platform).await?;
    let is_problem = |finding: &pb::Finding| finding.kind() == pb::FindingKind::Problem;
    let code = u8::from(findings.iter().any(is_problem));
    if args.format.is_some() {
        for finding in &findings {
            let (kind, what, fix) = (word(finding), &finding.what, &finding.fix);
            render::line(serde_json::json!({ "Kind": kind, "What": what, "Fix": fix }))?;
        }
        return Ok(code);
    }
    for finding in &findings {
        render::line(format!("{:<8} {}", word(finding), finding.what))?;
        render::line(format!("{:<8} -> {}", "", finding.fix))?;
    }
    if findings.is_empty() {
        render::line("nothing is open, and nothing is in the way")?;
    }
    Ok(code)
}

/// What is open first, then what is in the way: of the host, since the rest may follow from it, then of the services.
async fn findings(platform: &Platform) -> Result<Vec<pb::Finding>> {
    let mut all = if platform.is_on_demand() { of_host() } else { Vec::new() };
    all.extend(certificates::findings(&Contexts::load()?, Timestamp::now()));
    match of_runtime(platform).await {
        Ok(found) => all.extend(found),
        Err(error) if platform.is_on_demand() => {
            let fix = match error.hints.is_empty() {
                true => format!("its log is {}", paths::root("runtime").join("service.log").display()),
                false => error.hints.join("; "),
            };
            all.push(problem(format!("the runtime does not answer: {}", error.message), fix));
        }
        Err(error) => return Err(error),
    }
    // Whoever comes in is told of first; the order stays otherwise.
    all.sort_by_key(|finding| finding.kind() != pb::FindingKind::Open);
    Ok(all)
}

fn of_host() -> Vec<pb::Finding> {
    let root = Path::new("/");
    let uid = rustix::process::geteuid();
    let mut found = kernel::findings(root, &rustix::system::uname().release().to_string_lossy());
    found.extend(cgroups::findings(root, uid.as_raw()));
    if !uid.is_root() {
        found.extend(rootless::findings(root, uid.as_raw()));
    }
    found.extend(disk::findings(&paths::data_dir(), Timestamp::now()));
    found
}

async fn of_runtime(platform: &Platform) -> Result<Vec<pb::Finding>> {
    let mut found = platform.runtime().await?.diagnose(pb::DiagnoseRequest {}).await?.into_inner().findings;
    if platform.is_on_demand() {
        let containers = super::ps::list(platform, true).await?;
        found.extend(ports::findings(Path::new("/"), &containers));
        found.extend(units::findings(Path::new("/"), rustix::process::geteuid().as_raw(), &containers));
    }
    Ok(found)
}

fn word(finding: &pb::Finding) -> &'static str {
    match finding.kind() {
        pb::FindingKind::Open => "open",
        pb::FindingKind::Notice => "notice",
        pb::FindingKind::Problem => "problem",
        pb::FindingKind::Unspecified => "unknown",
    }
}

/// Something that keeps something from working.
fn problem(what: impl Into<String>, fix: impl Into<String>) -> pb::Finding {
    pb::Finding { kind: pb::FindingKind::Problem.into(), what: what.into(), fix: fix.into() }
}

/// Something that may.
fn notice(what: impl Into<String>, fix: impl Into<String>) -> pb::Finding {
    pb::Finding { kind: pb::FindingKind::Notice.into(), what: what.into(), fix: fix.into() }
}

/// Somebody can come in here.
fn open(what: impl Into<String>, fix: impl Into<String>) -> pb::Finding {
    pb::Finding { kind: pb::FindingKind::Open.into(), what: what.into(), fix: fix.into() }
}

/// A small file of the kernel's or of /etc. One that is not there says nothing.
fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
