//! Instructions for the config of an image that is imported: those of Dockerfiles that make no layer.

use strata_dockerfile::{CommandForm, Diagnostic, Healthcheck, KeyValue, Kind, Word, expand, meta};
use strata_types::{ContainerConfig, Healthcheck as Check};

use crate::error::{Error, Result};

/// What may be changed, in the order of Docker's manual.
const KNOWN: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR";

/// Applies one instruction to a config. Variables are those of the config.
pub fn apply(config: &mut ContainerConfig, text: &str) -> Result<()> {
    let wrong = |why: &str| Error::usage(format!("--change {text:?}: {why}"));
    let refused = |diagnostic: Diagnostic| {
        let error = wrong(&diagnostic.message);
        diagnostic.suggestion.into_iter().fold(error, Error::hint)
    };
    let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    if word.eq_ignore_ascii_case("ONBUILD") {
        // It is for another build: here it only has to be one.
        strata_dockerfile::parse_trigger(rest.trim(), "--change").map_err(refused)?;
        config.on_build.push(rest.trim().to_owned());
        return Ok(());
    }
    let (_, instruction) = strata_dockerfile::parse_trigger(text, "--change").map_err(refused)?;
    let before = config.clone();
    let filled = |word: &Word| {
        let lookup = |name: &str| before.env_get(name).map(str::to_owned);
        expand(&word.value, '\\', &lookup).map_err(|error| wrong(&error.to_string()))
    };
    let pair = |pair: &KeyValue| Ok::<_, Error>((filled(&pair.key)?, filled(&pair.value)?));
    match instruction.kind {
        Kind::Cmd(form) => config.cmd = words(&before, form),
        Kind::Entrypoint(form) => config.entrypoint = words(&before, form),
        Kind::Env(pairs) => {
            for (key, value) in pairs.iter().map(pair).collect::<Result<Vec<_>>>()? {
                config.env_set(&key, &value);
            }
        }
        Kind::Expose(list) => {
            for word in &list {
                let port = filled(word)?;
                let range = meta::parse_port(&port).map_err(|error| wrong(&error.to_string()))?;
                config.exposed_ports.extend(range.keys());
            }
        }
        Kind::Healthcheck(healthcheck) => config.healthcheck = Some(check(healthcheck)),
        Kind::Label(pairs) => config.labels.extend(pairs.iter().map(pair).collect::<Result<Vec<_>>>()?),
        Kind::Stopsignal(word) => {
            let signal = filled(&word)?;
            meta::parse_signal(&signal).map_err(|error| wrong(&error.to_string()))?;
            config.stop_signal = Some(signal);
        }
        Kind::User(word) => config.user = filled(&word)?,
        Kind::Volume(list) => config.volumes.extend(list.iter().map(filled).collect::<Result<Vec<_>>>()?),
        Kind::Workdir(word) => config.working_dir = directory(&before.working_dir, &filled(&word)?),
        other => return Err(wrong(&format!("{} cannot be applied to an import; {KNOWN} can", other.name()))),
    }
    Ok(())
}

/// The words of a command. An empty list is none.
fn words(config: &ContainerConfig, form: CommandForm) -> Option<Vec<String>> {
    let words = match form {
        CommandForm::Exec(words) => words,
        CommandForm::Shell(text) => {
            let shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            shell.into_iter().chain([text]).collect()
        }
    };
    (!words.is_empty()).then_some(words)
}

fn check(healthcheck: Healthcheck) -> Check {
    let Healthcheck::Probe(probe) = healthcheck else {
        return Check { test: vec!["NONE".to_owned()], ..Check::default() };
    };
    let nanos = |flag: Option<strata_dockerfile::Flag<std::time::Duration>>| {
        flag.map_or(0, |flag| i64::try_from(flag.value.as_nanos()).unwrap_or(i64::MAX))
    };
    let test = match probe.command {
        CommandForm::Exec(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        CommandForm::Shell(text) => vec!["CMD-SHELL".to_owned(), text],
    };
    Check {
        test,
        interval: nanos(probe.interval),
        timeout: nanos(probe.timeout),
        start_period: nanos(probe.start_period),
        start_interval: nanos(probe.start_interval),
        retries: probe.retries.map_or(0, |flag| i64::from(flag.value)),
    }
}

/// A directory below another, or an absolute one, without "." and "..".
fn directory(below: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{below}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(instructions: &[&str]) -> Result<ContainerConfig> {
        let mut config = ContainerConfig::default();
        instructions.iter().try_for_each(|text| apply(&mut config, text))?;
        Ok(config)
    }

    #[test]
    fn instructions_change_the_config_as_in_a_dockerfile() {
        let config = changed(&[
            "ENV A=1 B=\"two words\"",
            "env C=$A-${B}",
            "CMD [\"a\", \"b\"]",
            "ENTRYPOINT run it",
            "EXPOSE 80 90-91/udp",
            "HEALTHCHECK --interval=5s CMD true",
            "LABEL x=$A y=",
            "ONBUILD RUN make",
            "STOPSIGNAL SIGQUIT",
            "USER me:us",
            "VOLUME /data",
            "WORKDIR /a",
            "WORKDIR b/../c",
        ])
        .unwrap();

        assert_eq!(config.env, ["A=1", "B=two words", "C=1-two words"]);
        assert_eq!(config.cmd, Some(vec!["a".into(), "b".into()]));
        assert_eq!(config.entrypoint, Some(vec!["/bin/sh".into(), "-c".into(), "run it".into()]));
        assert_eq!(config.exposed_ports.iter().collect::<Vec<_>>(), ["80/tcp", "90/udp", "91/udp"]);
        let check = config.healthcheck.unwrap();
        assert_eq!((check.test, check.interval), (vec!["CMD-SHELL".to_owned(), "true".to_owned()], 5_000_000_000));
        assert_eq!((config.labels["x"].as_str(), config.labels["y"].as_str()), ("1", ""));
        assert_eq!(config.on_build, ["RUN make"]);
        assert_eq!((config.stop_signal.as_deref(), config.user.as_str()), (Some("SIGQUIT"), "me:us"));
        assert_eq!(config.volumes.iter().collect::<Vec<_>>(), ["/data"]);
        assert_eq!(config.working_dir, "/a/c");
    }

    #[test]
    fn what_makes_a_layer_or_is_none_is_refused_with_what_may_stand_there() {
        for (text, word) in [
            ("RUN true", "RUN cannot be applied"),
            ("COPY a b", "COPY cannot be applied"),
            ("FROM x", "FROM"),
            ("CMDD x", "unknown instruction"),
            ("", "empty"),
            ("EXPOSE many", "many"),
            ("STOPSIGNAL SIGNONE", "SIGNONE"),
            ("ONBUILD FROM x", "FROM"),
            ("ONBUILD", "empty"),
            ("ENV A", "ENV"),
            ("LABEL a=${", "${"),
            ("CMD a\nCMD b", "more than one"),
        ] {
            let error = changed(&[text]).expect_err(text);

            assert!(error.message.contains(word) && error.message.contains("--change"), "{text}: {}", error.message);
        }
    }
}
