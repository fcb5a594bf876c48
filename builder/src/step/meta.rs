//! Instructions that change the config and make no layer.

use strata_dockerfile::{CommandForm, Instruction, Kind, meta};

use crate::error::Error;
use crate::image::quoted;
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
        Kind::Env(pairs) => {
            // Values of one instruction see the environment from before it.
            let before = work.scope.clone();
            let mut shown = Vec::new();
            for pair in pairs {
                let key = before.expand(&build.file, &pair.key)?;
                let value = before.expand(&build.file, &pair.value)?;
                if key.is_empty() {
                    return Err(build.mistake(pair.key.span, "the name of a variable is empty after expansion"));
                }
                work.scope.set(&key, &value);
                work.draft.config.config.env_set(&key, &value);
                shown.push(format!("{key}={value}"));
            }
            format!("ENV {}", shown.join(" "))
        }
        Kind::Label(pairs) => {
            let mut shown = Vec::new();
            for pair in pairs {
                let key = work.scope.expand(&build.file, &pair.key)?;
                let value = work.scope.expand(&build.file, &pair.value)?;
                shown.push(format!("{key}={value}"));
                work.draft.config.config.labels.insert(key, value);
            }
            format!("LABEL {}", shown.join(" "))
        }
        Kind::Cmd(form) => {
            let words = words(work, form);
            work.draft.has_own_cmd = true;
            let shown = format!("CMD {}", quoted(&words));
            work.draft.config.config.cmd = Some(words);
            shown
        }
        Kind::Entrypoint(form) => {
            let words = words(work, form);
            if !work.draft.has_own_cmd {
                work.draft.config.config.cmd = None;
            }
            let shown = format!("ENTRYPOINT {}", quoted(&words));
            work.draft.config.config.entrypoint = Some(words);
            shown
        }
        Kind::Expose(list) => {
            let mut ports = Vec::new();
            for word in list {
                for text in work.scope.expand_words(&build.file, word)? {
                    let range = meta::parse_port(&text).map_err(|e| build.mistake(word.span, e.to_string()))?;
                    ports.extend(range.keys());
                }
            }
            ports.sort();
            ports.dedup();
            let shown = format!("EXPOSE [{}]", ports.join(" "));
            work.draft.config.config.exposed_ports.extend(ports);
            shown
        }
        Kind::Volume(list) => {
            let mut paths = Vec::new();
            for word in list {
                let path = work.scope.expand(&build.file, word)?;
                if path.trim().is_empty() {
                    return Err(build.mistake(word.span, "the path of a volume is empty"));
                }
                paths.push(path);
            }
            let shown = format!("VOLUME [{}]", paths.join(" "));
            work.draft.config.config.volumes.extend(paths);
            shown
        }
        Kind::User(word) => {
            let user = work.scope.expand(&build.file, word)?;
            if user.is_empty() {
                return Err(build.mistake(word.span, "the user is empty after expansion"));
            }
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
        Kind::Onbuild(onbuild) => {
            // As the reference frontend: a trigger leaves no entry in the history.
            work.draft.config.config.on_build.push(onbuild.expression.clone());
            return Ok(());
        }
        // The graph refuses what has no effect yet, and steps that make layers do not come here.
        Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_) | Kind::Healthcheck(_) => {
            let message = format!("{} is not available here", instruction.kind.name());
            return Err(Error::Unsupported(build.at(instruction.name_span, message)));
        }
    };
    work.draft.push_meta(created_by);
    Ok(())
}

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
