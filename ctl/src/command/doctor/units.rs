//! Who starts containers at boot.

use std::path::{Path, PathBuf};

use strata_proto::runtime::v1::{Container, Finding, RestartKind};

use super::notice;

/// The unit that does.
const UNIT: &str = "strata-runtime.service";

/// Says so where containers are to be started at boot and nobody will. `root` is "/", but for tests.
pub fn findings(root: &Path, uid: u32, containers: &[Container]) -> Vec<Finding> {
    if !root.join("run/systemd/system").exists() || is_enabled(root, uid) {
        return Vec::new();
    }
    let is_due = |container: &&Container| {
        let policy = container.spec.as_ref().and_then(|spec| spec.restart_policy.as_ref());
        policy.is_some_and(|policy| !matches!(policy.kind(), RestartKind::Unspecified | RestartKind::No))
    };
    let names: Vec<&str> = containers.iter().filter(is_due).map(|container| container.name.as_str()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let user = if uid == 0 { "" } else { " --user" };
    vec![notice(
        format!("nothing starts {} at boot, as the restart policies want it: the next `ctl` does", names.join(", ")),
        format!(
            "systemctl{user} enable --now strata-store.socket strata-builder.socket strata-runtime.socket {UNIT}, which \
             `make install` and the Debian package bring"
        ),
    )]
}

/// Whether the unit is enabled for root, or for the user.
fn is_enabled(root: &Path, uid: u32) -> bool {
    let wants = |directory: PathBuf, target: &str| directory.join(format!("{target}.wants")).join(UNIT);
    let is_there = |link: PathBuf| std::fs::symlink_metadata(link).is_ok();
    if uid == 0 {
        return is_there(wants(root.join("etc/systemd/system"), "multi-user.target"));
    }
    let home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
    let own = home.map(|home| wants(home.join("systemd/user"), "default.target"));
    own.is_some_and(is_there) || is_there(wants(root.join("etc/systemd/user"), "default.target"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use strata_proto::runtime::v1::{ContainerSpec, RestartPolicy};

    use super::*;

    fn container(name: &str, kind: RestartKind) -> Container {
        let restart_policy = Some(RestartPolicy { kind: kind.into(), attempts: 0 });
        let spec = Some(ContainerSpec { restart_policy, ..ContainerSpec::default() });
        Container { name: name.to_owned(), spec, ..Container::default() }
    }

    #[test]
    fn who_waits_for_boot_in_vain_is_named() {
        let root = tempfile::tempdir().unwrap();
        let all = [container("web", RestartKind::Always), container("once", RestartKind::No)];
        assert_eq!(findings(root.path(), 0, &all), [], "without systemd there is no unit");
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();

        let found = findings(root.path(), 0, &all);

        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("nothing starts web at boot"), "{found:?}");
        assert!(found[0].fix.contains("systemctl enable --now"), "{found:?}");
        assert_eq!(findings(root.path(), 0, &all[1..]), []);
        let wants = root.path().join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        std::os::unix::fs::symlink("/usr/lib/systemd/system/strata-runtime.service", wants.join(UNIT)).unwrap();
        assert_eq!(findings(root.path(), 0, &all), []);
    }
}
