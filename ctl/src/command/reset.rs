//! `ctl system reset`

use std::path::{Path, PathBuf};

use strata_proto::{runtime::v1 as runtime, store::v1 as store, types::v1::ServiceInfo};
use strata_rpc::paths;
use strata_rpc::spawn::OnDemand;

use super::{incomplete, prune, volume};
use crate::args::Reset;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render;

/// Those above first: they tell those below what they let go of.
const ORDER: [&str; 3] = ["builder", "runtime", "store"];

/// So many names of volumes are shown.
const NAMES: usize = 5;

/// Removes everything of this user's services on this host, after asking. A service that does not start, for its state is
/// damaged or of a later version, is no hindrance, unless containers run.
pub async fn run(platform: &Platform, args: &Reset) -> Result<u8> {
    if !platform.is_on_demand() {
        let error =
            Error::usage(format!("{:?} is not the services of this host, which alone can be reset", platform.name));
        return Err(error.hint("on the host itself: `ctl --context default system reset`"));
    }
    let found = Found::look(platform).await?;
    if !args.force && !prune::agrees(&found.question()).await? {
        return Ok(0);
    }
    if found.containers.is_ok() {
        match platform.runtime().await?.reset(runtime::ResetRequest {}).await {
            Ok(reply) => {
                let runtime::ResetResponse { containers, volumes, networks } = reply.into_inner();
                render::line(format!("Deleted: {containers} containers, {volumes} volumes, {networks} networks"))?;
            }
            // Without the store the runtime ends containers, and cannot give up what they were made of. That goes below.
            Err(status) if found.images.is_err() && !is_any_monitor_there(&monitors()) => {
                render::note(format!("the runtime has not removed all by itself: {}", status.message()));
            }
            Err(status) => return Err(status.into()),
        }
    }
    for service in ORDER {
        OnDemand::service(service)?.reset().await?;
    }
    render::line(format!("Nothing is left in {}", paths::data_dir().display()))?;
    Ok(0)
}

/// What there is, as far as the services tell.
struct Found {
    /// Of the runtime. The error: it does not start, and no container runs.
    containers: Result<ServiceInfo>,
    volumes: Vec<String>,
    /// Of the store.
    images: Result<ServiceInfo>,
}

impl Found {
    async fn look(platform: &Platform) -> Result<Self> {
        let (containers, images) = tokio::join!(runtime_info(platform), store_info(platform));
        let volumes = match &containers {
            Ok(_) => volume::all(platform, false).await?.into_iter().map(|volume| volume.name).collect(),
            Err(_) => Vec::new(),
        };
        if let Err(error) = &containers
            && is_any_monitor_there(&monitors())
        {
            let refusal =
                format!("containers run, and the runtime that could stop them does not start: {}", error.message);
            return Err(Error::new(refusal).hint("kill their processes, or restart the host, and call this again"));
        }
        Ok(Self { containers, volumes, images })
    }

    fn question(&self) -> String {
        let mut lines = Vec::new();
        match &self.containers {
            Ok(info) => {
                let running = fact(info, "Running").parse().unwrap_or(0) + fact(info, "Paused").parse().unwrap_or(0);
                lines.push(format!("all containers ({}, {running} of them running)", fact(info, "Containers")));
                lines.push(format!("all volumes and what is in them ({})", names(&self.volumes)));
            }
            Err(error) => {
                lines.push(format!("all containers and volumes (the runtime does not start: {})", error.message))
            }
        }
        match &self.images {
            Ok(info) => lines.push(format!("all images ({}) and the build cache", fact(info, "Images"))),
            Err(error) => {
                lines.push(format!("all images and the build cache (the store does not start: {})", error.message))
            }
        }
        lines.push(format!(
            "all networks, secrets and audit logs, and whatever else is in {}",
            paths::data_dir().display()
        ));
        let settings = paths::shared_config();
        let settings = settings.parent().unwrap_or(Path::new("/")).display();
        format!(
            "WARNING! This will remove:\n  - {}\nSettings in {settings} and contexts stay.\n\nAre you sure you want to continue? [y/N] ",
            lines.join("\n  - ")
        )
    }
}

async fn runtime_info(platform: &Platform) -> Result<ServiceInfo> {
    let reply = platform.runtime().await?.get_info(runtime::GetInfoRequest {}).await?;
    reply.into_inner().info.ok_or_else(|| incomplete("its facts"))
}

async fn store_info(platform: &Platform) -> Result<ServiceInfo> {
    let reply = platform.store().await?.get_info(store::GetInfoRequest {}).await?;
    reply.into_inner().info.ok_or_else(|| incomplete("its facts"))
}

fn fact<'a>(info: &'a ServiceInfo, label: &str) -> &'a str {
    info.facts.iter().find(|fact| fact.label == label).map_or("0", |fact| &fact.value)
}

/// "none", "a, b", "a, b, c, d, e and 3 more"
fn names(all: &[String]) -> String {
    let shown = all.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    match all.len() {
        0 => "none".to_owned(),
        count if count > NAMES => format!("{shown} and {} more", count - NAMES),
        _ => shown,
    }
}

/// Where monitors listen.
fn monitors() -> PathBuf {
    paths::run_dir().join("runtime/c")
}

/// Whether a monitor answers at one of the sockets of a directory: its container runs.
fn is_any_monitor_there(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| strata_rpc::socket::answers(&entry.path()))
}

#[cfg(test)]
mod tests {
    use strata_proto::types::v1::Fact;

    use super::*;

    fn info(facts: &[(&str, &str)]) -> ServiceInfo {
        let fact = |(label, value): &(&str, &str)| Fact { label: (*label).to_owned(), value: (*value).to_owned() };
        ServiceInfo { facts: facts.iter().map(fact).collect(), ..ServiceInfo::default() }
    }

    #[test]
    fn the_question_says_what_will_go_and_what_stays() {
        let found = Found {
            containers: Ok(info(&[("Containers", "3"), ("Running", "1"), ("Paused", "1")])),
            volumes: ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned).into(),
            images: Err(Error::new("it is of a later version")),
        };

        let text = found.question();

        for part in [
            "all containers (3, 2 of them running)",
            "all volumes and what is in them (a, b, c, d, e and 2 more)",
            "the store does not start: it is of a later version",
            "secrets",
            "contexts stay",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(names(&[]), "none");
    }

    #[test]
    fn a_monitor_is_there_while_it_listens() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_any_monitor_there(&dir.path().join("absent")));
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("c")).unwrap();
        assert!(is_any_monitor_there(dir.path()));
        drop(listener);
        assert!(!is_any_monitor_there(dir.path()), "a socket that was left says nothing");
    }
}
