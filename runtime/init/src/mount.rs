//! The roles `mount` and `unmount`: one call of the kernel, in a process of its own. Such a call may wait for a server that
//! says nothing, and only the end of its process ends it. The exit status is the error number.

use crate::failure::{Attempt, Failure};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Runs `mount <type> <device> <target> <flags> <options>`.
pub(crate) fn mount(args: &[OsString]) -> Result<(), Failure> {
    let [kind, device, target, flags, options] = args else {
        return Err(Failure::new("read the arguments", "mount takes a type, a device, a target, flags and options"));
    };
    let flags = MountFlags::from_bits_retain(number(flags)?);
    let step = || format!("mount {}", target.to_string_lossy());
    let options = CString::new(options.as_bytes()).attempt(step)?;
    begin()?;
    let (device, target, kind) = (device.as_os_str(), target.as_os_str(), kind.as_os_str());
    numbered(rustix::mount::mount(device, target, kind, flags, options.as_c_str()).attempt(step))
}

/// Runs `unmount <target> <flags>`.
pub(crate) fn unmount(args: &[OsString]) -> Result<(), Failure> {
    let [target, flags] = args else {
        return Err(Failure::new("read the arguments", "unmount takes a target and flags"));
    };
    let flags = UnmountFlags::from_bits_retain(number(flags)?);
    begin()?;
    let step = || format!("unmount {}", target.to_string_lossy());
    numbered(rustix::mount::unmount(target.as_os_str(), flags).attempt(step))
}

/// Nobody waits for what is done when its parent is gone.
fn begin() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).attempt(|| "ask for a signal at the end of the parent".into())
}

fn number(text: &OsStr) -> Result<u32, Failure> {
    let parsed = text.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| Failure::new("read the arguments", "flags are a number"))
}

fn numbered(done: Result<(), Failure>) -> Result<(), Failure> {
    done.map_err(|failure| Failure { code: failure.errno, ..failure })
}
