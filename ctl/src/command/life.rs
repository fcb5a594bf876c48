//! What a container's life is to be, as flags say it and as `ctl inspect` shows it: restart policy, what it depends on.

use serde_json::{Value, json};
use strata_proto::runtime::v1 as pb;

use crate::args::Create;
use crate::error::{Error, Result};

/// Puts into a spec what the flags say.
pub fn of_container(args: &Create, spec: &mut pb::ContainerSpec) -> Result<()> {
    let policy = args.restart.as_deref().map(policy).transpose()?;
    if args.rm && policy.is_some_and(|policy| policy.kind() != pb::RestartKind::No) {
        return Err(Error::usage("conflicting options: cannot specify both --restart and --rm"));
    }
    spec.restart_policy = policy;
    let dependency = |is_required: bool| move |name: &String| pb::Dependency { container: name.clone(), is_required };
    let after = args.after.iter().filter(|name| !args.requires.contains(name)).map(dependency(false));
    spec.dependencies = args.requires.iter().map(dependency(true)).chain(after).collect();
    Ok(())
}

/// "no", "on-failure[:ATTEMPTS]", "always", "unless-stopped".
pub fn policy(text: &str) -> Result<pb::RestartPolicy> {
    let (name, attempts) = text.split_once(':').map_or((text, None), |(name, attempts)| (name, Some(attempts)));
    let wrong = |why: &str| Error::usage(format!("invalid value {text:?} for --restart: {why}"));
    let kind = match name {
        "" | "no" => pb::RestartKind::No,
        "on-failure" => pb::RestartKind::OnFailure,
        "always" => pb::RestartKind::Always,
        "unless-stopped" => pb::RestartKind::UnlessStopped,
        _ => return Err(wrong("it is no, on-failure[:ATTEMPTS], always or unless-stopped")),
    };
    let attempts = match attempts {
        None => 0,
        Some(_) if kind != pb::RestartKind::OnFailure => return Err(wrong("only on-failure has a number of attempts")),
        Some(number) => number.parse().map_err(|_| wrong("the number of attempts is no number"))?,
    };
    Ok(pb::RestartPolicy { kind: kind.into(), attempts })
}

/// A policy as Docker shows it.
pub fn inspected(policy: Option<pb::RestartPolicy>) -> Value {
    let policy = policy.unwrap_or_default();
    let name = match policy.kind() {
        pb::RestartKind::Unspecified | pb::RestartKind::No => "no",
        pb::RestartKind::OnFailure => "on-failure",
        pb::RestartKind::Always => "always",
        pb::RestartKind::UnlessStopped => "unless-stopped",
    };
    json!({"Name": name, "MaximumRetryCount": policy.attempts})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_dockers_words() {
        for (text, name, attempts) in [
            ("", "no", 0),
            ("no", "no", 0),
            ("on-failure", "on-failure", 0),
            ("on-failure:5", "on-failure", 5),
            ("always", "always", 0),
            ("unless-stopped", "unless-stopped", 0),
        ] {
            let shown = inspected(Some(policy(text).unwrap()));
            assert_eq!(shown, json!({"Name": name, "MaximumRetryCount": attempts}), "{text}");
        }
        for text in ["sometimes", "always:3", "on-failure:x", "on-failure:-1", "on-failure:", "Always"] {
            let error = policy(text).unwrap_err();
            assert!(error.message.contains(&format!("{text:?} for --restart")), "{}", error.message);
        }
    }
}
