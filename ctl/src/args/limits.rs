//! Limits of containers: flags of `ctl run`, `ctl create` and `ctl build`, and `ctl update`.

use clap::Args;

// Limits that steps of a build have too.
#[derive(Debug, Args)]
pub struct SharedLimitFlags {
    /// Memory limit, "512m"
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Limit of memory and swap together; -1: any amount of swap [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Microseconds that the quota is of [default: 100000]
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// Share of the processors where others want them too [default: 1024]
    #[arg(short = 'c', long, value_name = "SHARE")]
    pub cpu_shares: Option<u64>,
    /// Processors to run on, "0-3,7"
    #[arg(long, value_name = "SET")]
    pub cpuset_cpus: Option<String>,
    /// Nodes of memory to have, "0,1"
    #[arg(long, value_name = "SET")]
    pub cpuset_mems: Option<String>,
}

// Limits of a container.
#[derive(Debug, Args)]
pub struct LimitFlags {
    #[command(flatten)]
    pub shared: SharedLimitFlags,
    /// Memory that is left to it as long as there is some elsewhere
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// Number of processors, "1.5"
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Most processes and threads; 0 or -1: no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Share of block devices where others want them too, 10 to 1000
    #[arg(long, value_name = "SHARE")]
    pub blkio_weight: Option<u64>,
}

// Limits of real time.
#[derive(Debug, Args)]
pub struct RealTimeFlags {
    /// Period of the real-time scheduler in microseconds. With cgroup v1 only
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<u64>,
    /// Real-time processor time in that period, in microseconds. With cgroup v1 only
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,
}

// `ctl update`: limits that are not named stay, 0 takes one away
#[derive(Debug, Args)]
pub struct Update {
    #[command(flatten)]
    pub limits: LimitFlags,
    #[command(flatten)]
    pub real_time: RealTimeFlags,
    /// What follows its end: "no", "on-failure[:ATTEMPTS]", "always", "unless-stopped"
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}
