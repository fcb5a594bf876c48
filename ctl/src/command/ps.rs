//! `ctl ps`

mod filter;
mod sizes;

use jiff::Timestamp;
use serde_json::json;
use strata_proto::runtime::v1 as pb;

use filter::Filter;
pub use sizes::Sizes;

use crate::args::{Format, Ps};
use crate::error::Result;
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, table, time};
use crate::streams;

/// Lists containers, the newest first.
pub async fn run(platform: &Platform, args: &Ps) -> Result<u8> {
    let mut filter = Filter::read(&args.filter)?;
    let limit = args.last.or(args.latest.then_some(1)).and_then(|number| usize::try_from(number).ok());
    let limit = limit.filter(|number| *number > 0);
    let mut containers = list(platform, args.all || limit.is_some() || filter.means_all()).await?;
    filter.look_up(platform, &containers).await?;
    containers.retain(|container| filter.takes(container));
    containers.sort_by_key(|container| std::cmp::Reverse(container.created_at.as_ref().and_then(time::timestamp)));
    containers.truncate(limit.unwrap_or(usize::MAX));
    let sizes = match !args.quiet && (args.size || mentions_size(&args.format)) {
        true => Sizes::load(platform, &containers).await?,
        false => Sizes::default(),
    };
    let now = Timestamp::now();
    let mut rows = vec![];
    for container in &containers {
        let id = if args.no_trunc { container.id.as_str() } else { table::short_id(&container.id) };
        if args.quiet {
            render::line(id)?;
            continue;
        }
        let image = match container.spec.as_ref().and_then(|spec| spec.root.as_ref()) {
            Some(pb::container_spec::Root::Image(image)) => image.as_str(),
            _ => "<none>",
        };
        let command = command(container);
        let command = if args.no_trunc { command } else { table::cut(&command, 20) };
        let created = container.created_at.as_ref().and_then(time::timestamp);
        let cells = [
            id.to_owned(),
            image.to_owned(),
            format!("{command:?}"),
            time::ago(created, now),
            status(container, now),
            super::port::column(container),
            container.name.clone(),
            sizes.text(container),
        ];
        let [id, image, command, running_for, status, ports, names, size] = &cells;
        let fields = json!({
            "ID": id, "Image": image, "Command": command, "RunningFor": running_for, "Status": status,
            "State": state(container), "Ports": ports, "Names": names, "Mounts": mounts(container, args.no_trunc),
            "LocalVolumes": volumes(container).count().to_string(), "Labels": container.spec.clone().unwrap_or_default().labels,
            "Networks": networks(container), "Size": size,
            "CreatedAt": created.map(|at| at.to_string()),
        });
        let shown = if args.size { cells.len() } else { cells.len() - 1 };
        rows.push(Row { cells: cells[..shown].to_vec(), fields });
    }
    if !args.quiet {
        let head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", "SIZE"];
        list::print(&args.format, &head[..if args.size { head.len() } else { head.len() - 1 }], rows)?;
    }
    Ok(0)
}

/// A template that asks for a size gets it, as in Docker.
fn mentions_size(format: &Format) -> bool {
    match format {
        Format::Table | Format::Json => false,
        Format::Template(template) | Format::Columns(template) => template.fields().iter().any(|field| field == "Size"),
    }
}

/// Every container; with `all` those that do not run too.
pub async fn list(platform: &Platform, all: bool) -> Result<Vec<pb::Container>> {
    let mut client = platform.containers().await?.all;
    let (mut containers, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.list_containers(pb::ListContainersRequest { page_size: 1000, page_token, all }).await?;
        let page = page.into_inner();
        containers.extend(page.containers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(containers);
        }
    }
}

/// What it runs, as Docker shows it: words with spaces, but for the first, are in single quotes.
pub fn command(container: &pb::Container) -> String {
    let args = container.process.as_ref().map_or(&[][..], |process| &process.args);
    let word = |(at, word): (usize, &String)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    args.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// Names of volumes and paths of binds, with commas between; each cut, as Docker does.
fn mounts(container: &pb::Container, is_whole: bool) -> String {
    let of = |mount: &pb::MountSpec| match &mount.source {
        Some(pb::mount_spec::Source::Volume(volume)) => Some(volume.name.clone()),
        Some(pb::mount_spec::Source::Bind(bind)) => Some(bind.path.clone()),
        Some(pb::mount_spec::Source::Image(image)) => Some(image.image.clone()),
        _ => None,
    };
    let mounts = container.spec.iter().flat_map(|spec| &spec.mounts).filter_map(of);
    let shown = mounts.map(|name| if is_whole { name } else { table::cut(&name, 15) });
    shown.collect::<Vec<_>>().join(",")
}

/// Names of its networks, with commas between.
fn networks(container: &pb::Container) -> String {
    let spec = container.spec.clone().unwrap_or_default();
    let names: Vec<String> = match spec.network() {
        pb::NetworkMode::Networks if container.endpoints.is_empty() => {
            spec.networks.into_iter().map(|wish| wish.network).collect()
        }
        pb::NetworkMode::Networks => container.endpoints.iter().map(|one| one.network_name.clone()).collect(),
        _ => vec![super::network::mode(&spec)],
    };
    names.join(",")
}

/// Volumes among its mounts.
pub fn volumes(container: &pb::Container) -> impl Iterator<Item = &pb::MountSpec> {
    let is_volume = |mount: &&pb::MountSpec| matches!(mount.source, Some(pb::mount_spec::Source::Volume(_)));
    container.spec.iter().flat_map(|spec| &spec.mounts).filter(is_volume)
}

/// Docker's word for the state.
pub fn state(container: &pb::Container) -> &'static str {
    match container.state() {
        pb::ContainerState::Created => "created",
        pb::ContainerState::Running => "running",
        pb::ContainerState::Paused => "paused",
        pb::ContainerState::Exited => "exited",
        pb::ContainerState::Restarting => "restarting",
        pb::ContainerState::Removing => "removing",
        pb::ContainerState::Unspecified => "unknown",
    }
}

/// Whether it has a process, paused or not.
pub fn is_up(container: &pb::Container) -> bool {
    matches!(container.state(), pb::ContainerState::Running | pb::ContainerState::Paused)
}

fn up(container: &pb::Container, now: Timestamp) -> String {
    match container.started_at.as_ref().and_then(time::timestamp) {
        Some(since) => format!("Up {}", time::span(now.as_second() - since.as_second())),
        None => "Up".to_owned(),
    }
}

/// Docker's words for what it does, and since when.
pub fn status(container: &pb::Container, now: Timestamp) -> String {
    let at = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(time::timestamp);
    match container.state() {
        pb::ContainerState::Created => "Created".to_owned(),
        pb::ContainerState::Running => format!("{}{}", up(container, now), super::health::remark(container)),
        pb::ContainerState::Paused => format!("{} (Paused)", up(container, now)),
        pb::ContainerState::Exited => {
            format!("Exited ({}) {}", code(container), time::ago(at(&container.finished_at), now))
        }
        pb::ContainerState::Restarting => {
            format!("Restarting ({}) {}", code(container), time::ago(at(&container.finished_at), now))
        }
        pb::ContainerState::Removing => "Removal In Progress".to_owned(),
        pb::ContainerState::Unspecified => "Unknown".to_owned(),
    }
}

/// The exit code, or that nobody knows it.
pub fn code(container: &pb::Container) -> String {
    let code = container.exit.as_ref().and_then(|exit| streams::exit_code(exit).ok());
    code.map_or_else(|| "unknown".to_owned(), |code| code.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_spaces_are_quoted_but_for_the_first() {
        for (args, expected) in [
            (&["sh", "-c", "echo a; echo b"][..], "sh -c 'echo a; echo b'"),
            (&["/my tool", "x", ""], "/my tool x "),
            (&["echo", "it's one", "it's"], "echo 'it's one' it's"),
            (&["sleep"], "sleep"),
            (&[], ""),
        ] {
            let args = args.iter().map(|&arg| arg.to_owned()).collect();
            let process = Some(pb::ResolvedProcess { args, ..Default::default() });
            assert_eq!(command(&pb::Container { process, ..Default::default() }), expected);
        }
    }
}
