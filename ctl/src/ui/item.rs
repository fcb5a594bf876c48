//! Things in lists, whatever they are: what is shown of them in columns, and by what they are sorted.

use std::collections::HashMap;

use jiff::Timestamp;
use strata_proto::{runtime::v1 as runtime, store::v1 as store};

use super::usage::Usages;
use crate::command::{health, port, ps};
use crate::explore::text::line;
use crate::render::{name, size, table, time};

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Containers.
    Containers,
    /// Images, a row for each name.
    Images,
    /// Volumes.
    Volumes,
    /// Networks.
    Networks,
}

/// All of them, in their order.
pub const TABS: [Tab; 4] = [Tab::Containers, Tab::Images, Tab::Volumes, Tab::Networks];

impl Tab {
    /// Its place in [`TABS`].
    pub fn place(self) -> usize {
        self as usize
    }

    /// What they are called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Images => "images",
            Self::Volumes => "volumes",
            Self::Networks => "networks",
        }
    }

    /// What stands above the list.
    pub fn title(self) -> &'static str {
        match self {
            Self::Containers => "Containers",
            Self::Images => "Images",
            Self::Volumes => "Volumes",
            Self::Networks => "Networks",
        }
    }

    /// The columns.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Containers => CONTAINERS,
            Self::Images => IMAGES,
            Self::Volumes => VOLUMES,
            Self::Networks => NETWORKS,
        }
    }
}

/// A column of a list.
#[derive(Debug)]
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// Columns of the screen that it takes. 0: a share of what the others leave.
    pub width: u16,
    /// Columns of the screen from which it is shown.
    pub from: u16,
    /// Figures stand at the right.
    pub is_right: bool,
}

const fn column(title: &'static str, width: u16, from: u16) -> Column {
    Column { title, width, from, is_right: false }
}

const fn figure(title: &'static str, width: u16, from: u16) -> Column {
    Column { title, width, from, is_right: true }
}

const CONTAINERS: &[Column] = &[
    column("NAME", 0, 0),
    column("IMAGE", 0, 80),
    column("STATE", 19, 0),
    figure("CPU %", 8, 40),
    figure("MEMORY", 9, 50),
    figure("NET I/O", 17, 110),
    column("PORTS", 0, 100),
    figure("UP", 4, 56),
];
const CPU: usize = 3;
const NET: usize = 5;

const IMAGES: &[Column] = &[
    column("REPOSITORY", 0, 0),
    column("TAG", 16, 0),
    column("IMAGE ID", 12, 70),
    figure("SIZE", 8, 0),
    figure("AGE", 4, 44),
    figure("USED BY", 7, 56),
];

const VOLUMES: &[Column] =
    &[column("NAME", 0, 0), column("DRIVER", 10, 50), figure("AGE", 4, 40), figure("USED BY", 7, 0)];

const NETWORKS: &[Column] = &[
    column("NAME", 0, 0),
    column("NETWORK ID", 12, 70),
    column("DRIVER", 8, 0),
    column("SUBNETS", 0, 50),
    figure("USED BY", 7, 0),
];

/// What is known of a thing.
#[derive(Debug)]
pub enum Facts {
    /// A container.
    Container(Box<runtime::Container>),
    /// An image under one of its names, or without any.
    Image(Box<store::Image>),
    /// A volume.
    Volume(Box<runtime::Volume>),
    /// A network.
    Network(Box<runtime::Network>),
}

/// A thing in a list.
#[derive(Debug)]
pub struct Item {
    /// What it is known by as long as it is there.
    pub key: String,
    /// What services are told: id, reference or name.
    pub target: String,
    /// What people call it.
    pub name: String,
    /// What a filter looks through, in small letters.
    pub text: String,
    /// The first cells, that do not change while it is what it is.
    fixed: Vec<String>,
    /// What is known of it.
    pub facts: Facts,
}

/// By what a column is sorted.
#[derive(Debug, PartialEq, PartialOrd)]
pub enum Key {
    /// A number; the most come first.
    Number(f64),
    /// A text.
    Text(String),
}

/// What there is beside the things themselves.
pub struct Around<'a> {
    /// What containers use.
    pub usages: &'a Usages,
    /// How many containers each image has, by the image's id.
    pub users: &'a HashMap<String, usize>,
    /// Now.
    pub now: Timestamp,
}

/// Containers as items.
pub fn containers(all: Vec<runtime::Container>) -> Vec<Item> {
    let item = |container: runtime::Container| {
        let image = match container.spec.as_ref().and_then(|spec| spec.root.as_ref()) {
            Some(runtime::container_spec::Root::Image(image)) => line(image),
            _ => "<none>".to_owned(),
        };
        let state = match (container.state(), health::word(&container)) {
            (runtime::ContainerState::Exited, _) => format!("exited ({})", ps::code(&container)),
            (runtime::ContainerState::Running, word) if word != "none" => format!("running ({word})"),
            _ => ps::state(&container).to_owned(),
        };
        let ports = port::column(&container);
        let text = format!("{} {} {image} {state} {ports}", container.name, container.id).to_lowercase();
        let fixed = vec![container.name.clone(), image, state, ports];
        Item {
            key: container.id.clone(),
            target: container.id.clone(),
            name: container.name.clone(),
            text,
            fixed,
            facts: Facts::Container(Box::new(container)),
        }
    };
    all.into_iter().map(item).collect()
}

/// Images as items, one for each name.
pub fn images(all: Vec<store::Image>) -> Vec<Item> {
    let item = |image: &store::Image, full: Option<&String>| {
        let (repository, tag) = match full {
            Some(full) => name::repository_and_tag(full),
            None => ("<none>".to_owned(), "<none>".to_owned()),
        };
        let id = table::short_id(&image.id).to_owned();
        let shown = full.map_or_else(|| id.clone(), |full| name::familiar(full));
        let text = format!("{shown} {}", image.id).to_lowercase();
        // What the view needs of an image is little, and there may be many.
        let facts = store::Image { config_json: Default::default(), layers: Vec::new(), ..image.clone() };
        Item {
            key: format!("{} {shown}", image.id),
            target: full.cloned().unwrap_or_else(|| image.id.clone()),
            name: shown,
            text,
            fixed: vec![repository, tag, id, size::human(image.size_bytes)],
            facts: Facts::Image(Box::new(facts)),
        }
    };
    let rows = |image: &store::Image| match image.names.is_empty() {
        true => vec![item(image, None)],
        false => image.names.iter().map(|full| item(image, Some(full))).collect(),
    };
    all.iter().flat_map(rows).collect()
}

/// Volumes as items.
pub fn volumes(all: Vec<runtime::Volume>) -> Vec<Item> {
    let item = |volume: runtime::Volume| Item {
        key: volume.name.clone(),
        target: volume.name.clone(),
        name: volume.name.clone(),
        text: format!("{} {}", volume.name, volume.driver).to_lowercase(),
        fixed: vec![volume.name.clone(), volume.driver.clone()],
        facts: Facts::Volume(Box::new(volume)),
    };
    all.into_iter().map(item).collect()
}

/// Networks as items.
pub fn networks(all: Vec<runtime::Network>) -> Vec<Item> {
    let item = |network: runtime::Network| {
        let spec = network.spec.clone().unwrap_or_default();
        let subnets: Vec<&str> = spec.pools.iter().map(|pool| pool.subnet.as_str()).collect();
        let (driver, subnets) = (crate::command::network::driver(&spec), subnets.join(" "));
        let id = table::short_id(&network.id).to_owned();
        Item {
            key: network.id.clone(),
            target: network.id.clone(),
            text: format!("{} {} {driver} {subnets}", spec.name, network.id).to_lowercase(),
            fixed: vec![spec.name.clone(), id, driver.to_owned(), subnets],
            name: spec.name,
            facts: Facts::Network(Box::new(network)),
        }
    };
    all.into_iter().map(item).collect()
}

impl Item {
    /// The container, where it is one.
    pub fn container(&self) -> Option<&runtime::Container> {
        match &self.facts {
            Facts::Container(container) => Some(container),
            _ => None,
        }
    }

    /// What stands in a column.
    pub fn cell(&self, column: usize, around: &Around<'_>) -> String {
        let fixed = |place: usize| self.fixed.get(place).cloned().unwrap_or_default();
        match (&self.facts, column) {
            (Facts::Container(container), CPU..) => container_cell(container, column, fixed(3), around),
            (Facts::Image(image), 4) => age(image.created_at.as_ref(), around.now),
            (Facts::Image(image), 5) => number(around.users.get(&image.id).copied().unwrap_or(0)),
            (Facts::Volume(volume), 2) => age(volume.created_at.as_ref(), around.now),
            (Facts::Volume(volume), 3) => number(volume.container_ids.len()),
            (Facts::Network(network), 4) => number(network.members.len()),
            _ => fixed(column),
        }
    }

    /// By what it stands where it stands, when a column is sorted.
    pub fn sort_key(&self, column: usize, around: &Around<'_>) -> Key {
        let since = |at: Option<&prost_types::Timestamp>| Key::Number(at.map_or(0.0, |at| -(at.seconds as f64)));
        let count = |count: usize| Key::Number(-(count as f64));
        match (&self.facts, column) {
            (Facts::Container(container), CPU..=NET) => {
                let Some(usage) = around.usages.of(&container.id) else { return Key::Number(1.0) };
                let net = usage.now.received_bytes.unwrap_or(0) + usage.now.sent_bytes.unwrap_or(0);
                Key::Number(match column {
                    CPU => -usage.last().processors.unwrap_or(0.0),
                    NET => -(net as f64),
                    _ => -(usage.last().memory.unwrap_or(0) as f64),
                })
            }
            (Facts::Container(container), 7) => match ps::is_up(container) {
                true => since(container.started_at.as_ref()),
                false => Key::Number(1.0),
            },
            (Facts::Image(image), 3) => Key::Number(-(image.size_bytes as f64)),
            (Facts::Image(image), 4) => since(image.created_at.as_ref()),
            (Facts::Image(image), 5) => count(around.users.get(&image.id).copied().unwrap_or(0)),
            (Facts::Volume(volume), 2) => since(volume.created_at.as_ref()),
            (Facts::Volume(volume), 3) => count(volume.container_ids.len()),
            (Facts::Network(network), 4) => count(network.members.len()),
            _ => Key::Text(self.cell(column, around).to_lowercase()),
        }
    }
}

fn container_cell(container: &runtime::Container, column: usize, ports: String, around: &Around<'_>) -> String {
    let usage = around.usages.of(&container.id);
    let dashes = || if ps::is_up(container) { "--".to_owned() } else { String::new() };
    match column {
        CPU => match usage.and_then(|usage| usage.last().processors) {
            Some(share) => format!("{:.2}%", share * 100.0),
            None => dashes(),
        },
        4 => usage.and_then(|usage| usage.last().memory).map_or_else(dashes, size::binary),
        NET => match usage.map(|usage| (usage.now.received_bytes, usage.now.sent_bytes)) {
            Some((Some(received), Some(sent))) => format!("{} / {}", size::human(received), size::human(sent)),
            _ => dashes(),
        },
        6 => ports,
        _ if ps::is_up(container) => age(container.started_at.as_ref(), around.now),
        _ => String::new(),
    }
}

/// Where there are none, nothing.
fn number(count: usize) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

/// Time since then in few letters: "59s", "12m", "3h", "200d".
fn age(at: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    let Some(at) = at.and_then(time::timestamp) else { return String::new() };
    match (now.as_second() - at.as_second()).max(0) {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_few_letters() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (172_800, "2d"), (-5, "0s")]
        {
            let at = prost_types::Timestamp { seconds: 1_000_000_000 - seconds, nanos: 0 };
            assert_eq!(age(Some(&at), now), expected, "{seconds}");
        }
    }

    #[test]
    fn an_image_has_a_row_for_each_name_and_one_without_any() {
        let image = |names: &[&str]| store::Image {
            id: format!("sha256:{}", "ab".repeat(32)),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };

        let items = images(vec![image(&["docker.io/library/app:1", "docker.io/library/app:2"]), image(&[])]);

        let shown: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(shown, ["app:1", "app:2", "abababababab"]);
        assert_eq!(items[2].target, format!("sha256:{}", "ab".repeat(32)));
    }

    #[test]
    fn every_tab_shows_something_on_a_narrow_screen() {
        for tab in TABS {
            let width = |column: &Column| if column.width == 0 { 12 } else { column.width };
            let shown: u16 =
                tab.columns().iter().filter(|column| column.from <= 60).map(|column| width(column) + 1).sum();
            assert!(shown <= 60, "{tab:?}: {shown}");
        }
    }
}
