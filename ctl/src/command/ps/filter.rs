//! Which containers `ctl ps` shows: Docker's filters. Those of one kind widen each other, labels narrow.

use std::collections::HashMap;

use jiff::Timestamp;
use regex::Regex;
use strata_proto::runtime::v1 as pb;
use strata_types::Port;

use super::super::{health, images, network, port};
use crate::error::Result;
use crate::filter::{Filters, has_label, wrong};
use crate::platform::Platform;
use crate::render::time;
use crate::streams;

/// The keys that are known.
const KEYS: [&str; 13] = [
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish", "since", "status",
    "volume",
];

/// Docker's states.
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// Docker's words for how it is with a container.
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// What a container must be.
#[derive(Debug, Default)]
pub struct Filter {
    filters: Filters,
    ids: Vec<Regex>,
    names: Vec<Regex>,
    exited: Vec<u8>,
    exposed: Vec<Port>,
    published: Vec<Port>,
    /// It was made before this.
    before: Option<Timestamp>,
    /// It was made after this.
    since: Option<Timestamp>,
    /// Ids of images, of which its own must be one.
    images: Vec<String>,
    /// Names of networks by id.
    networks: HashMap<String, String>,
}

impl Filter {
    /// Reads what the flags say.
    pub fn read(flags: &[String]) -> Result<Self> {
        let filters = Filters::read(flags, &KEYS)?;
        let mut filter = Self::default();
        for text in filters.of("id") {
            filter.ids.push(pattern("id", text)?);
        }
        for text in filters.of("name") {
            filter.names.push(pattern("name", text)?);
        }
        for text in filters.of("exited") {
            let code =
                text.parse().map_err(|_| wrong(&format!("exited={text}"), "an exit code, 0 to 255, is expected"))?;
            filter.exited.push(code);
        }
        for (key, ports) in [("expose", &mut filter.exposed), ("publish", &mut filter.published)] {
            for text in filters.of(key) {
                let range = Port::parse_range(text);
                ports.extend(range.map_err(|invalid| wrong(&format!("{key}={text}"), &invalid.to_string()))?);
            }
        }
        if let Some(state) = filters.of("status").find(|state| !STATES.contains(state)) {
            return Err(wrong(&format!("status={state}"), &format!("{} are known", STATES.join(", "))));
        }
        if let Some(word) = filters.of("health").find(|word| !HEALTHS.contains(word)) {
            return Err(wrong(&format!("health={word}"), &format!("{} are known", HEALTHS.join(", "))));
        }
        Ok(Self { filters, ..filter })
    }

    /// Whether containers are meant that do not run, without being asked for.
    pub fn means_all(&self) -> bool {
        self.filters.has("status")
    }

    /// Looks up what the filters name: containers, networks, and images among those that the containers have.
    pub async fn look_up(&mut self, platform: &Platform, containers: &[pb::Container]) -> Result<()> {
        self.before = made(platform, self.filters.of("before")).await?.into_iter().min();
        self.since = made(platform, self.filters.of("since")).await?.into_iter().max();
        if self.filters.has("network") {
            let of = |network: pb::Network| (network.id, network.spec.unwrap_or_default().name);
            self.networks = network::list(platform).await?.into_iter().map(of).collect();
        }
        if self.filters.has("ancestor") {
            self.images = descendants(platform, &self.filters, containers).await?;
        }
        Ok(())
    }

    /// Says whether a container is meant.
    pub fn takes(&self, container: &pb::Container) -> bool {
        let spec = container.spec.clone().unwrap_or_default();
        let created = container.created_at.as_ref().and_then(time::timestamp);
        let is_any = |key, is: &dyn Fn(&str) -> bool| !self.filters.has(key) || self.filters.of(key).any(is);
        let has_port =
            |wanted: &[Port], ports: Vec<Port>| wanted.is_empty() || wanted.iter().any(|one| ports.contains(one));
        (self.ids.is_empty() || self.ids.iter().any(|id| id.is_match(&container.id)))
            && (self.names.is_empty() || self.names.iter().any(|name| is_name(name, &container.name)))
            && self.filters.of("label").all(|wanted| has_label(&spec.labels, wanted))
            && is_any("health", &|word| word == health::word(container))
            && is_any("status", &|state| state == super::state(container))
            && (self.exited.is_empty() || exit_code(container).is_some_and(|code| self.exited.contains(&code)))
            && (!self.filters.has("ancestor") || self.images.contains(&container.image_id))
            && is_any("network", &|wanted| self.is_in(container, &spec, wanted))
            && is_any("volume", &|wanted| spec.mounts.iter().any(|mount| is_mount(mount, wanted)))
            && has_port(&self.published, port::bound(container))
            && has_port(&self.exposed, port::exposed(&spec))
            && self.before.is_none_or(|limit| created.is_some_and(|created| created < limit))
            && self.since.is_none_or(|limit| created.is_some_and(|created| created > limit))
    }

    /// Is it in a network of this name, or whose id begins like this?
    fn is_in(&self, container: &pb::Container, spec: &pb::ContainerSpec, wanted: &str) -> bool {
        let mode = (spec.network() != pb::NetworkMode::Networks).then(|| network::mode(spec));
        let wishes = spec.networks.iter().map(|wish| &wish.network);
        let endpoints = container.endpoints.iter().map(|endpoint| &endpoint.network_name);
        wishes.chain(endpoints).chain(&mode).any(|own| {
            let is_it = |(id, name): (&String, &String)| {
                (own == name || id.starts_with(own)) && (name == wanted || id.starts_with(wanted))
            };
            own == wanted || self.networks.iter().any(is_it)
        })
    }
}

fn pattern(key: &str, text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|_| wrong(&format!("{key}={text}"), "it is no regular expression"))
}

/// Docker's names begin with a slash, which a pattern may have or not.
fn is_name(pattern: &Regex, name: &str) -> bool {
    pattern.is_match(name) || (pattern.as_str().contains('/') && pattern.is_match(&format!("/{name}")))
}

/// The exit code of one that has run and ended.
fn exit_code(container: &pb::Container) -> Option<u8> {
    if container.state() != pb::ContainerState::Exited {
        return None;
    }
    container.exit.as_ref().and_then(|exit| streams::exit_code(exit).ok())
}

/// Is it mounted there, or is this what is mounted?
fn is_mount(mount: &pb::MountSpec, wanted: &str) -> bool {
    let source = match &mount.source {
        Some(pb::mount_spec::Source::Volume(volume)) => volume.name.as_str(),
        Some(pb::mount_spec::Source::Bind(bind)) => bind.path.as_str(),
        Some(pb::mount_spec::Source::Image(image)) => image.image.as_str(),
        _ => "",
    };
    source == wanted || mount.target == wanted
}

/// When containers were made.
async fn made(platform: &Platform, names: impl Iterator<Item = &str>) -> Result<Vec<Timestamp>> {
    let mut times = Vec::new();
    for name in names {
        let request = pb::GetContainerRequest { container: name.to_owned() };
        let found = platform.containers().await?.all.get_container(request).await?.into_inner().container;
        times.extend(found.and_then(|found| found.created_at).as_ref().and_then(time::timestamp));
    }
    Ok(times)
}

/// The images of containers that are one of those named, or made of its layers and others on top.
async fn descendants(platform: &Platform, filters: &Filters, containers: &[pb::Container]) -> Result<Vec<String>> {
    let mut ancestors = Vec::new();
    for name in filters.of("ancestor") {
        ancestors.extend(layers(platform, name).await?);
    }
    let mut ids: Vec<&String> =
        containers.iter().map(|container| &container.image_id).filter(|id| !id.is_empty()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut found = Vec::new();
    for id in ids {
        let Some((_, own)) = layers(platform, id).await? else { continue };
        // An image without layers is only itself.
        let is_below =
            |(ancestor, below): &(String, Vec<String>)| ancestor == id || (!below.is_empty() && own.starts_with(below));
        if ancestors.iter().any(is_below) {
            found.push(id.clone());
        }
    }
    Ok(found)
}

/// Id and layers of an image. One that is not there has no containers.
async fn layers(platform: &Platform, name: &str) -> Result<Option<(String, Vec<String>)>> {
    match images::get(platform, name).await {
        Ok(image) => Ok(Some((image.id, image.layers.into_iter().map(|layer| layer.diff_id).collect()))),
        Err(error) if error.reason == "FAULT_IMAGE_NOT_FOUND" => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> pb::Container {
        let bind = pb::BindSource { path: "/srv".to_owned(), ..Default::default() };
        pb::Container {
            id: "abc123".into(),
            name: "web-1".into(),
            image_id: "sha256:1".into(),
            state: pb::ContainerState::Exited.into(),
            exit: Some(pb::ExitStatus { kind: Some(pb::exit_status::Kind::Code(3)), ..Default::default() }),
            spec: Some(pb::ContainerSpec {
                labels: [("env".to_owned(), "test".to_owned()), ("tier".to_owned(), "1".to_owned())].into(),
                network: pb::NetworkMode::Networks.into(),
                networks: vec![pb::NetworkAttachment { network: "back".into(), ..Default::default() }],
                mounts: vec![pb::MountSpec {
                    target: "/data".into(),
                    source: Some(pb::mount_spec::Source::Bind(bind)),
                    ..Default::default()
                }],
                port_bindings: vec![pb::PortBinding {
                    port: Some(pb::Port { number: 80, protocol: 1 }),
                    ..Default::default()
                }],
                exposed_ports: vec![pb::Port { number: 53, protocol: 2 }],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn read(flags: &[&str]) -> Result<Filter> {
        Filter::read(&flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_container_must_be_all_that_filters_say() {
        for (flags, expected) in [
            (&[][..], true),
            (&["id=abc"], true),
            (&["id=^bc"], false),
            (&["name=eb"], true),
            (&["name=^/web"], true),
            (&["name=^web$"], false),
            (&["name=db", "name=web-[0-9]"], true),
            (&["name=web", "id=x"], false),
            (&["label=env", "label=tier=1"], true),
            (&["label=env", "label=tier=2"], false),
            (&["status=exited", "status=running"], true),
            (&["status=running"], false),
            (&["health=none"], true),
            (&["health=healthy"], false),
            (&["exited=0", "exited=3"], true),
            (&["exited=0"], false),
            (&["network=front", "network=back"], true),
            (&["network=77"], true),
            (&["network=bac"], false),
            (&["volume=/data"], true),
            (&["volume=/srv"], true),
            (&["volume=/dat"], false),
            (&["publish=80"], true),
            (&["publish=70-90/tcp"], true),
            (&["publish=80/udp"], false),
            (&["publish=53/udp"], false),
            (&["expose=53/udp"], true),
            (&["expose=81"], false),
            (&["ancestor=guest"], false),
        ] {
            let networks = [("7700".to_owned(), "back".to_owned())].into();
            let filter = Filter { networks, ..read(flags).unwrap() };

            assert_eq!(filter.takes(&container()), expected, "{flags:?}");
        }
    }

    #[test]
    fn times_and_images_that_were_looked_up_count() {
        let at = |seconds| Timestamp::from_second(seconds).ok();
        let mut one = container();
        one.created_at = Some(prost_types::Timestamp { seconds: 100, nanos: 0 });
        for (before, since, expected) in [(101, 99, true), (100, 99, false), (101, 100, false)] {
            let filter = Filter { before: at(before), since: at(since), ..Filter::default() };
            assert_eq!(filter.takes(&one), expected, "{before} {since}");
        }
        let images = vec!["sha256:1".to_owned()];
        assert!(Filter { images, ..read(&["ancestor=guest"]).unwrap() }.takes(&one));
    }

    #[test]
    fn what_no_container_can_be_is_refused() {
        for (flag, why) in [
            ("colour=red", "ancestor, before, exited"),
            ("status=asleep", "created, running, paused"),
            ("health=ill", "starting, healthy"),
            ("exited=many", "an exit code"),
            ("exited=256", "an exit code"),
            ("publish=none", "port"),
            ("name=(", "no regular expression"),
            ("label=", "a value is expected"),
        ] {
            let error = read(&[flag]).unwrap_err();
            assert!(error.message.contains(flag) && error.message.contains(why), "{flag}: {}", error.message);
        }
    }
}
