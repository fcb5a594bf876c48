//! What within a request takes a grant of its own. It is read off the very value that is acted on, and each field of it is
//! named here: a new one does not compile before somebody has decided what it is.

use strata_net::Driver;
use strata_rpc::{Caller, Grant, access::Denied};

use crate::{
    container::Container,
    engine::Engine,
    logging::{self, Reach},
    spec::{Filter, Ipc, Isolation, Mount, Network, Sight, Source, Spec, VolumeMount},
};

/// A grant that is needed, and what for.
type Need = (Grant, String);

/// Insists on every grant that a container takes which is to be made.
pub fn make(caller: &Caller, engine: &Engine, spec: &Spec) -> Result<(), Denied> {
    insist(caller, needs(engine, spec))
}

/// Insists on the grants that making a container took, from who acts within it: it is as good as making one.
pub fn enter(caller: &Caller, engine: &Engine, container: &Container) -> Result<(), Denied> {
    insist(caller, needs(engine, &container.record().spec))
}

/// Insists on the grants that a process takes, beside those of its container.
pub fn execute(caller: &Caller, is_privileged: bool) -> Result<(), Denied> {
    if is_privileged { caller.require(Grant::Privileged, "a privileged process") } else { Ok(()) }
}

/// Insists on the grants that a mount takes.
pub fn mount(caller: &Caller, mount: &Mount) -> Result<(), Denied> {
    insist(caller, mount_need(mount).into_iter().collect())
}

/// Insists on the grants that a volume with these options takes.
pub fn volume<'a>(caller: &Caller, options: impl IntoIterator<Item = &'a String>) -> Result<(), Denied> {
    insist(caller, volume_need(options).into_iter().collect())
}

/// Insists on the grants that a network takes.
pub fn network(caller: &Caller, driver: Driver) -> Result<(), Denied> {
    match driver {
        Driver::Bridge => Ok(()),
        Driver::Macvlan(_) | Driver::Ipvlan(..) => {
            caller.require(Grant::HostNamespaces, "a network on an interface of the host")
        }
    }
}

fn insist(caller: &Caller, needs: Vec<Need>) -> Result<(), Denied> {
    needs.into_iter().try_for_each(|(grant, what)| caller.require(grant, &what))
}

fn needs(engine: &Engine, spec: &Spec) -> Vec<Need> {
    let Spec {
        network,
        mounts,
        cap_add,
        is_privileged,
        cdi_devices,
        volumes_from,
        isolation,
        cgroup_parent,
        oom_score_adj,
        log,
        // Nothing of the host's is in these.
        root: _,
        command: _,
        entry_point: _,
        env: _,
        working_directory: _,
        user: _,
        has_terminal: _,
        has_stdin: _,
        hostname: _,
        resolution: _,
        ports: _,
        is_root_read_only: _,
        limits: _,
        fixed_limits: _,
        group_add: _,
        has_init: _,
        cap_drop: _,
        auto_remove: _,
        restart: _,
        health: _,
        dependencies: _,
        labels: _,
        // The hooks that read them came with devices, which are granted.
        annotations: _,
        stop_signal: _,
        stop_timeout_seconds: _,
        is_volatile: _,
        has_no_log: _,
        platform: _,
        extra_hosts: _,
        shm_size_bytes: _,
        writable_size_bytes: _,
        ulimits: _,
        secret_env: _,
        // Who may make containers may give them secrets.
        secrets: _,
    } = spec;
    let mut needs = Vec::new();
    if *is_privileged {
        needs.push((Grant::Privileged, "a privileged container".to_owned()));
    }
    if !cap_add.is_empty() {
        needs.push((Grant::Privileged, format!("added capabilities ({})", cap_add.join(", "))));
    }
    needs.extend(cdi_devices.iter().map(|device| (Grant::Devices, format!("the device {device}"))));
    needs.extend(mounts.iter().filter_map(mount_need));
    // What cannot be found is told when the container is made; nothing is made then.
    let others = volumes_from.iter().filter_map(|from| engine.find(&from.container).ok());
    needs.extend(others.flat_map(|other| other.record().spec.mounts.iter().filter_map(mount_need).collect::<Vec<_>>()));
    if is_of_the_host(engine, network) {
        needs.push((Grant::HostNamespaces, "the network of the host".to_owned()));
    }
    if !cgroup_parent.is_empty() {
        needs.push((Grant::HostNamespaces, format!("the cgroup /{cgroup_parent} of the host")));
    }
    if oom_score_adj.is_some_and(|score| score < 0) {
        needs.push((Grant::Privileged, "to be spared when the host's memory runs out".to_owned()));
    }
    // Text of the container's choice goes there, from the host and not from its own network.
    needs.extend(logging::reach(log, &engine.config().file).map(|reach| match reach {
        Reach::Socket(path) => (Grant::HostMounts, format!("the socket {} of the host", path.display())),
        Reach::Network(address) => (Grant::HostNamespaces, format!("{address} from the network of the host")),
    }));
    needs.extend(isolation_needs(engine, isolation));
    needs
}

fn isolation_needs(engine: &Engine, isolation: &Isolation) -> Vec<Need> {
    let Isolation {
        pid,
        ipc,
        has_host_name,
        sees_host_cgroups,
        filter,
        no_new_privileges,
        is_unmasked,
        has_writable_cgroups,
        devices,
        device_rules,
        // The kernel has them per namespace, and takes none of the host's.
        sysctls: _,
    } = isolation;
    let all = [
        (*pid == Sight::Host, Grant::HostNamespaces, "the processes of the host"),
        (*ipc == Ipc::Host, Grant::HostNamespaces, "the shared memory of the host"),
        (*has_host_name, Grant::HostNamespaces, "the name of the host"),
        (*sees_host_cgroups, Grant::HostNamespaces, "the cgroups of the host"),
        (*filter != Filter::Default, Grant::Privileged, "another filter of system calls"),
        (*no_new_privileges == Some(false), Grant::Privileged, "new privileges"),
        (*is_unmasked, Grant::Privileged, "paths of /proc and /sys unmasked"),
        (*has_writable_cgroups, Grant::Privileged, "cgroups that it can write to"),
        (!device_rules.is_empty(), Grant::Devices, "rules for devices"),
    ];
    let mut needs: Vec<Need> =
        all.into_iter().filter(|(is_wanted, ..)| *is_wanted).map(|(_, grant, what)| (grant, what.to_owned())).collect();
    needs.extend(devices.iter().map(|one| (Grant::Devices, format!("the device {}", one.host.display()))));
    // Among another container's processes, or in its memory, one acts within it.
    let pid = if let Sight::Container(other) = pid { Some(other) } else { None };
    let ipc = if let Ipc::Container(other) = ipc { Some(other) } else { None };
    let others = pid.into_iter().chain(ipc).filter_map(|other| engine.find(other).ok());
    needs.extend(others.flat_map(|other| self::needs(engine, &other.record().spec)));
    needs
}

/// Whether a network is the host's, itself or by way of another container.
fn is_of_the_host(engine: &Engine, network: &Network) -> bool {
    match network {
        Network::Host => true,
        // A container that shares a network cannot be shared with in turn.
        Network::Container(other) => {
            engine.find(other).is_ok_and(|other| matches!(other.record().spec.network, Network::Host))
        }
        Network::Default | Network::None | Network::Networks(_) => false,
    }
}

fn mount_need(mount: &Mount) -> Option<Need> {
    match &mount.source {
        Source::Bind(bind) => Some((Grant::HostMounts, format!("{} of the host", bind.path.display()))),
        Source::Volume(VolumeMount { options, .. }) => volume_need(options.keys()),
        Source::Tmpfs(_) | Source::Bytes { .. } | Source::Snapshot { .. } | Source::Image(_) => None,
    }
}

/// A volume with any options is a file system or a directory that the host has or mounts.
fn volume_need<'a>(options: impl IntoIterator<Item = &'a String>) -> Option<Need> {
    let names: Vec<_> = options.into_iter().filter(|name| *name != "size").map(String::as_str).collect();
    if names.is_empty() {
        return None;
    }
    Some((Grant::HostMounts, format!("a volume with options ({})", names.join(", "))))
}
