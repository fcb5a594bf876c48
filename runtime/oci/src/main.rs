//! The command line of an OCI runtime, as engines and test suites call it.
//! What is implemented is here and in `features`; every other command says that it is not available.

use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use strata_oci::{
    capabilities::{self, CapabilitySet},
    default_spec::{Defaults, OCI_VERSION, UserNamespace},
};

/// Runs containers from OCI bundles.
#[derive(Parser)]
#[command(name = "strata-oci", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints what this runtime can do, as the runtime spec's features document.
    Features,
    /// Writes config.json of a default container into the bundle.
    Spec {
        /// Directory of the bundle.
        #[arg(short, long, default_value = ".")]
        bundle: PathBuf,
        /// Writes a spec for a user without privileges.
        #[arg(long)]
        rootless: bool,
    },
    /// Any other command of the runtime contract.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Features => print(&features()),
        Command::Spec { bundle, rootless } => write_spec(&bundle, rootless),
        Command::Other(words) => Err(format!("not available yet: {}", words.first().map_or("", String::as_str))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("strata-oci: {message}");
            ExitCode::FAILURE
        }
    }
}

fn print(value: &Value) -> Result<(), String> {
    writeln!(std::io::stdout(), "{value:#}").map_err(|error| format!("cannot write to standard output: {error}"))
}

/// Refuses to overwrite, as a bundle's spec is somebody's work.
fn write_spec(bundle: &std::path::Path, rootless: bool) -> Result<(), String> {
    let path = bundle.join("config.json");
    let mut defaults = Defaults { terminal: true, hostname: Some("strata".to_owned()), ..Defaults::default() };
    if rootless {
        defaults.user_namespace = Some(single_id());
    }
    let spec = defaults.build().map_err(|error| error.to_string())?;
    let text = serde_json::to_string_pretty(&spec).map_err(|error| error.to_string())?;
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| writeln!(file, "{text}"))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Maps root inside to the caller: all that a user may do without helpers.
fn single_id() -> UserNamespace {
    let mapping = |id: u32| {
        let builder = oci_spec::runtime::LinuxIdMappingBuilder::default().container_id(0_u32).host_id(id).size(1_u32);
        builder.build().into_iter().collect()
    };
    UserNamespace {
        uid_mappings: mapping(rustix::process::geteuid().as_raw()),
        gid_mappings: mapping(rustix::process::getegid().as_raw()),
    }
}

/// The document of the runtime spec's features.md; what is false here is an error in a spec.
fn features() -> Value {
    let capabilities: Vec<&str> = CapabilitySet::ALL.iter().map(capabilities::name).collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": [],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "lazytime", "loud", "mand",
            "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime",
            "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime", "relatime",
            "rexec", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid",
            "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime",
            "rsuid", "rsymfollow", "runbindable", "rw", "shared", "slave", "strictatime", "suid", "symfollow", "sync",
            "unbindable"
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {
                "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false
            },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE"
                ],
                "archs": [
                    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64", "SCMP_ARCH_X32", "SCMP_ARCH_X86",
                    "SCMP_ARCH_X86_64"
                ],
                "knownFlags": [
                    "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
                ],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
            "memoryPolicy": {},
            "mountExtensions": {"idmap": {"enabled": false}},
            "netDevices": {"enabled": false}
        },
    })
}
