//! Whose a container's cgroup is (runtime spec, "Cgroup ownership").

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

/// The user of the container, by the host's number, where the container gets its cgroup to write to: in a cgroup
/// namespace of its own that is mounted writable. On v1 that would be a way out, and `Cgroup::give_to` does nothing.
pub fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let mut namespaces = linux.namespaces().iter().flatten();
    let is_new = namespaces.any(|one| one.typ() == LinuxNamespaceType::Cgroup && one.path().is_none());
    let mut mounts = spec.mounts().iter().flatten();
    let is_writable = mounts.any(|mount| {
        mount.destination() == Path::new("/sys/fs/cgroup")
            && !mount.options().iter().flatten().any(|option| option == "ro" || option == "rro")
    });
    let user = spec.process().as_ref()?.user().uid();
    let mappings = linux.uid_mappings().as_deref().unwrap_or_default();
    let mapped = mappings.iter().find_map(|one| {
        let offset = user.checked_sub(one.container_id()).filter(|offset| *offset < one.size())?;
        one.host_id().checked_add(offset)
    });
    let outside = if mappings.is_empty() { Some(user) } else { mapped };
    // What is made here is this user's already.
    outside.filter(|uid| is_new && is_writable && *uid != rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_user_owns_what_is_new_and_writable() {
        let whole = json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 7, "gid": 0}},
            "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"]}],
            "linux": {
                "namespaces": [{"type": "cgroup"}],
                "uidMappings": [{"containerID": 5, "hostID": 100_000, "size": 3}],
            },
        });
        let with = |pointer: &str, value: Value| {
            let mut spec = whole.clone();
            *spec.pointer_mut(pointer).unwrap() = value;
            owner(&serde_json::from_slice(spec.to_string().as_bytes()).unwrap())
        };

        assert_eq!(with("/process/user/uid", json!(7)), Some(100_002));
        assert_eq!(with("/process/user/uid", json!(8)), None);
        assert_eq!(with("/linux/uidMappings", json!([])), Some(7));
        assert_eq!(with("/mounts/0/options", json!(["nosuid", "ro"])), None);
        assert_eq!(with("/mounts", json!([])), None);
        assert_eq!(with("/linux/namespaces", json!([])), None);
        assert_eq!(with("/linux/namespaces/0", json!({"type": "cgroup", "path": "/proc/1/ns/cgroup"})), None);
    }
}
