//! What a container gets, as an OCI runtime spec made from Docker's defaults, and the plan made from it.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, Mount as OciMount, Spec as OciSpec};
use strata_init::plan::{Plan, Step};
use strata_oci::{
    default_spec::{self, Defaults},
    plan::{ExecInputs, PlanInputs},
    user::{self, Identity},
};
use strata_types::ContainerId;

use super::{Joining, Launcher, Prepared, Users, descriptors, files::Own, fixed, isolation, limits, mounts};
use crate::{
    config::Profile,
    error::Error,
    process,
    record::Record,
    spec::{Network, Spec},
};

/// Refuses capabilities that cannot be given, and filters that are none.
pub fn check(launcher: &Launcher, spec: &Spec) -> Result<(), Error> {
    let settled = base(launcher, spec)?.capabilities();
    settled.map(drop).map_err(|error| Error::argument("spec.cap_add", strata_rpc::fault::chain(&error)))
}

/// Resolves a user, and further groups, in the files of an image.
pub fn identity(launcher: &Launcher, user: &str, groups: &[String], users: &Users) -> Result<Identity, Error> {
    let resolved = user::resolve(user, &users.passwd, &users.group);
    let mut identity = resolved.map_err(|source| Error::User { user: user.to_owned(), source })?;
    for group in groups {
        let resolved = user::resolve_group(group, &users.group);
        identity.additional_gids.push(resolved.map_err(|source| Error::Group { group: group.clone(), source })?);
    }
    identity.additional_gids.sort_unstable();
    identity.additional_gids.dedup();
    let Some(namespace) = &launcher.0.namespace else { return Ok(identity) };
    for (what, id, mappings, file) in [
        ("user", identity.uid, &namespace.uid_mappings, "/etc/subuid"),
        ("group", identity.gid, &namespace.gid_mappings, "/etc/subgid"),
    ] {
        if !has(mappings, id) {
            let text = format!("{what} {id} is not among the ids that this user has for containers (see {file})");
            return Err(Error::Start { step: "user".to_owned(), errno: 0, exit_code: 128, text });
        }
    }
    Ok(identity)
}

fn has(mappings: &[LinuxIdMapping], id: u32) -> bool {
    mappings.iter().any(|map| id.checked_sub(map.container_id()).is_some_and(|offset| offset < map.size()))
}

/// The spec of a container.
pub fn container(launcher: &Launcher, job: &Prepared, identity: Identity, own: Vec<Own>) -> Result<OciSpec, Error> {
    let record = &job.record;
    let mut defaults = of_record(launcher, record, &job.hostname)?;
    let mut env = record.process.env.clone();
    process::overlay(&mut env, &record.spec.secret_env.0);
    process::add_home(&mut env, &identity.home);
    // A spec wants a program, also where the plan will have none.
    defaults.args = if record.process.args.is_empty() { vec!["-".to_owned()] } else { record.process.args.clone() };
    defaults.cwd = PathBuf::from(&record.process.working_directory);
    defaults.env = env;
    defaults.console_size = record.spec.has_terminal.then_some((job.size.columns, job.size.rows));
    defaults.identity = identity;
    if let Some(shared) = &job.shared {
        defaults.network = default_spec::Network::Join(shared.namespace.path());
    }
    defaults.mounts = mounts::mounts(&record.spec.mounts, own)?;
    if let Some(namespace) = job.joined.pid.as_ref() {
        defaults.pid = default_spec::Namespace::Join(namespace.path());
    }
    if let Some(namespace) = job.joined.ipc.as_ref() {
        defaults.ipc = default_spec::Namespace::Join(namespace.path());
        // It is the other's, mounted behind the others.
        defaults.has_shm = false;
    }
    defaults.resources = limits::resources(&record.spec.limits).map_err(|error| plan_error(&record.id, error))?;
    fixed::add(&mut defaults.resources, &record.spec.fixed_limits)?;
    isolation::add_rules(&mut defaults.resources, &record.spec.isolation.device_rules);
    if record.spec.is_privileged {
        defaults.devices = default_spec::host_devices().map_err(|error| plan_error(&record.id, error))?;
    }
    let mut spec = defaults.build().map_err(|error| plan_error(&record.id, error))?;
    isolation::add_devices(&mut spec, &record.spec.isolation.devices)?;
    spec.set_domainname(Some(record.spec.resolution.domainname.clone()).filter(|name| !name.is_empty()));
    Ok(spec)
}

/// The spec of a further process: the container's, with another process.
pub fn exec(launcher: &Launcher, job: &Joining, identity: Identity) -> Result<OciSpec, Error> {
    let (record, exec) = (&job.record, &job.exec);
    let mut defaults = of_record(launcher, record, &job.hostname)?;
    let mut env = record.process.env.clone();
    env.retain(|pair| exec.has_terminal || !pair.starts_with("TERM="));
    process::overlay(&mut env, &record.spec.secret_env.0);
    process::overlay(&mut env, &exec.env);
    process::add_home(&mut env, &identity.home);
    let directory = match exec.working_directory.as_str() {
        "" => &record.process.working_directory,
        directory => directory,
    };
    defaults.args = exec.args.clone();
    defaults.cwd = PathBuf::from(directory);
    defaults.env = env;
    defaults.terminal = exec.has_terminal;
    defaults.console_size = exec.has_terminal.then_some((exec.size.columns, exec.size.rows));
    defaults.identity = identity;
    if exec.is_privileged {
        defaults.cap_add = vec!["ALL".to_owned()];
        defaults.cap_drop = Vec::new();
    }
    defaults.build().map_err(|error| plan_error(&record.id, error))
}

fn of_record(launcher: &Launcher, record: &Record, hostname: &str) -> Result<Defaults, Error> {
    let mut defaults = base(launcher, &record.spec)?;
    defaults.cgroups_path = PathBuf::from(launcher.cgroup_name_of(&record.id, &record.spec.cgroup_parent));
    defaults.hostname = (!record.spec.isolation.has_host_name).then(|| hostname.to_owned());
    defaults.masked_paths = launcher.0.thermal.clone();
    Ok(defaults)
}

fn base(launcher: &Launcher, spec: &Spec) -> Result<Defaults, Error> {
    let mut defaults = Defaults {
        annotations: spec.annotations.clone().into_iter().collect(),
        available: launcher.0.available,
        cap_add: spec.cap_add.clone(),
        cap_drop: spec.cap_drop.clone(),
        device_filter: launcher.device_filter(),
        network: match spec.network {
            // Of a container that shares one, `container` knows the path; a further process joins what the first one has.
            Network::Default | Network::None | Network::Networks(_) | Network::Container(_) => {
                default_spec::Network::None
            }
            Network::Host => default_spec::Network::Host,
        },
        outer_namespace: launcher.0.namespace.clone(),
        privileged: spec.is_privileged,
        profile: match launcher.0.config.file.profile {
            Profile::Docker => default_spec::Profile::Docker,
            Profile::Strict => default_spec::Profile::Strict,
        },
        readonly: spec.is_root_read_only,
        rlimits: descriptors::limits(&spec.ulimits, launcher.0.descriptors),
        shm_size: spec.shm_size_bytes.unwrap_or(Defaults::default().shm_size),
        terminal: spec.has_terminal,
        oom_score_adj: spec.oom_score_adj.or(launcher.0.oom_score_adj),
        ..Defaults::default()
    };
    isolation::settle(&mut defaults, &spec.isolation)?;
    Ok(defaults)
}

/// The score of containers where this service has a better one than others, from its unit: that is for the service and its
/// monitors, and would be inherited. Raising a score is everybody's right; what is not better than others' is left alone.
pub fn own_score() -> Option<i32> {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok()?;
    own.trim().parse::<i32>().is_ok_and(|score| score < 0).then_some(0)
}

/// The plan of a spec. What a caller asked for and no plan can give is his to mend, not a defect.
pub fn plan(spec: &OciSpec, inputs: &PlanInputs) -> Result<Plan, Error> {
    strata_oci::plan::plan(spec, inputs).map_err(no_plan)
}

/// The plan of a further process.
pub fn plan_exec(spec: &OciSpec, inputs: &ExecInputs) -> Result<Plan, Error> {
    let process = spec.process().clone().unwrap_or_default();
    strata_oci::plan::plan_exec(spec, &process, inputs).map_err(no_plan)
}

/// The steps of mounts for a container that runs.
pub fn mount_steps(mounts: &[OciMount]) -> Result<Vec<Step>, Error> {
    strata_oci::plan::mount_steps(mounts).map_err(no_plan)
}

fn no_plan(error: strata_oci::plan::Error) -> Error {
    Error::Start { step: "plan".to_owned(), errno: 0, exit_code: 128, text: strata_rpc::fault::chain(&error) }
}

pub(super) fn plan_error(id: &ContainerId, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Plan { id: id.to_string(), source: Box::new(error) }
}
