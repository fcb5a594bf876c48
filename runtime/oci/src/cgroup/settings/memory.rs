//! Memory: v1 limits memory and swap together, v2 each alone.

use oci_spec::runtime::LinuxMemory;

use super::{Builder, unsupported};
use crate::cgroup::{Error, Version};

impl Builder<'_> {
    pub(super) fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        let limit = memory.limit().filter(|limit| *limit != 0);
        if let Some(limit) = limit {
            let file = self.either("memory", "memory.limit_in_bytes", "memory.max");
            self.push("memory", file, self.bytes(limit), "memory.limit");
        }
        if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
            let file = self.either("memory", "memory.soft_limit_in_bytes", "memory.low");
            self.push("memory", file, self.bytes(reservation), "memory.reservation");
        }
        if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
            self.swap(swap, limit.or(self.context.memory_limit))?;
        }
        self.habits(memory)?;
        if let Some(kernel_tcp) = memory.kernel_tcp().filter(|bytes| *bytes != 0) {
            self.v1_only("memory", "memory.kernelTCP", "v2 counts it in memory.limit")?;
            self.push("memory", "memory.kmem.tcp.limit_in_bytes", self.bytes(kernel_tcp), "memory.kernelTCP");
        }
        // memory.kernel is no limit any more since Linux 5.4; whoever reads the spec says so.
        Ok(())
    }

    /// What is not a limit.
    fn habits(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        if let Some(swappiness) = memory.swappiness() {
            self.v1_only("memory", "memory.swappiness", "v2 has no swappiness per group")?;
            if swappiness > 100 {
                return Err(unsupported("memory.swappiness", "it is over 100"));
            }
            self.push("memory", "memory.swappiness", swappiness, "memory.swappiness");
        }
        let has_killer = match memory.disable_oom_killer() {
            Some(true) => Some("1"),
            Some(false) if self.is_update() && self.version("memory") == Version::V1 => Some("0"),
            _ => None,
        };
        if let Some(value) = has_killer {
            let field = "memory.disableOOMKiller";
            self.v1_only("memory", field, "v2 cannot disable the out-of-memory killer")?;
            self.push("memory", "memory.oom_control", value, field);
        }
        match (memory.use_hierarchy(), self.version("memory")) {
            (Some(value), Version::V1) => {
                self.push("memory", "memory.use_hierarchy", u8::from(value), "memory.useHierarchy");
            }
            (Some(false), Version::V2) => {
                return Err(unsupported("memory.useHierarchy", "v2 is always hierarchical"));
            }
            _ => {}
        }
        Ok(())
    }

    fn swap(&mut self, swap: i64, limit: Option<i64>) -> Result<(), Error> {
        let value = match (self.version("memory"), swap, limit) {
            (Version::V1, ..) | (Version::V2, ..=-1, _) => self.bytes(swap),
            (Version::V2, _, Some(limit)) if limit > 0 && swap >= limit => (swap - limit).to_string(),
            (Version::V2, ..) => return Err(unsupported("memory.swap", "it needs a memory.limit that is not larger")),
        };
        let file = self.either("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        self.push("memory", file, value, "memory.swap");
        Ok(())
    }

    fn bytes(&self, bytes: i64) -> String {
        match (bytes, self.version("memory")) {
            (..=-1, Version::V1) => "-1".to_owned(),
            (..=-1, Version::V2) => "max".to_owned(),
            (bytes, _) => bytes.to_string(),
        }
    }
}
