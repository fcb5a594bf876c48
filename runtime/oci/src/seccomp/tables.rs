//! Names and numbers of system calls, per architecture. The numbers are the `syscalls` crate's; x32 has
//! its own for 36 calls and shares the rest with x86_64 under a flag bit.

use oci_spec::runtime::Arch;
use syscalls::{aarch64, arm, riscv64, x86, x86_64};

use super::Error;

/// Set in every number of the x32 ABI. arch/x86/include/uapi/asm/unistd.h, __X32_SYSCALL_BIT
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls whose x32 number is 512 plus the place in this list; their x86_64 number is not callable.
/// arch/x86/entry/syscalls/syscall_64.tbl
const X32_OWN: &str = "rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace \
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid \
    set_robust_list get_robust_list vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg \
    process_vm_readv process_vm_writev setsockopt getsockopt io_setup io_submit execveat preadv2 pwritev2";

/// An application binary interface: one table of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
    Riscv64,
}

impl Abi {
    /// The one this program is compiled for.
    pub(super) const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else if cfg!(target_arch = "riscv64") {
        Self::Riscv64
    } else {
        Self::X86_64
    };

    pub(super) fn of(architecture: Arch) -> Result<Self, Error> {
        match architecture {
            Arch::ScmpArchNative => Ok(Self::NATIVE),
            Arch::ScmpArchX86_64 => Ok(Self::X86_64),
            Arch::ScmpArchX32 => Ok(Self::X32),
            Arch::ScmpArchX86 => Ok(Self::X86),
            Arch::ScmpArchAarch64 => Ok(Self::Aarch64),
            Arch::ScmpArchArm => Ok(Self::Arm),
            Arch::ScmpArchRiscv64 => Ok(Self::Riscv64),
            _ => Err(Error::Architecture { architecture }),
        }
    }

    /// Returns `AUDIT_ARCH_*`; x86_64 and x32 share theirs. linux/audit.h
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// Returns the number of a call, `None` where there is no such call.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let number = match self {
            Self::X86_64 => name.parse::<x86_64::Sysno>().ok()?.id(),
            Self::X32 => return x32_number(name),
            Self::X86 => name.parse::<x86::Sysno>().ok()?.id(),
            Self::Aarch64 => name.parse::<aarch64::Sysno>().ok()?.id(),
            Self::Arm => name.parse::<arm::Sysno>().ok()?.id(),
            Self::Riscv64 => name.parse::<riscv64::Sysno>().ok()?.id(),
        };
        u32::try_from(number).ok()
    }
}

fn x32_number(name: &str) -> Option<u32> {
    let own = X32_OWN.split_whitespace().position(|one| one == name).map(|place| 512 + place as u32);
    Some(X32_BIT | own.or_else(|| Abi::X86_64.number(name))?)
}
