//! The commands, one file each; a command that is not there says so and fails.

use std::io::Write;

use clap::Subcommand;
use serde_json::Value;

use crate::{Global, container::Make, features};
use called::Called;

mod called;
mod create;
mod delete;
mod events;
mod exec;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

/// The commands of runc.
#[derive(Subcommand)]
pub enum Command {
    /// Makes a container from a bundle; its process waits for `start`.
    Create(Called<Make>),
    /// Removes a stopped container.
    Delete(Called<delete::Delete>),
    /// Prints usage and out-of-memory events of a container as JSON lines.
    Events(Called<events::Events>),
    /// Executes a further process in a running container.
    Exec(Box<Called<exec::Exec>>),
    /// Prints what this runtime can do, as the runtime spec's features document.
    Features,
    /// Sends a signal to the process of a container.
    Kill(Called<kill::Kill>),
    /// Lists the containers.
    #[command(alias = "ls")]
    List(Called<list::List>),
    /// Stops all processes of a container where they are.
    Pause(Name),
    /// Lists the processes of a container.
    Ps(Called<ps::Ps>),
    /// Lets the processes of a paused container go on.
    Resume(Name),
    /// Makes a container, waits for its end and removes it; its exit status becomes this program's.
    Run(Called<run::Run>),
    /// Writes config.json of a default container into the bundle.
    Spec(Called<spec::Spec>),
    /// Lets the process of a created container execute.
    Start(Name),
    /// Prints the state of a container.
    State(Name),
    /// Changes the limits of a container.
    Update(Box<Called<update::Update>>),
    /// Any other command of the runtime contract.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// A command's only argument.
#[derive(clap::Args)]
pub struct Name {
    /// Name of the container.
    id: String,
}

impl Command {
    /// Runs the command; returns the exit status.
    pub fn run(&self, global: &Global) -> Result<u8, String> {
        match self {
            Self::Create(make) => create::create(global, make)?,
            Self::Delete(delete) => delete::delete(&global.root()?, &delete.id, delete.force)?,
            Self::Events(events) => events.run(&global.root()?)?,
            Self::Exec(exec) => return exec.run(global),
            Self::Features => print(&features::document())?,
            Self::Kill(kill) => kill.run(&global.root()?)?,
            Self::List(list) => list.run(&global.root()?)?,
            Self::Pause(Name { id }) => pause::pause(&global.root()?, id)?,
            Self::Ps(ps) => ps.run(&global.root()?)?,
            Self::Resume(Name { id }) => pause::resume(&global.root()?, id)?,
            Self::Run(run) => return run.run(global),
            Self::Spec(spec) => spec.run()?,
            Self::Start(Name { id }) => start::start(&global.root()?, id)?,
            Self::State(Name { id }) => state::state(&global.root()?, id)?,
            Self::Update(update) => update.run(&global.root()?)?,
            Self::Other(words) => {
                return Err(format!("not available yet: {}", words.first().map_or("", String::as_str)));
            }
        }
        Ok(0)
    }

    /// The status of a failure: runc's exec says 255, which cannot be taken for that of most programs.
    pub fn failure_code(&self) -> u8 {
        if matches!(self, Self::Exec(_)) { 255 } else { 1 }
    }
}

/// Prints a document.
fn print(value: &Value) -> Result<(), String> {
    say(&format!("{value:#}\n"))
}

/// Prints text; a reader that is gone is an error and no panic.
fn say(text: &str) -> Result<(), String> {
    let failed = |error| format!("cannot write to standard output: {error}");
    let mut output = std::io::stdout();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(failed)
}
