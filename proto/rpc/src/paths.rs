//! Where services keep their state and their sockets.
//!
//! Root: /var/lib/strata/NAME and /run/strata/NAME.sock. Others: $XDG_DATA_HOME/strata and $XDG_RUNTIME_DIR/strata;
//! where that is not set, /run/user/UID/strata, and where the host has none, $XDG_DATA_HOME/strata/run.
//! STRATA_ROOT and STRATA_RUN replace the two base directories; STRATA_ROOT alone puts sockets under $STRATA_ROOT/run.
//! Configuration: /etc/strata/NAME.toml, $XDG_CONFIG_HOME/strata/NAME.toml, or $STRATA_ROOT/etc/NAME.toml; strata.toml
//! there is for all services and for ctl.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::rootless;

/// Base directory of all state.
pub fn data_dir() -> PathBuf {
    if let Some(dir) = from_env("STRATA_ROOT") {
        return dir;
    }
    if is_root() {
        return "/var/lib/strata".into();
    }
    from_env("XDG_DATA_HOME").unwrap_or_else(|| home().join(".local/share")).join("strata")
}

/// Base directory of all sockets.
pub fn run_dir() -> PathBuf {
    if let Some(dir) = from_env("STRATA_RUN") {
        return dir;
    }
    if let Some(dir) = from_env("STRATA_ROOT") {
        return dir.join("run");
    }
    if is_root() {
        return "/run/strata".into();
    }
    // A login shell has the variable, what cron starts has not: both must find the same services.
    let uid = rustix::process::geteuid().as_raw();
    let usual = || Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|dir| is_of(dir, uid));
    from_env("XDG_RUNTIME_DIR").or_else(usual).map_or_else(|| data_dir().join("run"), |dir| dir.join("strata"))
}

/// State directory of one service: "store", "builder" or "runtime".
pub fn root(service: &str) -> PathBuf {
    data_dir().join(service)
}

/// Socket of one service.
pub fn socket(service: &str) -> PathBuf {
    run_dir().join(format!("{service}.sock"))
}

/// Configuration file of one service, which need not be there.
pub fn config(service: &str) -> PathBuf {
    let dir = match (from_env("STRATA_ROOT"), is_root()) {
        (Some(root), _) => root.join("etc"),
        (None, true) => "/etc/strata".into(),
        (None, false) => from_env("XDG_CONFIG_HOME").unwrap_or_else(|| home().join(".config")).join("strata"),
    };
    dir.join(format!("{service}.toml"))
}

/// Configuration file that all services and ctl share, which need not be there.
pub fn shared_config() -> PathBuf {
    config("strata")
}

/// The binary `name` beside the running one, or in STRATA_BIN_DIR.
pub fn sibling(name: &str) -> std::io::Result<PathBuf> {
    if let Some(dir) = from_env("STRATA_BIN_DIR") {
        return Ok(dir.join(name));
    }
    let exe = env::current_exe()?;
    Ok(exe.parent().unwrap_or(Path::new("/")).join(name))
}

fn from_env(name: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(env::var_os(name).filter(|value| !value.is_empty())?);
    std::path::absolute(dir).ok()
}

fn home() -> PathBuf {
    from_env("HOME").unwrap_or_else(|| "/".into())
}

fn is_of(dir: &Path, uid: u32) -> bool {
    fs::metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == uid)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root() && !rootless::is_inside()
}
