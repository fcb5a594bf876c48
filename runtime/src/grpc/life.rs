//! What a container's life is to be, on the wire: restart policy and what it depends on.

use strata_proto::runtime::v1 as wire;

use crate::{error::Error, restart::Policy, spec::Dependency};

/// The most containers that one may depend on.
const MAX_DEPENDENCIES: usize = 64;

/// Parses the restart policy of a container that is to be made. One that is gone after its end has none.
pub fn first_policy(policy: Option<wire::RestartPolicy>, auto_remove: bool) -> Result<Policy, Error> {
    let field = "spec.restart_policy";
    let parsed = policy.map_or(Ok(Policy::No), |policy| self::policy(field, policy))?;
    if auto_remove && parsed.is_set() {
        return Err(Error::argument(field, "the container removes itself at its end"));
    }
    Ok(parsed)
}

/// Parses a restart policy.
pub fn policy(field: &str, policy: wire::RestartPolicy) -> Result<Policy, Error> {
    let wrong = |problem: &str| Err(Error::argument(field, problem));
    let Ok(kind) = wire::RestartKind::try_from(policy.kind) else { return wrong("it is unknown") };
    if policy.attempts > 0 && kind != wire::RestartKind::OnFailure {
        return wrong("a number of attempts is for on-failure only");
    }
    Ok(match kind {
        wire::RestartKind::Unspecified | wire::RestartKind::No => Policy::No,
        wire::RestartKind::OnFailure => Policy::OnFailure { attempts: Some(policy.attempts).filter(|most| *most > 0) },
        wire::RestartKind::Always => Policy::Always,
        wire::RestartKind::UnlessStopped => Policy::UnlessStopped,
    })
}

/// A restart policy as the wire shows it.
pub fn wire_policy(policy: Policy) -> wire::RestartPolicy {
    let (kind, attempts) = match policy {
        Policy::No => (wire::RestartKind::No, None),
        Policy::OnFailure { attempts } => (wire::RestartKind::OnFailure, attempts),
        Policy::Always => (wire::RestartKind::Always, None),
        Policy::UnlessStopped => (wire::RestartKind::UnlessStopped, None),
    };
    wire::RestartPolicy { kind: kind.into(), attempts: attempts.unwrap_or(0) }
}

/// Parses what a container depends on.
pub fn dependencies(list: Vec<wire::Dependency>) -> Result<Vec<Dependency>, Error> {
    if list.len() > MAX_DEPENDENCIES {
        return Err(Error::argument("spec.dependencies", format!("they are more than {MAX_DEPENDENCIES}")));
    }
    if list.iter().any(|one| one.container.is_empty()) {
        return Err(Error::argument("spec.dependencies", "a container is not named"));
    }
    let dependency = |one: wire::Dependency| Dependency { container: one.container, is_required: one.is_required };
    Ok(list.into_iter().map(dependency).collect())
}

/// Parses the cgroup that a container's own is below: a path without "..".
pub fn cgroup_parent(text: &str) -> Result<String, Error> {
    let is_part = |part: &str| part != ".." && part != "." && part.bytes().all(|byte| byte.is_ascii_graphic());
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if text.len() > 1024 || !parts.iter().all(|part| is_part(part)) || (parts.is_empty() && !text.is_empty()) {
        return Err(Error::argument("spec.cgroup_parent", format!("{text:?} is no path of a cgroup")));
    }
    Ok(parts.join("/"))
}

/// A dependency as the wire shows it.
pub fn wire_dependency(one: Dependency) -> wire::Dependency {
    wire::Dependency { container: one.container, is_required: one.is_required }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_checked_and_shown_as_they_came() {
        for (kind, attempts) in [
            (wire::RestartKind::No, 0),
            (wire::RestartKind::OnFailure, 0),
            (wire::RestartKind::OnFailure, 5),
            (wire::RestartKind::Always, 0),
            (wire::RestartKind::UnlessStopped, 0),
        ] {
            let asked = wire::RestartPolicy { kind: kind.into(), attempts };
            assert_eq!(wire_policy(first_policy(Some(asked), false).unwrap()), asked);
        }
        for (kind, attempts, auto_remove) in [(3, 1, false), (4, 0, true), (9, 0, false)] {
            let asked = wire::RestartPolicy { kind, attempts };
            assert!(first_policy(Some(asked), auto_remove).is_err(), "{kind}");
        }
        assert_eq!(first_policy(None, true).unwrap(), Policy::No);
    }
}
