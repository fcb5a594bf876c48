//! What happens inside: `strata-init` acts on a [`Plan`](plan::Plan) and keeps the process it made.
//! Single-threaded, no logging, no environment reads; every decision was made by who wrote the plan.

mod change;
mod channel;
mod child;
mod codec;
mod copy;
mod execute;
mod failure;
mod filesystem;
mod filter;
mod first;
mod forbidden;
mod hook;
mod idmap;
mod join;
mod listener;
mod log;
mod monitor;
mod mount;
mod netlink;
mod once;
mod overlay;
mod part;
mod peer;
mod place;
pub mod plan;
mod prepare;
pub mod quota;
mod record;
mod sealed;
mod shared;
mod spawn;
mod steps;
mod streams;
mod sys;
mod tether;
mod userns;
mod wake;
pub mod wire;

pub use codec::DecodeError;
pub use failure::Failure;
pub use filter::{attach_device_filter, can_filter_devices, device_filters};
pub use hook::{run_hooks, state_document};
pub use once::{Made, close_inherited, make_once, send_signal};
pub use prepare::has_selinux;
pub use record::{now_nanos, rfc3339};
pub use sealed::{become_sealed, sealed_copy};
pub use spawn::Placer;

use rustix::fs::{Mode, OFlags, open};
use std::ffi::OsString;
use std::os::fd::OwnedFd;

/// Runs the role that the arguments name (`monitor`, `exec`, `change`, or `once <fd>`, `userns ...`, `tether ...`,
/// `mount ...`, `unmount ...`) and ends the process.
pub fn run(args: &[OsString]) -> ! {
    std::panic::set_hook(Box::new(|_| sys::exit(125)));
    let outcome = role(args);
    if let Err(failure) = &outcome {
        let _ = rustix::io::write(rustix::stdio::stderr(), format!("strata-init: {failure}\n").as_bytes());
    }
    sys::exit(outcome.map_or_else(|failure| failure.code, |()| 0))
}

fn role(args: &[OsString]) -> Result<(), Failure> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(Failure::new("begin", format!("it has {threads} threads, not one")));
    }
    match args.split_first().map(|(role, rest)| (role.to_str(), rest)) {
        Some((Some("userns"), rest)) => match shared::run(rest)? {},
        Some((Some("userns-map"), rest)) => return shared::write_maps(rest),
        Some((Some("tether"), rest)) => return tether::run(rest),
        Some((Some("mount"), rest)) => return mount::mount(rest),
        Some((Some("unmount"), rest)) => return mount::unmount(rest),
        _ => {}
    }
    let words: Vec<&str> = args.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["monitor" | "exec"] => monitor::monitor(take_socket(0)?),
        ["change"] => change::change(take_socket(0)?),
        ["once", fd] => {
            let fd = fd.parse().ok().filter(|&fd: &i32| fd > 2);
            let fd = fd.ok_or_else(|| Failure::new("read the arguments", "once takes a descriptor from 3 on"))?;
            once::once(take_socket(fd)?)
        }
        _ => Err(Failure::new(
            "read the arguments",
            "the roles are: monitor, exec, change, once <fd>, userns, tether, mount, unmount",
        )),
    }
}

/// Moves the inherited socket out of the standard streams, and everything else inherited to close-on-exec.
fn take_socket(fd: i32) -> Result<OwnedFd, Failure> {
    use failure::Attempt;
    let step = || format!("take descriptor {fd}");
    sys::close_on_exec_all().attempt(step)?;
    let inherited = sys::inherited(fd).attempt(step)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(&inherited, 3).attempt(step)?;
    drop(inherited);
    if fd == 0 {
        // The lowest free number is 0 again; it stays open as long as the process lives.
        let null = open("/dev/null", OFlags::RDWR, Mode::empty()).attempt(|| "open /dev/null".into())?;
        std::mem::forget(null);
    }
    rustix::process::chdir("/").attempt(|| "leave the working directory".into())?;
    Ok(socket)
}
