//! File systems that are views of the kernel: what is in them is no data of anybody's.

use rustix::fd::AsFd;
use rustix::io::Errno;

/// statfs(2), linux/magic.h: proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs, tracefs, securityfs, bpf, configfs,
/// efivarfs, pstore, binfmt_misc, fusectl, selinuxfs, nsfs.
const MAGIC: [u64; 17] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
    0xde5e_81e4,
    0x6165_676c,
    0x4249_4e4d,
    0x6573_5543,
    0xf97c_ff8c,
    0x6e73_6673,
];

/// Whether a file or directory is on one of them.
pub fn is_of_the_kernel(file: impl AsFd) -> Result<bool, Errno> {
    // The type of the field differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    let found = rustix::fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    Ok(MAGIC.contains(&found))
}
