//! Flags of limits that are fixed when a container is made.

use clap::Args;

use super::RealTimeFlags;

// What a container may use of its host.
#[derive(Debug, Args)]
pub struct FixedLimitFlags {
    /// How readily its memory is swapped out, 0 to 100; -1: as the host. With cgroup v1 only
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-1..=100))]
    pub memory_swappiness: Option<i8>,
    /// Kill nothing when its memory runs out: it waits. With cgroup v1 only
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// How readily it is killed when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: Option<i32>,
    #[command(flatten)]
    pub real_time: RealTimeFlags,
    /// Its share of the transfers of a block device among others, 10 to 1000
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub blkio_weight_device: Vec<String>,
    /// Bytes read from a device in a second, "/dev/sda:1mb"
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_read_bps: Vec<String>,
    /// Bytes written to a device in a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_write_bps: Vec<String>,
    /// Reads from a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_read_iops: Vec<String>,
    /// Writes to a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_write_iops: Vec<String>,
    /// The cgroup that its own is below
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Limit of each process: "nofile=1024:2048"
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
}
