//! What Docker's API says of a container.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use strata_proto::runtime::v1 as pb;
use strata_types::ContainerConfig;

use crate::command::{fixed, health, isolation, life, logs, network, port, ps, secret};
use crate::render::time;
use crate::streams;

/// Size of /dev/shm where nobody chose one: 64 MiB.
const SHM_BYTES: u64 = 64 << 20;

/// The container, by Docker's names; with what its image says where it has nothing else, unless the image is gone.
pub fn value(container: &pb::Container, image: Option<&ContainerConfig>) -> Value {
    let spec = container.spec.clone().unwrap_or_default();
    let args = container.process.clone().unwrap_or_default().args;
    json!({
        "Id": container.id,
        "Created": at(container.created_at.as_ref()),
        "Path": args.first().cloned().unwrap_or_default(),
        "Args": args.get(1..).unwrap_or_default(),
        "State": state(container),
        "Image": container.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": container.log_path,
        "Name": format!("/{}", container.name),
        "RestartCount": container.restart_count,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(&spec),
        "GraphDriver": { "Name": "overlayfs", "Data": null },
        "Mounts": spec.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": config(container, &spec, image),
        "NetworkSettings": network::settings(container),
    })
}

fn at(time: Option<&prost_types::Timestamp>) -> String {
    // What never was has Go's first moment.
    time.and_then(time::timestamp).map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

fn state(container: &pb::Container) -> Value {
    let exit = container.exit.as_ref();
    let error = match exit.and_then(|exit| exit.kind.as_ref()) {
        Some(pb::exit_status::Kind::Unknown(why)) => why.as_str(),
        _ => "",
    };
    // Docker's word: one that waits to be started again counts as running.
    let is_live = matches!(container.state(), pb::ContainerState::Running | pb::ContainerState::Restarting);
    json!({
        "Status": ps::state(container),
        "Running": is_live || container.state() == pb::ContainerState::Paused,
        "Paused": container.state() == pb::ContainerState::Paused,
        "Restarting": container.state() == pb::ContainerState::Restarting,
        "OOMKilled": container.is_out_of_memory || exit.is_some_and(|exit| exit.is_oom_killed),
        "Dead": false,
        "Pid": container.pid,
        "ExitCode": exit.map_or(0, |exit| streams::exit_code(exit).map_or(-1, i32::from)),
        "ExitStatus": exit.map(exit_status),
        "Error": error,
        "StartedAt": at(container.started_at.as_ref()),
        "FinishedAt": at(container.finished_at.as_ref()),
        "Health": health::inspected(container),
    })
}

fn config(container: &pb::Container, spec: &pb::ContainerSpec, image: Option<&ContainerConfig>) -> Value {
    let process = container.process.clone().unwrap_or_default();
    let own_name = container.id.get(..12).unwrap_or_default();
    let (entry_point, command) = words(spec, image);
    let volumes: Map<String, Value> =
        image.iter().flat_map(|image| &image.volumes).map(|target| (target.clone(), json!({}))).collect();
    let mut value = json!({
        "Hostname": if spec.hostname.is_empty() { own_name } else { spec.hostname.as_str() },
        "Domainname": spec.domainname,
        "User": process.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "ExposedPorts": port::exposed_keys(spec),
        "Tty": spec.has_terminal,
        "OpenStdin": spec.has_stdin,
        "StdinOnce": spec.has_stdin,
        "Env": process.env,
        "Cmd": command,
        "Image": root(spec),
        "Volumes": if volumes.is_empty() { Value::Null } else { Value::Object(volumes) },
        "WorkingDir": process.working_directory,
        "Entrypoint": entry_point,
        "OnBuild": null,
        "Labels": spec.labels.iter().collect::<BTreeMap<_, _>>(),
        "StopSignal": process.stop_signal,
        "StopTimeout": spec.stop_timeout_seconds,
        "Healthcheck": health::inspected_check(container.health_check.as_ref()),
        "HealthcheckOnFailureAction": health::action(container.health_check.as_ref()),
    });
    if !spec.secrets.is_empty() {
        value["Secrets"] = spec.secrets.iter().map(secret::inspected).collect();
    }
    value
}

/// Entry point and command, as they were asked for or as the image has them.
fn words(spec: &pb::ContainerSpec, image: Option<&ContainerConfig>) -> (Value, Value) {
    let or_null = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    if let Some(entry_point) = &spec.entry_point {
        // A new entry point goes without the image's command.
        return (or_null(&entry_point.args), or_null(&spec.command));
    }
    let of_image = |words: Option<&Vec<String>>| words.cloned().unwrap_or_default();
    let entry_point = of_image(image.and_then(|image| image.entrypoint.as_ref()));
    let command = match spec.command.is_empty() {
        true => of_image(image.and_then(|image| image.cmd.as_ref())),
        false => spec.command.clone(),
    };
    (or_null(&entry_point), or_null(&command))
}

fn root(spec: &pb::ContainerSpec) -> &str {
    match &spec.root {
        Some(pb::container_spec::Root::Image(image)) => image,
        Some(pb::container_spec::Root::SnapshotKey(key)) => key,
        None => "",
    }
}

fn host_config(spec: &pb::ContainerSpec) -> Value {
    let mut value = json!({
        "Binds": binds(spec),
        "ContainerIDFile": "",
        "LogConfig": logs::inspected(spec),
        "NetworkMode": network::mode(spec),
        "PortBindings": port::asked(spec),
        "RestartPolicy": life::inspected(spec.restart_policy),
        "AutoRemove": spec.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": volumes_from(spec),
        "ConsoleSize": [0, 0],
        "CapAdd": or_null(&spec.cap_add),
        "CapDrop": or_null(&spec.cap_drop),
        "Dns": spec.dns_servers,
        "DnsOptions": spec.dns_options,
        "DnsSearch": spec.dns_searches,
        "ExtraHosts": extra_hosts(spec),
        "Cgroup": "",
        "Links": null,
        "Privileged": spec.is_privileged,
        "PublishAllPorts": spec.publishes_all_ports,
        "ReadonlyRootfs": spec.is_root_read_only,
        "ShmSize": if spec.shm_size_bytes == 0 { SHM_BYTES } else { spec.shm_size_bytes },
        "Runtime": "strata",
        "Isolation": "",
        "Tmpfs": tmpfs(spec),
    });
    if let (Value::Object(all), Value::Object(limits)) = (&mut value, resources(spec)) {
        all.extend(limits);
        all.extend(fixed::inspected(spec));
        all.extend(isolation::inspected(spec));
    }
    if !spec.annotations.is_empty() {
        value["Annotations"] = json!(spec.annotations.iter().collect::<BTreeMap<_, _>>());
    }
    if spec.writable_size_bytes != 0 {
        value["StorageOpt"] = json!({ "size": spec.writable_size_bytes.to_string() });
    }
    value
}

/// Docker's `Resources`, which stand in `HostConfig`.
fn resources(spec: &pb::ContainerSpec) -> Value {
    let limits = spec.limits.clone().unwrap_or_default();
    let memory = limits.memory_bytes.unwrap_or(0);
    json!({
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": memory,
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "CpuPeriod": limits.cpu_period_us.unwrap_or(0),
        "CpuQuota": limits.cpu_quota_us.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "DeviceRequests": device_requests(&spec.cdi_devices),
        "MemoryReservation": limits.memory_reservation_bytes.unwrap_or(0),
        // As much swap again, where nobody says otherwise.
        "MemorySwap": limits.memory_swap_bytes.unwrap_or(memory as i64 * 2),
        "PidsLimit": limits.pids,
    })
}

/// How a run ended, for people who must not take one for another: "exited(0)", "signaled(9)", "unknown(the monitor was lost)".
fn exit_status(exit: &pb::ExitStatus) -> String {
    match &exit.kind {
        Some(pb::exit_status::Kind::Code(code)) => format!("exited({code})"),
        Some(pb::exit_status::Kind::Signal(signal)) => format!("signaled({signal})"),
        Some(pb::exit_status::Kind::Unknown(why)) => format!("unknown({why})"),
        None => "unknown()".to_owned(),
    }
}

fn or_null(words: &[String]) -> Value {
    if words.is_empty() { Value::Null } else { json!(words) }
}

/// Binds and volumes with a name, as `-v` has them.
fn binds(spec: &pb::ContainerSpec) -> Value {
    let one = |mount: &pb::MountSpec| {
        let source = match &mount.source {
            Some(pb::mount_spec::Source::Bind(bind)) => bind.path.as_str(),
            Some(pb::mount_spec::Source::Volume(volume)) if !volume.is_anonymous => volume.name.as_str(),
            _ => return None,
        };
        let mode = match (mount.mode.as_str(), mount.is_read_only) {
            ("", false) => String::new(),
            ("", true) => ":ro".to_owned(),
            (mode, _) => format!(":{mode}"),
        };
        Some(format!("{source}:{}{mode}", mount.target))
    };
    or_null(&spec.mounts.iter().filter_map(one).collect::<Vec<_>>())
}

fn volumes_from(spec: &pb::ContainerSpec) -> Value {
    let one = |from: &pb::VolumesFrom| match from.is_read_only {
        true => format!("{}:ro", from.container),
        false => from.container.clone(),
    };
    or_null(&spec.volumes_from.iter().map(one).collect::<Vec<_>>())
}

fn extra_hosts(spec: &pb::ContainerSpec) -> Value {
    let given = spec.extra_hosts.iter().map(|entry| format!("{}:{}", entry.name, entry.address));
    let gateways = spec.host_gateway_names.iter().map(|name| format!("{name}:host-gateway"));
    or_null(&given.chain(gateways).collect::<Vec<_>>())
}

fn tmpfs(spec: &pb::ContainerSpec) -> Value {
    let one = |mount: &pb::MountSpec| match &mount.source {
        Some(pb::mount_spec::Source::Tmpfs(_)) => Some((mount.target.clone(), mount.mode.clone().into())),
        _ => None,
    };
    let all: Map<String, Value> = spec.mounts.iter().filter_map(one).collect();
    if all.is_empty() { Value::Null } else { all.into() }
}

/// Devices by their CDI names, as Docker has them.
fn device_requests(names: &[String]) -> Value {
    if names.is_empty() { Value::Null } else { json!([{"Driver": "cdi", "DeviceIDs": names}]) }
}

/// What Docker shows of a mount, for those that it has.
fn mount(mount: &pb::MountSpec) -> Value {
    let mut value = json!({
        "Type": "", "Source": "", "Destination": mount.target, "Mode": mount.mode, "RW": !mount.is_read_only,
        "Propagation": "",
    });
    match &mount.source {
        Some(pb::mount_spec::Source::Bind(bind)) => {
            value["Type"] = "bind".into();
            value["Source"] = bind.path.as_str().into();
            value["Propagation"] = propagation(bind.propagation()).into();
        }
        Some(pb::mount_spec::Source::Volume(volume)) => {
            value["Type"] = "volume".into();
            value["Name"] = volume.name.as_str().into();
            value["Source"] = volume.host_path.as_str().into();
            value["Driver"] = volume.driver.as_str().into();
        }
        Some(pb::mount_spec::Source::Image(image)) => {
            value["Type"] = "image".into();
            value["Source"] = image.image.as_str().into();
        }
        Some(pb::mount_spec::Source::Tmpfs(_)) => value["Type"] = "tmpfs".into(),
        Some(pb::mount_spec::Source::Bytes(_)) => value["Type"] = "bytes".into(),
        Some(pb::mount_spec::Source::Snapshot(snapshot)) => {
            value["Type"] = "snapshot".into();
            value["Source"] = snapshot.key.as_str().into();
        }
        None => {}
    }
    value
}

fn propagation(propagation: pb::MountPropagation) -> &'static str {
    match propagation {
        pb::MountPropagation::Private => "private",
        pb::MountPropagation::Unspecified | pb::MountPropagation::Rprivate => "rprivate",
        pb::MountPropagation::Slave => "slave",
        pb::MountPropagation::Rslave => "rslave",
        pb::MountPropagation::Shared => "shared",
        pb::MountPropagation::Rshared => "rshared",
    }
}
