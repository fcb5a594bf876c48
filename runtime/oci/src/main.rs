//! The command line of an OCI runtime, as engines and test suites call it.
//! `lifecycle` has the commands on containers, `state` their record on disk, `features` what a spec may say.
//! A command that is not implemented says so and fails.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use strata_oci::default_spec::{Defaults, UserNamespace};

mod features;
mod lifecycle;
mod sealed;
mod state;

/// Runs containers from OCI bundles.
#[derive(Parser)]
#[command(name = "strata-oci", version, disable_help_subcommand = true)]
struct Arguments {
    /// Directory of the containers' state.
    #[arg(long, default_value = "/run/strata-oci", global = true)]
    root: PathBuf,
    /// File that errors are appended to as well.
    #[arg(long, global = true)]
    log: Option<PathBuf>,
    /// Form of that file: text or json.
    #[arg(long, default_value = "text", global = true)]
    log_format: String,
    #[command(subcommand)]
    command: Command,
}

/// What create and run have in common.
#[derive(Args)]
struct Make {
    /// Directory of the bundle.
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// Unix socket that receives the terminal's master.
    #[arg(long)]
    console_socket: Option<PathBuf>,
    /// File that gets the process id.
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// Name of the container.
    id: String,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a container from a bundle; its process waits for `start`.
    Create(Make),
    /// Lets the process of a created container execute.
    Start {
        /// Name of the container.
        id: String,
    },
    /// Makes a container, waits for its end and removes it; its exit status becomes this program's.
    Run(Make),
    /// Prints the state of a container.
    State {
        /// Name of the container.
        id: String,
    },
    /// Sends a signal to the process of a container.
    Kill {
        /// Sends it to every process of the container.
        #[arg(short, long)]
        all: bool,
        /// Name of the container.
        id: String,
        /// Number or name of the signal.
        #[arg(default_value = "TERM")]
        signal: String,
    },
    /// Removes a stopped container.
    Delete {
        /// Kills it first, and does not mind if it is absent.
        #[arg(short, long)]
        force: bool,
        /// Name of the container.
        id: String,
    },
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
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("strata-oci: {message}");
            log(&arguments, &message);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let root = &arguments.root;
    match &arguments.command {
        Command::Create(make) => {
            sealed::become_sealed()?;
            lifecycle::create(root, make)?;
        }
        Command::Run(make) => {
            sealed::become_sealed()?;
            return lifecycle::run(root, make).map(ExitCode::from);
        }
        Command::Start { id } => lifecycle::start(root, id)?,
        Command::State { id } => print(&state::State::load(root, id)?.document())?,
        Command::Kill { id, signal, all } => lifecycle::kill(root, id, signal, *all)?,
        Command::Delete { id, force } => lifecycle::delete(root, id, *force)?,
        Command::Features => print(&features::document())?,
        Command::Spec { bundle, rootless } => write_spec(bundle, *rootless)?,
        Command::Other(words) => {
            return Err(format!("not available yet: {}", words.first().map_or("", String::as_str)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(value: &serde_json::Value) -> Result<(), String> {
    writeln!(std::io::stdout(), "{value:#}").map_err(|error| format!("cannot write to standard output: {error}"))
}

/// Appends the error where the engine asked for it; failing to is not worth a second error.
fn log(arguments: &Arguments, message: &str) {
    let Some(path) = &arguments.log else { return };
    let line = match arguments.log_format.as_str() {
        "json" => serde_json::json!({"level": "error", "msg": message}).to_string(),
        _ => format!("level=error msg={message:?}"),
    };
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    let _ = file.and_then(|mut file| writeln!(file, "{line}"));
}

/// Refuses to overwrite, as a bundle's spec is somebody's work.
fn write_spec(bundle: &Path, rootless: bool) -> Result<(), String> {
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
