//! Ids of the process against the maps of its user namespace: what is not mapped does not exist inside.

use strata_init::plan::{IdMap, Process};

use super::{Error, invalid};

/// Checks the ids of a process that gets a user namespace with these maps; without maps all ids are the host's.
pub(super) fn check(process: &Process, uid_map: &[IdMap], gid_map: &[IdMap]) -> Result<(), Error> {
    let has = |map: &[IdMap], id: u32| {
        map.is_empty() || map.iter().any(|one| id.checked_sub(one.inside).is_some_and(|offset| offset < one.count))
    };
    for (field, map) in [("linux.uidMappings", uid_map), ("linux.gidMappings", gid_map)] {
        if !has(map, 0) {
            // strata-init sets the container up as its root.
            return Err(invalid(field, "id 0 inside must be mapped"));
        }
    }
    let unmapped = |field: String, id| Err(invalid(field, format!("{id} is not mapped into the user namespace")));
    if !has(uid_map, process.uid) {
        return unmapped("process.user.uid".to_owned(), process.uid);
    }
    if !has(gid_map, process.gid) {
        return unmapped("process.user.gid".to_owned(), process.gid);
    }
    match process.groups.iter().enumerate().find(|(_, gid)| !has(gid_map, **gid)) {
        Some((index, gid)) => unmapped(format!("process.user.additionalGids[{index}]"), *gid),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(uid: u32, gid: u32, groups: &[u32], map: &[IdMap]) -> Result<(), String> {
        let process = Process { uid, gid, groups: groups.to_vec(), ..Process::default() };
        check(&process, map, map).map_err(|error| error.to_string())
    }

    #[test]
    fn ids_that_are_not_mapped_are_refused_by_field() {
        let map = [IdMap { inside: 0, outside: 1000, count: 1 }, IdMap { inside: 5, outside: 9, count: 2 }];
        let refused = |field: &str, id: u32| Err(format!("{field}: {id} is not mapped into the user namespace"));

        assert_eq!(checked(6, 0, &[5, 6], &map), Ok(()));
        assert_eq!(checked(1, 0, &[], &map), refused("process.user.uid", 1));
        assert_eq!(checked(0, 7, &[], &map), refused("process.user.gid", 7));
        assert_eq!(checked(0, 0, &[5, 4], &map), refused("process.user.additionalGids[1]", 4));
        assert_eq!(checked(0, 0, &[], &map[1..]), Err("linux.uidMappings: id 0 inside must be mapped".to_owned()));
        assert_eq!(checked(4_000_000, 7, &[9], &[]), Ok(()));
    }
}
