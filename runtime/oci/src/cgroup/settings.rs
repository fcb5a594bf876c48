//! OCI resources as file contents: pure, one list in the order it is written. Every entry knows the field it comes
//! from, so that a refusal by the kernel names it. `memory`, `cpu` and `block_io` have the controllers of these names.

use std::fmt::Display;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxResources};

use super::{
    Error, Version,
    devices::{self, Rule},
};

mod block_io;
mod cpu;
mod memory;

/// The controllers this crate knows.
pub(super) const CONTROLLERS: [&str; 14] = [
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "io", "memory", "misc", "net_cls",
    "net_prio", "pids", "rdma",
];

/// One write to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: String,
    pub(super) file: String,
    pub(super) value: String,
    pub(super) field: String,
    pub(super) otherwise: Otherwise,
}

/// What happens when the kernel has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// The limit cannot be applied.
    Fail,
    /// Another setting does enough.
    Skip,
    /// The kernel was built without it, which is said in these words.
    Lacks(&'static str),
    /// This value goes to this file.
    Write { file: String, value: String },
}

/// What resources come to.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) list: Vec<Setting>,
    /// Rules for devices, in force as a program on v2; on v1 they are in the list.
    pub(super) filter: Option<Vec<Rule>>,
}

/// Whether a cgroup is new or in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Moment {
    /// Values that a new cgroup has anyway need not be written.
    #[default]
    Create,
    /// Every named field is written.
    Update,
}

/// What is not in the resources: the host, and values of a cgroup in use.
pub(super) struct Context<'a> {
    /// The interface of a controller; a hybrid host may have some on each.
    pub(super) version_of: &'a dyn Fn(&str) -> Version,
    pub(super) moment: Moment,
    pub(super) has_default_devices: bool,
    /// v2: the memory limit in force.
    pub(super) memory_limit: Option<i64>,
    /// v2: the quota in force.
    pub(super) quota: Option<String>,
}

/// Returns what must be written for `resources`.
pub(super) fn of(resources: &LinuxResources, context: &Context<'_>) -> Result<Settings, Error> {
    let mut builder = Builder { context, settings: Settings::default() };
    if let Some(memory) = resources.memory() {
        builder.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        builder.cpu(cpu)?;
    }
    if let Some(pids) = resources.pids() {
        // Every cgroup has a process: "0" and "1" mean the same, and systemd knows only the second.
        let value = if pids.limit() < 0 { "max".to_owned() } else { pids.limit().max(1).to_string() };
        builder.push("pids", "pids.max", value, "pids.limit");
    }
    if let Some(block_io) = resources.block_io() {
        builder.block_io(block_io)?;
    }
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        builder.hugepages(limit, &format!("hugepageLimits[{index}]"))?;
    }
    builder.devices(resources)?;
    if let Some(network) = resources.network() {
        builder.network(network)?;
    }
    builder.rdma(resources)?;
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    unified.into_iter().try_for_each(|(key, value)| builder.unified(key, value))?;
    // Grouped by controller; the sort is stable, so the order within one stays.
    builder.settings.list.sort_by(|one, other| one.controller.cmp(&other.controller));
    Ok(builder.settings)
}

/// The list being built.
struct Builder<'a> {
    context: &'a Context<'a>,
    settings: Settings,
}

impl Builder<'_> {
    fn push(&mut self, controller: &str, file: impl Into<String>, value: impl Display, field: &str) {
        self.push_or(controller, file, value, field, Otherwise::Fail);
    }

    fn push_or(
        &mut self,
        controller: &str,
        file: impl Into<String>,
        value: impl Display,
        field: &str,
        otherwise: Otherwise,
    ) {
        self.settings.list.push(Setting {
            controller: controller.to_owned(),
            file: file.into(),
            value: value.to_string(),
            field: format!("linux.resources.{field}"),
            otherwise,
        });
    }

    fn version(&self, controller: &str) -> Version {
        (self.context.version_of)(controller)
    }

    fn is_update(&self) -> bool {
        self.context.moment == Moment::Update
    }

    fn either<T>(&self, controller: &str, v1: T, v2: T) -> T {
        if self.version(controller) == Version::V1 { v1 } else { v2 }
    }

    fn v1_only(&self, controller: &str, field: &str, reason: &'static str) -> Result<(), Error> {
        if self.version(controller) == Version::V1 { Ok(()) } else { Err(unsupported(field, reason)) }
    }

    /// Reservations are what is limited where the kernel can (since 5.7), and use in any case.
    fn hugepages(&mut self, limit: &LinuxHugepageLimit, field: &str) -> Result<(), Error> {
        let size = limit.page_size();
        let numbers = ["KB", "MB", "GB"].iter().filter_map(|unit| size.strip_suffix(unit));
        let mut is_size = numbers.map(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_size.any(|is_size| is_size) {
            return Err(unsupported(&format!("{field}.pageSize"), "the page size is not of the form 2MB"));
        }
        let suffix = self.either("hugetlb", "limit_in_bytes", "max");
        let value =
            if limit.limit() < 0 { self.either("hugetlb", "-1", "max").to_owned() } else { limit.limit().to_string() };
        self.push("hugetlb", format!("hugetlb.{size}.{suffix}"), &value, field);
        self.push_or("hugetlb", format!("hugetlb.{size}.rsvd.{suffix}"), &value, field, Otherwise::Skip);
        Ok(())
    }

    fn devices(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let mut rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
        if self.context.has_default_devices {
            rules = devices::with_defaults(rules);
        }
        if rules.is_empty() {
            return Ok(());
        }
        if self.version("devices") == Version::V2 {
            let rules: Vec<Rule> = rules.into_iter().map(|(_, rule)| rule).collect();
            // A new cgroup has no program, which allows everything too.
            let is_needed = self.is_update() || !devices::Policy::of(&rules).allows_all();
            self.settings.filter = is_needed.then_some(rules);
            return Ok(());
        }
        for (field, rule) in &rules {
            let (file, line) = devices::command(rule);
            self.push("devices", file, line, field.trim_start_matches("linux.resources."));
        }
        Ok(())
    }

    fn network(&mut self, network: &LinuxNetwork) -> Result<(), Error> {
        let reason = "cgroup v2 has no such controller";
        if let Some(class) = network.class_id() {
            self.v1_only("net_cls", "network.classID", reason)?;
            self.push("net_cls", "net_cls.classid", class, "network.classID");
        }
        for (index, priority) in network.priorities().iter().flatten().enumerate() {
            let field = format!("network.priorities[{index}]");
            self.v1_only("net_prio", &field, reason)?;
            is_word(priority.name(), &format!("{field}.name"))?;
            let value = format!("{} {}", priority.name(), priority.priority());
            self.push("net_prio", "net_prio.ifpriomap", value, &field);
        }
        Ok(())
    }

    fn rdma(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
        devices.sort_by_key(|(name, _)| *name);
        for (name, limits) in devices {
            let field = format!("rdma.{name}");
            is_word(name, &field)?;
            let handles = limits.hca_handles().map(|count| format!(" hca_handle={count}")).unwrap_or_default();
            let objects = limits.hca_objects().map(|count| format!(" hca_object={count}")).unwrap_or_default();
            if handles.is_empty() && objects.is_empty() {
                return Err(unsupported(&field, "it needs hcaHandles or hcaObjects"));
            }
            self.push("rdma", "rdma.max", format!("{name}{handles}{objects}"), &field);
        }
        Ok(())
    }

    fn unified(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let field = format!("unified.{key}");
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let Some((controller, rest)) =
            key.split_once('.').filter(|(controller, rest)| plain && !controller.is_empty() && !rest.is_empty())
        else {
            return Err(unsupported(&field, "the key is not the name of a controller's file"));
        };
        if self.version(controller) == Version::V1 {
            return Err(unsupported(&field, "its controller is not on cgroup v2 here"));
        }
        // The files that move processes or hand out controllers are this runtime's own.
        if controller == "cgroup" && !rest.starts_with("max.") && rest != "pressure" {
            return Err(unsupported(&field, "the runtime itself uses this file"));
        }
        // The kernel takes one line per write.
        for line in value.split('\n').filter(|line| !line.is_empty() || value.is_empty()) {
            self.push(controller, key, line, &field);
        }
        Ok(())
    }
}

/// Refuses a name that would be two words or lines in the file.
fn is_word(name: &str, field: &str) -> Result<(), Error> {
    match !name.is_empty() && name.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        true => Ok(()),
        false => Err(unsupported(field, "the name is not one word")),
    }
}

pub(super) fn unsupported(field: &str, reason: &'static str) -> Error {
    Error::Unsupported { field: format!("linux.resources.{field}"), reason }
}

#[cfg(test)]
mod tests;
