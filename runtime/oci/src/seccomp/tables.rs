//! Names and numbers of system calls, per architecture. The numbers are the `syscalls` crate's; x32 has
//! its own for 36 calls and shares the rest with x86_64 under a flag bit.

use std::sync::OnceLock;

use fnv::{FnvBuildHasher, FnvHashMap};
use oci_spec::runtime::Arch;
use syscalls::{aarch64, arm, loongarch64, mips, mips64, powerpc, powerpc64, riscv64, s390x, x86, x86_64};

use super::Error;

/// Set in every number of the x32 ABI. arch/x86/include/uapi/asm/unistd.h, __X32_SYSCALL_BIT
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls whose x32 number is 512 plus the place in this list; their x86_64 number is not callable.
/// arch/x86/entry/syscalls/syscall_64.tbl
const X32_OWN: &str = "rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace \
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid \
    set_robust_list get_robust_list vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg \
    process_vm_readv process_vm_writev setsockopt getsockopt io_setup io_submit execveat preadv2 pwritev2";

/// About as many calls as the largest table has.
const MOST: usize = 448;

/// All numbers of an architecture, by name.
macro_rules! numbers {
    ($architecture:ident) => {{
        let mut table = Table::with_capacity_and_hasher(MOST, FnvBuildHasher::default());
        table.extend(
            $architecture::Sysno::iter().filter_map(|call| Some((call.name(), u32::try_from(call.id()).ok()?))),
        );
        table
    }};
}

/// An application binary interface: one table of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
    Loongarch64,
    Mips { is_little: bool },
    Mips64 { is_little: bool },
    Powerpc,
    Powerpc64 { is_little: bool },
    Riscv64,
    S390x,
}

impl Abi {
    /// Those whose programs this machine runs, the one this program is compiled for first.
    pub(super) const RUN_HERE: &[Self] = if cfg!(target_arch = "aarch64") {
        &[Self::Aarch64, Self::Arm]
    } else if cfg!(target_arch = "loongarch64") {
        &[Self::Loongarch64]
    } else if cfg!(target_arch = "powerpc64") {
        &[Self::Powerpc64 { is_little: cfg!(target_endian = "little") }, Self::Powerpc]
    } else if cfg!(target_arch = "riscv64") {
        &[Self::Riscv64]
    } else if cfg!(target_arch = "s390x") {
        &[Self::S390x]
    } else {
        &[Self::X86_64, Self::X86, Self::X32]
    };

    /// The one this program is compiled for.
    pub(super) const NATIVE: Self = Self::RUN_HERE[0];

    /// Returns its table if this machine runs programs of it.
    pub(super) fn of(architecture: Arch) -> Result<Option<Self>, Error> {
        let abi = match architecture {
            Arch::ScmpArchNative => Self::NATIVE,
            Arch::ScmpArchX86_64 => Self::X86_64,
            Arch::ScmpArchX32 => Self::X32,
            Arch::ScmpArchX86 => Self::X86,
            Arch::ScmpArchAarch64 => Self::Aarch64,
            Arch::ScmpArchArm => Self::Arm,
            Arch::ScmpArchLoongarch64 => Self::Loongarch64,
            Arch::ScmpArchMips => Self::Mips { is_little: false },
            Arch::ScmpArchMipsel => Self::Mips { is_little: true },
            Arch::ScmpArchMips64 => Self::Mips64 { is_little: false },
            Arch::ScmpArchMipsel64 => Self::Mips64 { is_little: true },
            Arch::ScmpArchPpc => Self::Powerpc,
            Arch::ScmpArchPpc64 => Self::Powerpc64 { is_little: false },
            Arch::ScmpArchPpc64le => Self::Powerpc64 { is_little: true },
            Arch::ScmpArchRiscv64 => Self::Riscv64,
            Arch::ScmpArchS390x => Self::S390x,
            // Programs of 31 bits run on s390x, and their numbers are not known here.
            Arch::ScmpArchS390 if cfg!(target_arch = "s390x") => return Err(Error::Architecture { architecture }),
            Arch::ScmpArchMips64n32
            | Arch::ScmpArchMipsel64n32
            | Arch::ScmpArchS390
            | Arch::ScmpArchParisc
            | Arch::ScmpArchParisc64
            | Arch::ScmpArchM68k
            | Arch::ScmpArchSh
            | Arch::ScmpArchSheb => return Ok(None),
        };
        Ok(Some(abi).filter(|abi| Self::RUN_HERE.contains(abi)))
    }

    /// Returns `AUDIT_ARCH_*`; x86_64 and x32 share theirs. linux/audit.h
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Loongarch64 => 0xc000_0102,
            Self::Mips { is_little: false } => 0x8,
            Self::Mips { is_little: true } => 0x4000_0008,
            Self::Mips64 { is_little: false } => 0x8000_0008,
            Self::Mips64 { is_little: true } => 0xc000_0008,
            Self::Powerpc => 0x14,
            Self::Powerpc64 { is_little: false } => 0x8000_0015,
            Self::Powerpc64 { is_little: true } => 0xc000_0015,
            Self::Riscv64 => 0xc000_00f3,
            Self::S390x => 0x8000_0016,
        }
    }

    /// Returns the number of a call, `None` where there is no such call.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        if self == Self::X32 {
            return Some(X32_BIT | x32_own(name).or_else(|| Self::X86_64.number(name))?);
        }
        // A filter names each of some 400 calls once per table.
        static TABLES: [OnceLock<Table>; 3] = [const { OnceLock::new() }; 3];
        match TABLES.get(Self::RUN_HERE.iter().position(|abi| *abi == self).unwrap_or(usize::MAX)) {
            Some(table) => table.get_or_init(|| self.table()).get(name).copied(),
            None => self.table().get(name).copied(),
        }
    }

    fn table(self) -> Table {
        match self {
            Self::X86_64 | Self::X32 => numbers!(x86_64),
            Self::X86 => numbers!(x86),
            Self::Aarch64 => numbers!(aarch64),
            Self::Arm => numbers!(arm),
            Self::Loongarch64 => numbers!(loongarch64),
            Self::Mips { .. } => numbers!(mips),
            Self::Mips64 { .. } => numbers!(mips64),
            Self::Powerpc => numbers!(powerpc),
            Self::Powerpc64 { .. } => numbers!(powerpc64),
            Self::Riscv64 => numbers!(riscv64),
            Self::S390x => numbers!(s390x),
        }
    }
}

/// Numbers by name. The names are those of the kernel, so nobody can choose them to collide.
type Table = FnvHashMap<&'static str, u32>;

/// The number of a call of which x32 has its own.
fn x32_own(name: &str) -> Option<u32> {
    static OWN: OnceLock<Table> = OnceLock::new();
    OWN.get_or_init(|| X32_OWN.split_whitespace().zip(512..).collect()).get(name).copied()
}
