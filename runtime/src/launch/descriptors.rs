//! How many descriptors this service may have: as many as it may take, since each container takes some. Its containers get what
//! this service was given: the limit of each process of theirs is nobody's to raise unasked.

use std::sync::OnceLock;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of this service, once. Returns what it was.
pub fn raise() -> Rlimit {
    static GIVEN: OnceLock<Rlimit> = OnceLock::new();
    *GIVEN.get_or_init(|| {
        let given = getrlimit(Resource::Nofile);
        // Should it fail, whoever finds no descriptor says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: given.maximum, maximum: given.maximum });
        given
    })
}

/// The limits of a container's processes: those asked for, and of descriptors the one that was given, unless it is among them.
pub fn limits(asked: &[PosixRlimit], given: Rlimit) -> Vec<PosixRlimit> {
    let kind = PosixRlimitType::RlimitNofile;
    let mut limits = asked.to_vec();
    // Without a number there is no limit, and none to lower to.
    if let (Some(soft), Some(hard)) = (given.current, given.maximum)
        && soft < hard
        && !asked.iter().any(|limit| limit.typ() == kind)
    {
        limits.extend(PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build());
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_given_is_kept_unless_another_is_asked_for() {
        let given = Rlimit { current: Some(1024), maximum: Some(4096) };
        let of = |kind, soft: u64| PosixRlimitBuilder::default().typ(kind).soft(soft).hard(9000_u64).build().unwrap();
        let shown = |limits: Vec<PosixRlimit>| limits.iter().map(|one| (one.typ(), one.soft())).collect::<Vec<_>>();
        use PosixRlimitType::{RlimitCore, RlimitNofile};

        assert_eq!(shown(limits(&[], given)), [(RlimitNofile, 1024)]);
        assert_eq!(shown(limits(&[of(RlimitCore, 0)], given)), [(RlimitCore, 0), (RlimitNofile, 1024)]);
        assert_eq!(shown(limits(&[of(RlimitNofile, 7)], given)), [(RlimitNofile, 7)]);
        assert!(limits(&[], Rlimit { current: Some(4096), maximum: Some(4096) }).is_empty());
    }
}
