//! Limits of the container of a RUN step: from a request for a build, into one for a container. The runtime judges them.

use strata_proto::builder::v1 as asked;
use strata_proto::runtime::v1 as pb;

/// Limits of a step. Absent: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepLimits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together in bytes; -1 is any amount of swap.
    pub memory_swap_bytes: Option<i64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<u64>,
    /// Microseconds that the quota is of.
    pub cpu_period: Option<u64>,
    /// Share of the processors where others want them too.
    pub cpu_shares: Option<u64>,
    /// Processors to run on.
    pub cpuset_cpus: Option<String>,
    /// Nodes of memory to have.
    pub cpuset_mems: Option<String>,
}

impl From<asked::StepLimits> for StepLimits {
    fn from(message: asked::StepLimits) -> Self {
        Self {
            memory_bytes: message.memory_bytes,
            memory_swap_bytes: message.memory_swap_bytes,
            cpu_quota: message.cpu_quota_us,
            cpu_period: message.cpu_period_us,
            cpu_shares: message.cpu_shares,
            cpuset_cpus: message.cpuset_cpus,
            cpuset_mems: message.cpuset_mems,
        }
    }
}

impl From<StepLimits> for pb::Limits {
    fn from(limits: StepLimits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes,
            memory_swap_bytes: limits.memory_swap_bytes,
            cpu_quota_us: limits.cpu_quota,
            cpu_period_us: limits.cpu_period,
            cpu_shares: limits.cpu_shares,
            cpuset_cpus: limits.cpuset_cpus,
            cpuset_mems: limits.cpuset_mems,
            ..Self::default()
        }
    }
}
