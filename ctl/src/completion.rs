//! Completions in a shell: commands and flags as clap knows them, and the names of what is there: containers, images, networks,
//! secrets, volumes and contexts.

use std::ffi::OsStr;
use std::time::Duration;

use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};

use crate::args::{Cli, CompletionShell};
use crate::contexts::{self, Contexts};
use crate::error::{Error, Result};
use crate::platform::Choice;
use crate::{render, suggest};

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";
/// How long a shell waits for names: who presses a key wants an answer, or none.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a runtime has: it says so itself where one is not known.
const LOG_DRIVERS: [&str; 5] = ["json-file", "local", "journald", "syslog", "none"];

/// Answers a shell that asks, and ends the program then; without a question it returns.
pub fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).bin("ctl").completer("ctl").complete();
}

/// Prints what makes a shell ask.
pub fn script(shell: CompletionShell) -> Result<u8> {
    let name = match shell {
        CompletionShell::Bash => "bash",
        CompletionShell::Fish => "fish",
        CompletionShell::Zsh => "zsh",
    };
    let shells = Shells::builtins();
    let completer = shells.completer(name).ok_or_else(|| Error::usage(format!("{name} is not available")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "ctl", "ctl", "ctl", &mut script).map_err(|error| Error::of(&error))?;
    render::text(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// The command line, with names of what is there.
fn command() -> Command {
    with_names(Cli::whole(), &mut Vec::new())
}

fn with_names(command: Command, path: &mut Vec<String>) -> Command {
    let own = path.clone();
    let command = command.mut_args(|arg| match kind(&own, &arg) {
        Some(kind) => arg.add(ArgValueCompleter::new(Names(kind))),
        None => arg,
    });
    command.mut_subcommands(|next| {
        path.push(next.get_name().to_owned());
        let next = with_names(next, path);
        path.pop();
        next
    })
}

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Containers, images, networks and volumes.
    Any,
    Container,
    Context,
    Image,
    LogDriver,
    Network,
    Secret,
    Volume,
    /// The first word is one of these, the others are words of a program.
    First(&'static str),
}

/// By the name of the argument: those of all commands are named alike.
fn kind(path: &[String], arg: &Arg) -> Option<Kind> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let value = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let makes_one = matches!(path.last(), Some(&"create" | &"import" | &"rename"));
    match (arg.get_id().as_str(), value) {
        ("words", _) if path.last() == Some(&"exec") => Some(Kind::First("container")),
        ("words", _) => Some(Kind::First("image")),
        ("container" | "containers" | "volumes_from", _) => Some(Kind::Container),
        ("image" | "images" | "reference", _) => Some(Kind::Image),
        ("source", _) if path.last() == Some(&"tag") => Some(Kind::Image),
        ("network" | "networks", _) if arg.get_possible_values().is_empty() => Some(Kind::Network),
        ("log_driver", _) => Some(Kind::LogDriver),
        ("context", _) => Some(Kind::Context),
        ("from", "CONTEXT") => Some(Kind::Context),
        ("name" | "names", "CONTEXT") if !makes_one => Some(Kind::Context),
        ("name" | "names", "VOLUME") if !makes_one => Some(Kind::Volume),
        ("name" | "names", "SECRET") if !makes_one => Some(Kind::Secret),
        ("secret", _) if matches!(path.last(), Some(&"create" | &"run")) => Some(Kind::Secret),
        ("names", _) if path == ["inspect"] => Some(Kind::Any),
        _ => None,
    }
}

/// Finds names of a kind.
#[derive(Debug)]
struct Names(Kind);

impl ValueCompleter for Names {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, index: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        let kinds: &[&str] = match self.0 {
            Kind::Any => &["container", "image", "network", "volume"],
            Kind::Container => &["container"],
            Kind::Context => return matching(context_names(), current),
            Kind::LogDriver => return matching(LOG_DRIVERS.map(str::to_owned).into(), current),
            // clap counts the second word as the first.
            Kind::First(_) if index > 0 => &[],
            Kind::First("container") => &["container"],
            Kind::Image | Kind::First(_) => &["image"],
            Kind::Network => &["network"],
            Kind::Secret => &["secret"],
            Kind::Volume => &["volume"],
        };
        matching(kinds.iter().flat_map(|kind| names(kind)).collect(), current)
    }
}

fn matching(names: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let mut names: Vec<String> = names.into_iter().filter(|name| name.starts_with(&*current)).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn context_names() -> Vec<String> {
    let Ok(contexts) = Contexts::load() else { return Vec::new() };
    contexts.contexts.into_keys().chain([contexts::DEFAULT.to_owned()]).collect()
}

/// Names of what is there; none where nobody answers in time: a shell shows no errors.
fn names(kind: &str) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let choice = choice(std::env::args().skip_while(|word| word != "--").skip(2));
    let names = runtime.block_on(async { tokio::time::timeout(PATIENCE, suggest::names(&choice, kind)).await });
    runtime.shutdown_background();
    names.ok().and_then(Result::ok).unwrap_or_default()
}

/// Where the words that are being completed would look: the flags before the command.
fn choice(words: impl Iterator<Item = String>) -> Choice {
    let mut choice = Choice { context: std::env::var("STRATA_CONTEXT").ok(), host: None };
    let mut words = words.peekable();
    while let Some(word) = words.next_if(|word| word.starts_with('-')) {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let mut value = || value.clone().or_else(|| words.next());
        match flag.as_str() {
            "-c" | "--context" => choice.context = value(),
            "-H" | "--host" => choice.host = value(),
            "-l" | "--log-level" | "--config" => drop(value()),
            _ => {}
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(line: &str) -> Vec<(String, Kind)> {
        let mut at = Cli::whole();
        let path: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for word in &path {
            at = at.find_subcommand(word).unwrap_or_else(|| panic!("{line}")).clone();
        }
        let found = at.get_arguments().filter_map(|arg| Some((arg.get_id().to_string(), kind(&path, arg)?)));
        found.collect()
    }

    #[test]
    fn arguments_that_name_something_are_completed_with_it() {
        for (line, id, expected) in [
            ("rm", "containers", Kind::Container),
            ("container stop", "containers", Kind::Container),
            ("exec", "words", Kind::First("container")),
            ("run", "words", Kind::First("image")),
            ("run", "network", Kind::Network),
            ("run", "log_driver", Kind::LogDriver),
            ("rmi", "images", Kind::Image),
            ("history", "image", Kind::Image),
            ("tag", "source", Kind::Image),
            ("network rm", "networks", Kind::Network),
            ("network connect", "container", Kind::Container),
            ("volume rm", "names", Kind::Volume),
            ("volume export", "name", Kind::Volume),
            ("secret rm", "names", Kind::Secret),
            ("secret inspect", "names", Kind::Secret),
            ("run", "secret", Kind::Secret),
            ("container create", "secret", Kind::Secret),
            ("context use", "name", Kind::Context),
            ("inspect", "names", Kind::Any),
        ] {
            let found = kinds(line);
            assert!(found.contains(&(id.to_owned(), expected)), "{line} {id}: {found:?}");
        }
        for (line, id) in [
            ("context create", "name"),
            ("volume create", "name"),
            ("secret create", "name"),
            ("build", "network"),
            ("build", "secret"),
            ("tag", "target"),
        ] {
            assert!(!kinds(line).iter().any(|(found, _)| found == id), "{line} {id}");
        }
    }

    #[test]
    fn names_are_looked_for_where_the_words_say() {
        let choice = |line: &str| choice(line.split(' ').map(str::to_owned));

        assert_eq!(choice("-c prod rm").context.as_deref(), Some("prod"));
        assert_eq!(choice("-D --host=ssh://node rm").host.as_deref(), Some("ssh://node"));
        assert_eq!(choice("--config x -c prod rm -c other").context.as_deref(), Some("prod"));
    }
}
