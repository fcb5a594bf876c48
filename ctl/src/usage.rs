//! Mistakes on the command line. What Docker has and Strata does not have yet is told from what is misspelt.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error as Mistake};

use crate::args::Cli;
use crate::docker;
use crate::error::{Error, STRATA_FAILED};

/// What is wrong with these words, in one sentence and with what helps; or the help that they asked for.
pub fn explain(mistake: Mistake, words: impl Iterator<Item = OsString>) -> Error {
    let words: Vec<String> = words.skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let command = command_of(&words);
    let help = format!("`{command} --help` tells more");
    match mistake.kind() {
        ErrorKind::InvalidSubcommand => unknown_command(&mistake, &command).hint(help),
        ErrorKind::UnknownArgument => unknown_argument(&mistake, &command).hint(help),
        ErrorKind::InvalidValue => invalid_value(&mistake).hint(help),
        ErrorKind::ValueValidation => refused_value(&mistake).hint(help),
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            let missing = match command.as_str() {
                "ctl run" | "ctl create" => "an image".to_owned(),
                "ctl exec" => "a container and a command".to_owned(),
                _ => strings(&mistake, ContextKind::InvalidArg).join(", ").replace("...", ""),
            };
            let error = Error::usage(format!("`{command}` needs {missing}"));
            usage(&command).into_iter().fold(error, Error::hint).hint(help)
        }
        _ => {
            // Help that was asked for is no failure. A closed terminal cannot be told anything.
            let _ = mistake.print();
            Error::silent(if mistake.use_stderr() { STRATA_FAILED } else { 0 })
        }
    }
}

/// "ctl system prune": the words that name a command.
pub fn command_of(words: &[String]) -> String {
    let mut found = vec!["ctl".to_owned()];
    let mut at = Cli::command();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "-c" | "--context" | "--config" | "-H" | "--host" | "-l" | "--log-level")
            && found.len() == 1
        {
            words.next();
        } else if let Some(next) = at.find_subcommand(word).cloned() {
            found.push(word.clone());
            at = next;
        } else if !word.starts_with('-') {
            break;
        }
    }
    found.join(" ")
}

/// How the command is called.
fn usage(command: &str) -> Option<String> {
    let mut at = Cli::whole();
    for word in command.split(' ').skip(1) {
        at = at.find_subcommand(word)?.clone();
    }
    Some(at.render_usage().to_string().replacen("Usage:", "usage:", 1))
}

fn unknown_command(mistake: &Mistake, command: &str) -> Error {
    let word = strings(mistake, ContextKind::InvalidSubcommand).join(" ");
    let full = format!("{command} {word}");
    if !docker::has_command(&full[4..]) {
        let error = Error::usage(format!("unknown command: `{full}`"));
        return did_you_mean(error, &strings(mistake, ContextKind::SuggestedSubcommand));
    }
    let error = Error::usage(format!("`{full}` is not available yet"));
    docker::why(&full[4..], "").into_iter().fold(error, Error::hint)
}

fn unknown_argument(mistake: &Mistake, command: &str) -> Error {
    let word = strings(mistake, ContextKind::InvalidArg).join(" ");
    let name = word.split('=').next().unwrap_or_default();
    if !name.starts_with('-') {
        let error = Error::usage(format!("`{command}` takes no further argument: {word:?}"));
        return usage(command).into_iter().fold(error, Error::hint);
    }
    let bare = command.strip_prefix("ctl").unwrap_or_default().trim_start();
    if docker::flags(bare).any(|flag| flag == name) {
        let error = Error::usage(format!("the flag {name} of `{command}` is not available yet"));
        return docker::why(bare, name).into_iter().fold(error, Error::hint);
    }
    did_you_mean(Error::usage(format!("unknown flag: {name}")), &strings(mistake, ContextKind::SuggestedArg))
}

fn invalid_value(mistake: &Mistake) -> Error {
    let argument = strings(mistake, ContextKind::InvalidArg).join(" ");
    let flag = argument.split(' ').next().unwrap_or_default();
    let value = strings(mistake, ContextKind::InvalidValue).join(" ");
    let valid = strings(mistake, ContextKind::ValidValue).join(", ");
    if value.is_empty() {
        return Error::usage(format!("{flag} needs a value: {valid}"));
    }
    let error = match flag {
        "--network" => format!("the network {value:?} is not available yet"),
        _ => format!("invalid value {value:?} for {flag}"),
    };
    did_you_mean(Error::usage(error), &strings(mistake, ContextKind::SuggestedValue))
        .hint(format!("{flag} takes {valid}"))
}

/// A value that its flag does not take, and why.
fn refused_value(mistake: &Mistake) -> Error {
    let argument = strings(mistake, ContextKind::InvalidArg).join(" ");
    let flag = argument.split(' ').next().unwrap_or_default();
    let value = strings(mistake, ContextKind::InvalidValue).join(" ");
    let why = std::error::Error::source(mistake).map(ToString::to_string).unwrap_or_default();
    Error::usage(format!("invalid value {value:?} for {flag}: {why}"))
}

fn did_you_mean(error: Error, suggestions: &[String]) -> Error {
    if suggestions.is_empty() { error } else { error.hint(format!("did you mean {}?", suggestions.join(" or "))) }
}

fn strings(mistake: &Mistake, kind: ContextKind) -> Vec<String> {
    match mistake.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn told(line: &str) -> Error {
        let words = || line.split(' ').map(OsString::from);
        let mistake = Cli::try_parse_from(words()).err().unwrap_or_else(|| panic!("{line}: no mistake was found"));
        explain(mistake, words())
    }

    #[test]
    fn what_docker_has_is_told_from_what_is_misspelt() {
        for (line, message, hint) in [
            ("ctl plugin ls", "`ctl plugin` is not available yet", "drivers are built in"),
            ("ctl -c x volume update a", "`ctl volume update` is not available yet", "ctl volume --help"),
            ("ctl volume lss", "unknown command: `ctl volume lss`", "did you mean list or ls?"),
            (
                "ctl container start --checkpoint x y",
                "the flag --checkpoint of `ctl container start` is not available yet",
                "--help",
            ),
            ("ctl image ls --what", "unknown flag: --what", "ctl image ls --help"),
            ("ctl container unmount web", "`ctl container unmount` needs", "usage: ctl container unmount"),
            ("ctl container publish web", "`ctl container publish` needs", "usage: ctl container publish"),
            ("ctl runn debian", "unknown command: `ctl runn`", "did you mean run?"),
            ("ctl run --isolation=x x", "the flag --isolation of `ctl run` is not available yet", "of Windows"),
            (
                "ctl create --use-api-socket x",
                "the flag --use-api-socket of `ctl create` is not available yet",
                "root of the host",
            ),
            ("ctl create", "`ctl create` needs an image", "usage: ctl create [OPTIONS] IMAGE [COMMAND] [ARG...]"),
            ("ctl create -d x", "unknown flag: -d", "ctl create --help"),
            ("ctl run --rmm x", "unknown flag: --rmm", "did you mean --rm?"),
            ("ctl buildx build --squash .", "the flag --squash of `ctl buildx build` is not available yet", "--help"),
            ("ctl builder ls", "`ctl builder ls` is not available yet", "ctl context ls"),
            ("ctl buildx ls", "`ctl buildx ls` is not available yet", "ctl context ls"),
            ("ctl build --check .", "the flag --check of `ctl build` is not available yet", "ctl build --help"),
            (
                "ctl build --provenance=max .",
                "invalid value \"max\" for --provenance: attestations are not",
                "ctl build --help",
            ),
            ("ctl build -o type=what .", "invalid value \"type=what\" for --output: type=what is", "ctl build --help"),
            ("ctl build . x", "`ctl build` takes no further argument: \"x\"", "usage: ctl build"),
            ("ctl build --network bridge .", "the network \"bridge\" is not available yet", "host, none"),
            ("ctl run --pull=often x", "invalid value \"often\" for --pull", "never"),
            ("ctl images --format {{range}}", "invalid value \"{{range}}\" for --format: column 1", "--help"),
            ("ctl images --format jsn", "invalid value \"jsn\" for --format: it is table, json", "--help"),
            ("ctl run", "`ctl run` needs an image", "usage: ctl run [OPTIONS] IMAGE [COMMAND] [ARG...]"),
            (
                "ctl exec box",
                "`ctl exec` needs a container and a command",
                "usage: ctl exec [OPTIONS] CONTAINER COMMAND [ARG...]",
            ),
        ] {
            let error = told(line);

            assert!(error.message.starts_with(message), "{line}: {}", error.message);
            assert!(error.hints.iter().any(|text| text.contains(hint)), "{line}: {:?}", error.hints);
            assert_eq!(error.code, STRATA_FAILED, "{line}");
        }
    }

    #[test]
    fn words_after_the_image_are_the_containers() {
        let parse = |line: &str| match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
            Ok(crate::args::Command::Run(run)) => run.container,
            Ok(crate::args::Command::Create(create)) => *create,
            other => panic!("{line}: {other:?}"),
        };

        let run = parse("ctl run --rm --rm app --rm -it -- --help -v");

        assert_eq!(run.image(), "app");
        assert_eq!(run.command(), ["--rm", "-it", "--", "--help", "-v"]);
        assert!(run.rm && !run.interactive && run.mounts.volume.is_empty());
        assert_eq!(parse("ctl run -h box --net host -e A=1 -e B=2 app").env, ["A=1", "B=2"]);
        let created = parse("ctl create -it --rm app -d --rm");
        assert!(created.tty && created.rm && created.command() == ["-d", "--rm"]);
    }
}
