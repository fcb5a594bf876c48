//! Wire to domain and back. What comes in is checked here, once; every refusal names its field.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use prost_types::Timestamp as WireTimestamp;
use strata_proto::runtime::v1 as wire;
use strata_proto::types::v1::{HostEntry, Ulimit};
use strata_types::{ContainerId, ContainerName, LabelCondition, Platform, SnapshotKey};

use super::{attachments, fixed, health, isolation, life, logs, ports};
use crate::{
    cdi::DeviceName,
    container::View,
    engine::Update,
    error::Error,
    record::State,
    signal,
    spec::{Exit, ExitKind, Limits, MountPoint, RealTime, Root, SecretEnv, Spec, TerminalSize, limits::Change},
};

pub mod mounts;
mod secrets;

/// The most text in all strings of one spec: what `execve` would refuse anyway.
const MAX_TEXT: usize = 2 << 20;

/// Parses an id that a client may choose.
pub fn id(field: &'static str, text: String) -> Result<Option<ContainerId>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    ContainerId::parse(text).map(Some).map_err(|invalid| Error::invalid(field, invalid))
}

/// Parses a spec and the name in it.
pub fn spec(spec: Option<wire::ContainerSpec>) -> Result<(Option<ContainerName>, Spec), Error> {
    let mut spec = spec.ok_or_else(|| Error::argument("spec", "it is missing"))?;
    attachments::check_shared(&spec)?;
    let resolution = attachments::resolution(&mut spec)?;
    let ports = ports::ports(&mut spec)?;
    let name = match spec.name.is_empty() {
        true => None,
        false => Some(ContainerName::parse(spec.name).map_err(|invalid| Error::invalid("spec.name", invalid))?),
    };
    let entry_point = spec.entry_point.map(|entry_point| entry_point.args);
    texts("spec.command", &spec.command)?;
    texts("spec.entry_point.args", entry_point.as_deref().unwrap_or_default())?;
    environment("spec.env", &spec.env)?;
    for (field, text) in [("spec.working_directory", &spec.working_directory), ("spec.user", &spec.user)] {
        one_text(field, text)?;
    }
    texts("spec.group_add", &spec.group_add)?;
    capabilities("spec.cap_add", &spec.cap_add)?;
    capabilities("spec.cap_drop", &spec.cap_drop)?;
    if !spec.stop_signal.is_empty() {
        signal::parse("spec.stop_signal", &spec.stop_signal)?;
    }
    let writable_size_bytes = Some(spec.writable_size_bytes).filter(|bytes| *bytes != 0);
    if writable_size_bytes.is_some() && !matches!(spec.root, Some(wire::container_spec::Root::Image(_))) {
        return Err(Error::argument("spec.writable_size_bytes", "only what is written over an image can be limited"));
    }
    let domain = Spec {
        root: root(spec.root)?,
        command: spec.command,
        entry_point,
        env: spec.env,
        working_directory: spec.working_directory,
        user: spec.user,
        has_terminal: spec.has_terminal,
        has_stdin: spec.has_stdin,
        hostname: hostname(spec.hostname)?,
        network: attachments::network(spec.network, spec.networks, spec.network_container)?,
        resolution,
        ports,
        mounts: mounts::mounts(spec.mounts)?,
        is_root_read_only: spec.is_root_read_only,
        limits: Limits::default().with(limits(spec.limits.unwrap_or_default()), "spec.limits")?,
        fixed_limits: fixed::limits(spec.fixed_limits)?,
        isolation: isolation::isolation(spec.isolation)?,
        group_add: spec.group_add,
        oom_score_adj: oom_score(spec.oom_score_adj)?,
        has_init: spec.has_init,
        cgroup_parent: life::cgroup_parent(&spec.cgroup_parent)?,
        cap_add: spec.cap_add,
        cap_drop: spec.cap_drop,
        is_privileged: spec.is_privileged,
        auto_remove: spec.auto_remove,
        restart: life::first_policy(spec.restart_policy, spec.auto_remove)?,
        health: health::wish(spec.health_check)?,
        dependencies: life::dependencies(spec.dependencies)?,
        labels: spec.labels.into_iter().collect(),
        annotations: annotations(spec.annotations)?,
        stop_signal: spec.stop_signal,
        stop_timeout_seconds: spec.stop_timeout_seconds,
        is_volatile: spec.is_volatile,
        has_no_log: spec.has_no_log,
        log: logs::log(spec.log)?,
        platform: spec.platform.map(platform).transpose()?,
        extra_hosts: spec.extra_hosts.into_iter().map(host).collect::<Result<_, _>>()?,
        shm_size_bytes: Some(spec.shm_size_bytes).filter(|bytes| *bytes != 0),
        writable_size_bytes,
        ulimits: spec.ulimits.into_iter().map(ulimit).collect::<Result<_, _>>()?,
        cdi_devices: spec.cdi_devices.iter().map(|name| device(name)).collect::<Result<_, _>>()?,
        secrets: secrets::secrets(spec.secrets)?,
        volumes_from: mounts::volumes_from(spec.volumes_from)?,
        secret_env: secret_env(spec.secret_env, spec.auto_remove)?,
    };
    Ok((name, domain))
}

/// Annotations of an OCI spec, where a key is not empty.
fn annotations(all: HashMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    let field = "spec.annotations";
    if all.contains_key("") {
        return Err(Error::argument(field, "a key is empty"));
    }
    texts(field, &all.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>())?;
    Ok(all.into_iter().collect())
}

/// A name that ends up in /etc/hosts, with its address.
fn host(entry: HostEntry) -> Result<(String, IpAddr), Error> {
    let wrong = |problem: &str| Error::argument("spec.extra_hosts", format!("{:?} {problem}", entry.name));
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    if !is_name(&entry.name) || entry.name.len() > 253 {
        return Err(wrong("is no host name"));
    }
    let address = entry.address.parse().map_err(|_| wrong(&format!("has no address: {:?} is none", entry.address)))?;
    Ok((entry.name, address))
}

fn wire_host((name, address): (String, IpAddr)) -> HostEntry {
    HostEntry { name, address: address.to_string() }
}

/// getrlimit(2) by its name, as in `ulimit`.
fn ulimit(limit: Ulimit) -> Result<PosixRlimit, Error> {
    let wrong = |problem: &str| Error::argument("spec.ulimits", format!("{:?} {problem}", limit.name));
    let kind = serde_json::Value::String(format!("RLIMIT_{}", limit.name.to_uppercase()));
    let kind: PosixRlimitType = serde_json::from_value(kind).map_err(|_| wrong("is no limit of a process"))?;
    if limit.soft > limit.hard {
        return Err(wrong("has a soft limit above the hard one"));
    }
    let built = PosixRlimitBuilder::default().typ(kind).soft(limit.soft).hard(limit.hard).build();
    built.map_err(|error| wrong(&error.to_string()))
}

fn wire_ulimit(limit: &PosixRlimit) -> Ulimit {
    let name = serde_json::to_value(limit.typ()).unwrap_or_default();
    let name = name.as_str().unwrap_or_default().trim_start_matches("RLIMIT_").to_lowercase();
    Ulimit { name, soft: limit.soft(), hard: limit.hard() }
}

fn device(name: &str) -> Result<DeviceName, Error> {
    DeviceName::parse(name).map_err(|problem| Error::argument("spec.cdi_devices", problem))
}

/// What is in no record is gone when the container is started again.
fn secret_env(env: Vec<wire::SecretVariable>, auto_remove: bool) -> Result<SecretEnv, Error> {
    let has_no_name = env.iter().any(|variable| variable.name.contains('='));
    let env: Vec<String> = env.into_iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect();
    if !auto_remove && !env.is_empty() {
        return Err(Error::argument("spec.secret_env", "the container does not remove itself at its end"));
    }
    // The refusal must not show what it refuses.
    match has_no_name || environment("spec.secret_env", &env).is_err() {
        true => {
            Err(Error::argument("spec.secret_env", "a variable has no name that can be one, a NUL, or too much text"))
        }
        false => Ok(SecretEnv(env)),
    }
}

fn root(root: Option<wire::container_spec::Root>) -> Result<Root, Error> {
    match root {
        Some(wire::container_spec::Root::Image(image)) if !image.is_empty() => Ok(Root::Image(image)),
        Some(wire::container_spec::Root::SnapshotKey(key)) => {
            let key = SnapshotKey::parse(key).map_err(|invalid| Error::invalid("spec.snapshot_key", invalid))?;
            Ok(Root::Snapshot(key))
        }
        _ => Err(Error::argument("spec.root", "an image or a snapshot key is needed")),
    }
}

fn platform(message: strata_proto::types::v1::Platform) -> Result<Platform, Error> {
    let strata_proto::types::v1::Platform { os, architecture, variant } = message;
    if [&os, &architecture, &variant].iter().any(|part| part.contains('/')) {
        return Err(Error::argument("spec.platform", "its parts contain a \"/\""));
    }
    let slash = if variant.is_empty() { "" } else { "/" };
    let parsed = Platform::parse(&format!("{os}/{architecture}{slash}{variant}"));
    parsed.map_err(|invalid| Error::invalid("spec.platform", invalid))
}

fn oom_score(score: Option<i32>) -> Result<Option<i32>, Error> {
    match score {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(Error::argument("spec.oom_score_adj", "it is -1000 to 1000"))
        }
        score => Ok(score),
    }
}

/// Linux takes 64 bytes; what is in the name ends up in /etc/hosts.
fn hostname(name: String) -> Result<String, Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.len() > 64 || !name.bytes().all(is_plain) || name.starts_with(['-', '.']) {
        return Err(Error::argument("spec.hostname", format!("invalid host name {name:?}")));
    }
    Ok(name)
}

/// What a message says of limits. Unset: nothing.
pub fn limits(limits: wire::Limits) -> Change {
    Change {
        memory_bytes: limits.memory_bytes,
        memory_swap_bytes: limits.memory_swap_bytes,
        memory_reservation_bytes: limits.memory_reservation_bytes,
        nano_cpus: limits.nano_cpus,
        cpu_period: limits.cpu_period_us,
        cpu_quota: limits.cpu_quota_us,
        cpu_shares: limits.cpu_shares,
        cpuset_cpus: limits.cpuset_cpus,
        cpuset_mems: limits.cpuset_mems,
        pids: limits.pids,
        blkio_weight: limits.blkio_weight,
    }
}

/// What is to change of a container.
pub fn update(request: wire::UpdateContainerRequest) -> Result<Update, Error> {
    Ok(Update {
        limits: limits(request.limits.unwrap_or_default()),
        real_time: RealTime {
            period: request.cpu_realtime_period_us.filter(|period| *period != 0),
            runtime: request.cpu_realtime_runtime_us.filter(|runtime| *runtime != 0),
        },
        restart: request.restart_policy.map(|policy| life::policy("restart_policy", policy)).transpose()?,
    })
}

fn wire_limits(limits: Limits) -> wire::Limits {
    wire::Limits {
        memory_bytes: limits.memory_bytes,
        memory_swap_bytes: limits.memory_swap_bytes,
        memory_reservation_bytes: limits.memory_reservation_bytes,
        nano_cpus: limits.nano_cpus,
        cpu_period_us: limits.cpu_period,
        cpu_quota_us: limits.cpu_quota,
        cpu_shares: limits.cpu_shares,
        cpuset_cpus: limits.cpuset_cpus,
        cpuset_mems: limits.cpuset_mems,
        pids: limits.pids,
        blkio_weight: limits.blkio_weight,
    }
}

/// Parses an absolute path and drops "." and doubled slashes; ".." has no place in it.
pub fn path(field: &str, text: &str) -> Result<String, Error> {
    let wrong = |problem: &str| Err(Error::argument(field, format!("{text:?} {problem}")));
    if !text.starts_with('/') {
        return wrong("is not an absolute path");
    }
    if text.contains('\0') || text.len() > 4095 {
        return wrong("is not a path");
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return wrong("leads upwards");
    }
    Ok(format!("/{}", parts.join("/")))
}

fn one_text(field: &str, text: &str) -> Result<(), Error> {
    if text.contains('\0') || text.len() > MAX_TEXT {
        return Err(Error::argument(field, "it holds a NUL byte or is too long"));
    }
    Ok(())
}

/// Checks arguments: no NUL, not more than `execve` takes.
pub fn texts(field: &str, texts: &[String]) -> Result<(), Error> {
    if texts.iter().map(|text| text.len() + 1).sum::<usize>() > MAX_TEXT {
        return Err(Error::argument(field, "the argument list is too long"));
    }
    texts.iter().try_for_each(|text| one_text(field, text))
}

/// Checks an environment: no NUL, no empty name.
pub fn environment(field: &str, env: &[String]) -> Result<(), Error> {
    texts(field, env)?;
    match env.iter().find(|pair| pair.is_empty() || pair.starts_with('=')) {
        Some(pair) => Err(Error::argument(field, format!("{pair:?} has no name"))),
        None => Ok(()),
    }
}

fn capabilities(field: &'static str, list: &[String]) -> Result<(), Error> {
    for name in list {
        if !name.eq_ignore_ascii_case("ALL") {
            strata_oci::capabilities::parse(name).map_err(|error| Error::argument(field, error.to_string()))?;
        }
    }
    Ok(())
}

/// Parses a terminal size; 0 by 0 is as good as none.
pub fn size(size: Option<wire::TerminalSize>) -> Result<Option<TerminalSize>, Error> {
    let Some(size) = size.filter(|size| size.columns != 0 || size.rows != 0) else { return Ok(None) };
    let number = |number: u32| {
        u16::try_from(number).map_err(|_| Error::argument("terminal_size", format!("{number} is too large")))
    };
    Ok(Some(TerminalSize { columns: number(size.columns)?, rows: number(size.rows)? }))
}

/// A container as the wire shows it.
pub fn container(view: View) -> wire::Container {
    let View { record, log_path, snapshot_key } = view;
    let (state, pid) = match &record.state {
        State::Creating | State::Created => (wire::ContainerState::Created, 0),
        State::Running(running) if running.is_paused => (wire::ContainerState::Paused, running.init.pid),
        State::Running(running) => (wire::ContainerState::Running, running.init.pid),
        State::Exited => (wire::ContainerState::Exited, 0),
        State::Restarting => (wire::ContainerState::Restarting, 0),
        State::Removing => (wire::ContainerState::Removing, 0),
    };
    let process = record.process;
    wire::Container {
        id: record.id.to_string(),
        name: record.name.to_string(),
        endpoints: record.endpoints.iter().map(attachments::wire_endpoint).collect(),
        published_ports: record.published.iter().map(ports::wire_published).collect(),
        restart_count: record.restart_count,
        health_check: health::wire_check(record.check.as_ref(), &record.spec.health),
        health: record.health.map(health::wire_health),
        is_out_of_memory: record.is_out_of_memory,
        spec: Some(wire_spec(record.name.as_str(), record.spec)),
        image_id: record.image_id,
        state: state.into(),
        pid,
        exit: record.exit.map(exit),
        created_at: Some(timestamp(record.created_at)),
        started_at: record.started_at.map(timestamp),
        finished_at: record.finished_at.map(timestamp),
        process: Some(wire::ResolvedProcess {
            args: process.args,
            env: process.env,
            working_directory: process.working_directory,
            user: process.user,
            stop_signal: process.stop_signal,
        }),
        log_path,
        snapshot_key,
        created_mount_points: record.mount_points.into_iter().map(mount_point).collect(),
    }
}

/// A mount point that had to be made.
pub fn mount_point(point: MountPoint) -> wire::CreatedMountPoint {
    wire::CreatedMountPoint { path: point.path, inode: point.inode }
}

fn wire_spec(name: &str, spec: Spec) -> wire::ContainerSpec {
    wire::ContainerSpec {
        name: name.to_owned(),
        root: Some(match spec.root {
            Root::Image(image) => wire::container_spec::Root::Image(image),
            Root::Snapshot(key) => wire::container_spec::Root::SnapshotKey(key.to_string()),
        }),
        command: spec.command,
        entry_point: spec.entry_point.map(|args| wire::EntryPoint { args }),
        env: spec.env,
        working_directory: spec.working_directory,
        user: spec.user,
        has_terminal: spec.has_terminal,
        has_stdin: spec.has_stdin,
        hostname: spec.hostname,
        network: attachments::wire_mode(&spec.network).into(),
        networks: spec.network.attachments().iter().map(attachments::wire_attachment).collect(),
        network_container: attachments::wire_container(&spec.network),
        mounts: spec.mounts.into_iter().map(mounts::wire_mount).collect(),
        is_root_read_only: spec.is_root_read_only,
        limits: Some(wire_limits(spec.limits)),
        fixed_limits: Some(fixed::wire_limits(spec.fixed_limits)),
        isolation: Some(isolation::wire_isolation(spec.isolation)),
        group_add: spec.group_add,
        oom_score_adj: spec.oom_score_adj,
        has_init: spec.has_init,
        cgroup_parent: spec.cgroup_parent,
        cap_add: spec.cap_add,
        cap_drop: spec.cap_drop,
        is_privileged: spec.is_privileged,
        auto_remove: spec.auto_remove,
        labels: spec.labels.into_iter().collect(),
        annotations: spec.annotations.into_iter().collect(),
        stop_signal: spec.stop_signal,
        stop_timeout_seconds: spec.stop_timeout_seconds,
        is_volatile: spec.is_volatile,
        has_no_log: spec.has_no_log,
        log: Some(logs::wire_log(spec.log)),
        platform: spec.platform.map(|Platform { os, architecture, variant }| strata_proto::types::v1::Platform {
            os,
            architecture,
            variant: variant.unwrap_or_default(),
        }),
        extra_hosts: spec.extra_hosts.into_iter().map(wire_host).collect(),
        shm_size_bytes: spec.shm_size_bytes.unwrap_or(0),
        writable_size_bytes: spec.writable_size_bytes.unwrap_or(0),
        ulimits: spec.ulimits.iter().map(wire_ulimit).collect(),
        cdi_devices: spec.cdi_devices.into_iter().map(String::from).collect(),
        secret_env: Vec::new(),
        secrets: spec.secrets.into_iter().map(secrets::wire_secret).collect(),
        domainname: spec.resolution.domainname,
        dns_servers: spec.resolution.servers.iter().map(ToString::to_string).collect(),
        dns_searches: spec.resolution.searches,
        dns_options: spec.resolution.options,
        host_gateway_names: spec.resolution.host_gateway_names,
        volumes_from: Vec::new(),
        port_bindings: spec.ports.bindings.iter().map(ports::wire_binding).collect(),
        exposed_ports: spec.ports.exposed.iter().map(ports::wire_port).collect(),
        publishes_all_ports: spec.ports.publishes_all,
        restart_policy: Some(life::wire_policy(spec.restart)),
        dependencies: spec.dependencies.into_iter().map(life::wire_dependency).collect(),
        // What came of it is beside the spec.
        health_check: None,
    }
}

/// An exit status as the wire shows it.
pub fn exit(exit: Exit) -> wire::ExitStatus {
    let kind = match exit.kind {
        ExitKind::Code(code) => wire::exit_status::Kind::Code(code),
        ExitKind::Signal(signal) => wire::exit_status::Kind::Signal(signal),
        ExitKind::Unknown(reason) => wire::exit_status::Kind::Unknown(reason),
    };
    wire::ExitStatus { kind: Some(kind), is_oom_killed: exit.is_oom_killed }
}

/// What labels must be.
pub fn label_conditions(
    field: &str,
    conditions: Vec<strata_proto::types::v1::LabelCondition>,
) -> Result<Vec<LabelCondition>, Error> {
    if conditions.iter().any(|condition| condition.key.is_empty()) {
        return Err(Error::argument(field, "a label is needed"));
    }
    Ok(conditions.into_iter().map(LabelCondition::from).collect())
}

/// A point in time of the wire.
pub fn moment(field: &str, at: Option<WireTimestamp>) -> Result<Option<jiff::Timestamp>, Error> {
    let wrong = |_| Error::argument(field, "it is no time");
    at.map(|at| jiff::Timestamp::new(at.seconds, at.nanos)).transpose().map_err(wrong)
}

/// A point in time as the wire shows it.
pub fn timestamp(at: jiff::Timestamp) -> WireTimestamp {
    WireTimestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond().max(0) }
}

#[cfg(test)]
mod tests;
