//! `ctl update`, and the limits of `ctl run`, `ctl create` and `ctl build`.

use strata_proto::builder::v1 as builder;
use strata_proto::runtime::v1 as pb;

use crate::args::{LimitFlags, SharedLimitFlags, Update};
use crate::error::{Error, Result};
use crate::input;
use crate::platform::Platform;

use super::life;

/// Gives containers other limits, or another restart policy.
pub async fn run(platform: &Platform, args: &Update) -> Result<u8> {
    let named = pb::UpdateContainerRequest {
        limits: Some(limits(&args.limits)?),
        restart_policy: args.restart.as_deref().filter(|text| !text.is_empty()).map(life::policy).transpose()?,
        cpu_realtime_period_us: args.real_time.cpu_rt_period,
        cpu_realtime_runtime_us: args.real_time.cpu_rt_runtime,
        container: String::new(),
    };
    let nothing = pb::UpdateContainerRequest { limits: Some(pb::Limits::default()), ..Default::default() };
    if named == nothing {
        let error = Error::usage("you must provide one or more flags when using this command");
        return Err(error.hint("`ctl update --help` shows what can be changed"));
    }
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let (mut client, named) = (containers.all.clone(), named.clone());
        async move {
            client.update_container(pb::UpdateContainerRequest { container: container.clone(), ..named }).await?;
            Ok(container)
        }
    })
    .await
}

/// The limits that are named.
pub fn limits(flags: &LimitFlags) -> Result<pb::Limits> {
    Ok(pb::Limits {
        memory_reservation_bytes: size("--memory-reservation", &flags.memory_reservation)?,
        nano_cpus: flags.cpus.as_deref().map(input::nano_cpus).transpose()?,
        pids: number("--pids-limit", flags.pids_limit)?,
        blkio_weight: flags.blkio_weight,
        ..shared(&flags.shared)?
    })
}

/// The limits of steps of a build that are named.
pub fn of_steps(flags: &SharedLimitFlags) -> Result<builder::StepLimits> {
    let limits = shared(flags)?;
    Ok(builder::StepLimits {
        memory_bytes: limits.memory_bytes,
        memory_swap_bytes: limits.memory_swap_bytes,
        cpu_quota_us: limits.cpu_quota_us,
        cpu_period_us: limits.cpu_period_us,
        cpu_shares: limits.cpu_shares,
        cpuset_cpus: limits.cpuset_cpus,
        cpuset_mems: limits.cpuset_mems,
    })
}

fn shared(flags: &SharedLimitFlags) -> Result<pb::Limits> {
    let swap = match flags.memory_swap.as_deref() {
        None => None,
        Some("-1") => Some(-1),
        Some(text) => Some(input::bytes("--memory-swap", text)? as i64),
    };
    Ok(pb::Limits {
        memory_bytes: size("--memory", &flags.memory)?,
        memory_swap_bytes: swap,
        cpu_quota_us: number("--cpu-quota", flags.cpu_quota)?,
        cpu_period_us: flags.cpu_period,
        cpu_shares: flags.cpu_shares,
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        ..pb::Limits::default()
    })
}

fn size(flag: &str, text: &Option<String>) -> Result<Option<u64>> {
    text.as_deref().map(|text| input::bytes(flag, text)).transpose()
}

/// A limit of -1 is none, as in Docker.
fn number(flag: &str, value: Option<i64>) -> Result<Option<u64>> {
    match value {
        None => Ok(None),
        Some(-1) => Ok(Some(0)),
        Some(value) => u64::try_from(value).map(Some).map_err(|_| Error::usage(format!("invalid {flag} {value}"))),
    }
}
