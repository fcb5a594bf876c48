//! The command line of an OCI runtime, as engines and test suites call it: that of runc.
//! `command` has one file per command, `container` and `exec` make processes, `state` is the record on disk,
//! `foreground` and `console` stay with a process, `limits` chooses the driver of cgroups, `notify` has sd_notify,
//! `report` writes the log file.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, error::ErrorKind};

mod attached;
mod command;
mod console;
mod container;
mod features;
mod foreground;
mod limits;
mod notify;
mod report;
mod rootless;
mod state;

/// Runs containers from OCI bundles.
#[derive(Parser)]
#[command(name = "strata-oci", version = VERSION, disable_help_subcommand = true, disable_version_flag = true)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: command::Command,
}

/// What every command knows.
#[derive(Args)]
pub struct Global {
    /// Directory of the containers' state [default: /run/strata-oci, or below XDG_RUNTIME_DIR for users].
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    /// File that errors are appended to as well.
    #[arg(long, global = true)]
    log: Option<PathBuf>,
    /// Form of that file.
    #[arg(long, default_value = "text", global = true, value_parser = ["text", "json"])]
    log_format: String,
    /// Also logs what is done.
    #[arg(long, global = true)]
    debug: bool,
    /// Asks systemd for the cgroup of a new container; cgroupsPath is then slice:prefix:name.
    #[arg(long, global = true)]
    pub systemd_cgroup: bool,
    /// Accepted for runc's callers: whether privileges are there is found out.
    #[arg(id = "rootless-mode", long = "rootless", value_parser = ["true", "false", "auto"], hide = true)]
    rootless: Option<String>,
    /// Prints the version.
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

impl Global {
    /// Returns the directory of the containers' state.
    pub fn root(&self) -> Result<PathBuf, String> {
        self.root.as_ref().map_or_else(rootless::default_root, |root| Ok(root.clone()))
    }
}

/// Commands that make processes of containers, which begin as copies of this one.
const MAKERS: [&str; 3] = ["create", "exec", "run"];

/// What of the caller's environment is read here.
const VARIABLES: [&str; 9] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "RUST_BACKTRACE",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// As runc prints it: engines read the lines.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: ", "1.3.0");

fn main() -> ExitCode {
    // First of all, so that what follows is done once; a word that only looks like the command does no harm.
    if std::env::args_os().any(|word| MAKERS.iter().any(|maker| word == *maker))
        && let Err(failure) = strata_init::become_sealed("strata-oci", &VARIABLES)
    {
        let _ = writeln!(std::io::stderr(), "strata-oci: {failure}");
        return ExitCode::FAILURE;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            return if is_answer { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    let global = &arguments.global;
    report::debug(global, || format!("called with {:?}", std::env::args().collect::<Vec<_>>()));
    match arguments.command.run(global) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "strata-oci: {message}");
            report::error(global, &message);
            ExitCode::from(arguments.command.failure_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_version_names_the_specification() {
        assert!(super::VERSION.ends_with(strata_oci::default_spec::OCI_VERSION));
    }

    #[test]
    fn the_arguments_of_every_command_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
