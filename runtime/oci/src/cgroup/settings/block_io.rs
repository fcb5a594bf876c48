//! Block devices: weights of whichever scheduler the kernel has, and throttles.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::{Builder, Otherwise, unsupported};
use crate::cgroup::{Error, Version};

impl Builder<'_> {
    pub(super) fn block_io(&mut self, block_io: &LinuxBlockIo) -> Result<(), Error> {
        if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
            self.weight(None, weight, "blockIO.weight")?;
        }
        if let Some(weight) = block_io.leaf_weight().filter(|weight| *weight != 0) {
            self.v1_only("blkio", "blockIO.leafWeight", "v2 has no weights of leaves")?;
            self.push("blkio", "blkio.leaf_weight", weight, "blockIO.leafWeight");
        }
        for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
            let field = format!("blockIO.weightDevice[{index}]");
            let number = format!("{}:{}", device.major(), device.minor());
            if device.weight().is_none() && device.leaf_weight().is_none() {
                return Err(unsupported(&field, "it needs weight or leafWeight"));
            }
            if let Some(weight) = device.weight() {
                self.weight(Some(&number), weight, &field)?;
            }
            if let Some(weight) = device.leaf_weight() {
                let field = format!("{field}.leafWeight");
                self.v1_only("blkio", &field, "v2 has no weights of leaves")?;
                self.push("blkio", "blkio.leaf_weight_device", format!("{number} {weight}"), &field);
            }
        }
        self.throttles(block_io);
        Ok(())
    }

    /// BFQ where the kernel has it, else CFQ (v1) or the cost model (v2), whose weights go further.
    fn weight(&mut self, device: Option<&str>, weight: u16, field: &str) -> Result<(), Error> {
        if !(10..=1000).contains(&weight) {
            return Err(unsupported(field, "a weight is between 10 and 1000"));
        }
        let of = |weight: u64| device.map_or_else(|| weight.to_string(), |device| format!("{device} {weight}"));
        let suffix = if device.is_some() { "_device" } else { "" };
        let value = of(weight.into());
        let (controller, file, otherwise) = match self.version("blkio") {
            Version::V1 => {
                let otherwise = Otherwise::Write { file: format!("blkio.weight{suffix}"), value: value.clone() };
                ("blkio", format!("blkio.bfq.weight{suffix}"), otherwise)
            }
            Version::V2 => {
                let otherwise = Otherwise::Write { file: "io.weight".to_owned(), value: of(cost_weight(weight)) };
                ("io", "io.bfq.weight".to_owned(), otherwise)
            }
        };
        self.push_or(controller, file, value, field, otherwise);
        Ok(())
    }

    fn throttles(&mut self, block_io: &LinuxBlockIo) {
        let throttles: [(&Option<Vec<LinuxThrottleDevice>>, &str, &str, &str); 4] = [
            (block_io.throttle_read_bps_device(), "read_bps", "rbps", "throttleReadBpsDevice"),
            (block_io.throttle_write_bps_device(), "write_bps", "wbps", "throttleWriteBpsDevice"),
            (block_io.throttle_read_iops_device(), "read_iops", "riops", "throttleReadIOPSDevice"),
            (block_io.throttle_write_iops_device(), "write_iops", "wiops", "throttleWriteIOPSDevice"),
        ];
        for (devices, v1, v2, field) in throttles {
            for (index, device) in devices.iter().flatten().enumerate() {
                let field = format!("blockIO.{field}[{index}]");
                let (number, rate) = (format!("{}:{}", device.major(), device.minor()), device.rate());
                match (self.version("blkio"), rate) {
                    (Version::V1, _) => {
                        self.push("blkio", format!("blkio.throttle.{v1}_device"), format!("{number} {rate}"), &field);
                    }
                    // 0 ends a throttle on v1; v2 refuses it.
                    (Version::V2, 0) => self.push("io", "io.max", format!("{number} {v2}=max"), &field),
                    (Version::V2, _) => self.push("io", "io.max", format!("{number} {v2}={rate}"), &field),
                }
            }
        }
    }
}

/// Stretches 10..=1000 over 1..=10000.
fn cost_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}
