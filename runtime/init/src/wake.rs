//! A runtime that went away before the end of its container is started again, where somebody is to hear of the end.

use crate::plan::Waker;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Runs the program that starts the runtime. Nobody waits for it: it outlives this process.
pub(crate) fn wake(waker: &Waker) {
    let environment = waker.env.iter().filter_map(|pair| {
        let equals = pair.as_bytes().iter().position(|&byte| byte == b'=')?;
        let (name, value) = pair.as_bytes().split_at(equals);
        Some((OsStr::from_bytes(name), OsStr::from_bytes(&value[1..])))
    });
    // What cannot be started now is found by whoever asks for containers next.
    let _ = Command::new(&waker.program)
        .args(&waker.args)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
}
