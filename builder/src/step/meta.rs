//! Instructions that change the config and make no layer.

use strata_dockerfile::{CommandForm, Healthcheck, Instruction, KeyValue, Kind, Word, meta};
use strata_types::Healthcheck as Check;

use super::printed;
use crate::error::Error;
use crate::progress::Event;
use crate::solve::{Build, StageWork};

/// Applies one instruction to the stage's config.
pub fn apply(build: &Build, work: &mut StageWork, instruction: &Instruction) -> Result<(), Error> {
    let created_by = match &instruction.kind {
        Kind::Arg(declarations) => {
            let mut shown = Vec::new();
            for declaration in declarations {
                shown.push(work.scope.declare(&build.file, &build.globals, declaration)?);
            }
            format!("ARG {}", shown.join(" "))
        }
        Kind::Env(pairs) => environment(build, work, pairs)?,
        Kind::Label(pairs) => labels(build, work, pairs)?,
        Kind::Cmd(form) => {
            let words = words(work, form);
            let shown = format!("CMD {}", printed::quoted_list(&words));
            work.draft.has_own_cmd = true;
            let config = &mut work.draft.config.config;
            config.cmd = unless_empty(words);
            config.args_escaped = true;
            shown
        }
        Kind::Entrypoint(form) => {
            let words = words(work, form);
            let shown = format!("ENTRYPOINT {}", printed::quoted_list(&words));
            let config = &mut work.draft.config.config;
            config.entrypoint = unless_empty(words);
            if !work.draft.has_own_cmd {
                config.cmd = None;
            }
            shown
        }
        Kind::Expose(list) => ports(build, work, list)?,
        Kind::Volume(list) => volumes(build, work, list)?,
        Kind::User(word) => {
            // Empty is what a variable without a value makes of it: root again.
            let user = work.scope.expand(&build.file, word)?;
            work.draft.config.config.user.clone_from(&user);
            format!("USER {user}")
        }
        Kind::Shell(list) => {
            work.draft.config.config.shell = Some(list.clone());
            format!("SHELL [{}]", list.join(" "))
        }
        Kind::Stopsignal(word) => {
            let signal = work.scope.expand(&build.file, word)?;
            meta::parse_signal(&signal).map_err(|e| build.mistake(word.span, e.to_string()))?;
            work.draft.config.config.stop_signal = Some(signal.clone());
            format!("STOPSIGNAL {signal}")
        }
        Kind::Maintainer(word) => {
            work.draft.config.author = Some(word.value.clone());
            format!("MAINTAINER {}", word.value)
        }
        Kind::Healthcheck(healthcheck) => {
            let check = check(healthcheck);
            let shown = format!("HEALTHCHECK {}", printed::healthcheck(&check));
            work.draft.config.config.healthcheck = Some(check);
            shown
        }
        Kind::Onbuild(onbuild) => {
            // As the reference frontend: a trigger leaves no entry in the history.
            work.draft.config.config.on_build.push(onbuild.expression.clone());
            return Ok(());
        }
        // Steps that make layers do not come here.
        Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_) => {
            let message = format!("{} is not available here", instruction.kind.name());
            return Err(Error::Unsupported(build.at(instruction.name_span, message)));
        }
    };
    work.draft.push_meta(created_by);
    Ok(())
}

/// ENV. Values of one instruction see the environment from before it.
fn environment(build: &Build, work: &mut StageWork, pairs: &[KeyValue]) -> Result<String, Error> {
    let before = work.scope.clone();
    let mut shown = String::from("ENV");
    for pair in pairs {
        let key = before.expand(&build.file, &pair.key)?;
        let value = before.expand(&build.file, &pair.value)?;
        if key.is_empty() {
            return Err(build.mistake(pair.key.span, "the name of a variable is empty after expansion"));
        }
        work.scope.set(&key, &value);
        work.draft.config.config.env_set(&key, &value);
        shown.push_str(&format!(" {key}={value}"));
    }
    Ok(shown)
}

fn labels(build: &Build, work: &mut StageWork, pairs: &[KeyValue]) -> Result<String, Error> {
    let mut shown = String::from("LABEL");
    for pair in pairs {
        let key = work.scope.expand(&build.file, &pair.key)?;
        let value = work.scope.expand(&build.file, &pair.value)?;
        shown.push_str(&format!(" {key}={value}"));
        work.draft.config.config.labels.insert(key, value);
    }
    Ok(shown)
}

/// EXPOSE: in the order of what is written, variables not yet expanded; the history shows a port as often as it is named.
fn ports(build: &Build, work: &mut StageWork, list: &[Word]) -> Result<String, Error> {
    let mut sorted: Vec<&Word> = list.iter().collect();
    sorted.sort_by(|one, other| one.value.cmp(&other.value));
    let mut ports = Vec::new();
    for word in sorted {
        for text in work.scope.expand_words(&build.file, word)? {
            let range = meta::parse_port(&text).map_err(|e| build.mistake(word.span, e.to_string()))?;
            let mut warnings = Vec::new();
            if range.has_capitals {
                warnings.push(format!("the protocol of port {text} should be written in lower case"));
            }
            if range.has_host_part {
                warnings.push(format!("port {text} names an address or a port of the host, which has no effect"));
            }
            for message in warnings {
                let warning = build.at(word.span, message);
                let event = Event::Warning { text: warning.to_string(), line: warning.line as u32 };
                build.progress.tell(event);
            }
            ports.extend(range.keys());
        }
    }
    let shown = format!("EXPOSE [{}]", ports.join(" "));
    work.draft.config.config.exposed_ports.extend(ports);
    Ok(shown)
}

fn volumes(build: &Build, work: &mut StageWork, list: &[Word]) -> Result<String, Error> {
    let mut paths = Vec::new();
    for word in list {
        let path = work.scope.expand(&build.file, word)?;
        if path.is_empty() {
            return Err(build.mistake(word.span, "the path of a volume is empty after expansion"));
        }
        paths.push(path);
    }
    let shown = format!("VOLUME [{}]", paths.join(" "));
    work.draft.config.config.volumes.extend(paths);
    Ok(shown)
}

/// What the config holds of a health check; what is not given is zero, and left to whoever runs the container.
fn check(healthcheck: &Healthcheck) -> Check {
    let Healthcheck::Probe(probe) = healthcheck else {
        return Check { test: vec!["NONE".to_owned()], ..Check::default() };
    };
    let nanos = |flag: &Option<strata_dockerfile::Flag<std::time::Duration>>| {
        // The parser reads durations of at most i64::MAX nanoseconds, as Go does.
        flag.as_ref().map_or(0, |flag| i64::try_from(flag.value.as_nanos()).unwrap_or(i64::MAX))
    };
    // Unlike that of CMD, the shell form is for whatever shell the container has.
    let test = match &probe.command {
        CommandForm::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
        CommandForm::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
    };
    Check {
        test,
        interval: nanos(&probe.interval),
        timeout: nanos(&probe.timeout),
        start_period: nanos(&probe.start_period),
        start_interval: nanos(&probe.start_interval),
        retries: probe.retries.as_ref().map_or(0, |flag| i64::from(flag.value)),
    }
}

/// The words of a command; the shell form is for the shell of the stage.
fn words(work: &StageWork, form: &CommandForm) -> Vec<String> {
    match form {
        CommandForm::Exec(words) => words.clone(),
        CommandForm::Shell(text) => {
            let mut words = work.draft.shell();
            words.push(text.clone());
            words
        }
    }
}

/// A list without words is in no config: nothing is left of what was inherited.
fn unless_empty(words: Vec<String>) -> Option<Vec<String>> {
    (!words.is_empty()).then_some(words)
}
