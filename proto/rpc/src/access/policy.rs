//! The rules, ready to be asked: from a peer to a caller with a role.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    caller::{Caller, Grants},
    config::{Audited, Config, Error},
    role::{Grant, Role},
};
use crate::identity::Peer;

/// The id that the kernel shows for users that a namespace does not know: it may be anybody.
const OVERFLOW: u32 = 65534;

/// Who has which role.
#[derive(Debug, Clone)]
pub struct Policy {
    config: Config,
    users: BTreeMap<u32, Role>,
    owner: u32,
}

impl Policy {
    /// The rules of a configuration. Names of users are looked up once, now.
    pub fn new(config: Config) -> Result<Self, Error> {
        let mut users = BTreeMap::new();
        for (user, &role) in &config.users {
            users.insert(id_of(user).ok_or_else(|| Error::UnknownUser { user: user.clone() })?, role);
        }
        let is_name = |subject: &str| subject.contains("://") || subject.starts_with("dns:");
        if let Some(subject) = config.subjects.keys().find(|subject| !is_name(subject)) {
            return Err(Error::UnknownSubject { table: "subjects", subject: subject.clone(), more: "" });
        }
        let is_holder = |subject: &str| is_name(subject) || is_user(subject) || Role::parse(subject).is_some();
        if let Some(subject) = config.grants.keys().find(|subject| !is_holder(subject)) {
            let more = ", user:ID nor a role";
            return Err(Error::UnknownSubject { table: "grants", subject: subject.clone(), more });
        }
        Ok(Self { config, users, owner: rustix::process::geteuid().as_raw() })
    }

    /// Whether others than the owner of the service may come over the Unix socket.
    pub(super) fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// The caller that this peer is. One that nothing is known of has no role.
    pub(super) fn caller(&self, peer: Option<&Peer>) -> Caller {
        let (subject, role) = match peer {
            Some(Peer::Local { uid, .. }) => (format!("user:{uid}"), self.local(*uid)),
            Some(Peer::Remote { names }) => self.remote(names),
            None => ("somebody without a name".to_owned(), None),
        };
        let is_owner = matches!(peer, Some(Peer::Local { uid, .. }) if *uid == self.owner && *uid != OVERFLOW);
        let grants = match role {
            Some(Role::Admin) => Grants::All,
            Some(role) => Grants::These(self.grants(&subject).chain(self.grants(role.name())).collect()),
            None => Grants::These(BTreeSet::new()),
        };
        let is_audited = self.config.audit == Audited::All || !is_owner;
        Caller { subject, role, grants, is_audited, entry: None }
    }

    fn local(&self, uid: u32) -> Option<Role> {
        if uid == OVERFLOW {
            return None;
        }
        if uid == self.owner { Some(Role::Admin) } else { self.users.get(&uid).copied() }
    }

    /// The first name that the configuration knows decides, else the first that carries a role.
    fn remote(&self, names: &[String]) -> (String, Option<Role>) {
        let known = names.iter().find_map(|name| Some((name, self.config.subjects.get(name)?.0)));
        let carried = || names.iter().find_map(|name| Some((name, Some(self.carried(name)?))));
        let unknown = || (names.first().cloned().unwrap_or_else(|| "a certificate without a name".to_owned()), None);
        known.or_else(carried).map_or_else(unknown, |(name, role)| (name.clone(), role))
    }

    /// The role in `spiffe://DOMAIN/ROLE/NAME`.
    fn carried(&self, name: &str) -> Option<Role> {
        let (domain, path) = name.strip_prefix("spiffe://")?.split_once('/')?;
        let (role, rest) = path.split_once('/')?;
        if domain != self.config.trust_domain || rest.is_empty() {
            return None;
        }
        Role::parse(role)
    }

    fn grants(&self, holder: &str) -> impl Iterator<Item = Grant> {
        self.config.grants.get(holder).into_iter().flatten().copied()
    }
}

fn is_user(subject: &str) -> bool {
    subject.strip_prefix("user:").is_some_and(|id| id.parse::<u32>().is_ok())
}

/// A number is an id, everything else a name.
fn id_of(user: &str) -> Option<u32> {
    if let Ok(id) = user.parse() {
        return Some(id);
    }
    nix::unistd::User::from_name(user).ok().flatten().map(|found| found.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::new(toml::from_str(text).unwrap()).unwrap()
    }

    fn remote(names: &[&str]) -> Peer {
        Peer::Remote { names: names.iter().map(|&name| name.to_owned()).collect() }
    }

    #[test]
    fn the_owner_is_admin_and_other_users_are_what_the_configuration_says() {
        let policy = policy("[users]\n4711 = \"viewer\"\nnobody = \"admin\"");
        let role = |uid| policy.caller(Some(&Peer::Local { uid, pid: None })).role;

        assert_eq!(role(rustix::process::geteuid().as_raw()), Some(Role::Admin));
        assert_eq!((role(4711), role(4712)), (Some(Role::Viewer), None));
        assert_eq!(role(OVERFLOW), None, "who a namespace does not know may be anybody");
        assert_eq!(policy.caller(None).role, None);
    }

    #[test]
    fn a_certificate_carries_its_role_and_the_configuration_is_above_it() {
        let plain = policy("");
        for (names, role) in [
            (&["spiffe://strata/viewer/bob"][..], Some(Role::Viewer)),
            (&["dns:host", "spiffe://strata/admin/root/x"], Some(Role::Admin)),
            (&["spiffe://other/admin/bob"], None),
            (&["spiffe://strata/admin/"], None),
            (&["spiffe://strata/admin"], None),
            (&["spiffe://strata/Admin/bob"], None),
            (&["spiffe://strata//admin/bob"], None),
            (&["https://strata/admin/bob"], None),
            (&["dns:admin"], None),
            (&[], None),
        ] {
            assert_eq!(plain.caller(Some(&remote(names))).role, role, "{names:?}");
        }
        let strict = policy(
            "trust_domain = \"fleet\"\n[subjects]\n\"spiffe://fleet/admin/old\" = \"none\"\n\"dns:ci\" = \"builder\"",
        );
        assert_eq!(strict.caller(Some(&remote(&["spiffe://fleet/admin/old"]))).role, None);
        assert_eq!(strict.caller(Some(&remote(&["spiffe://fleet/admin/new"]))).role, Some(Role::Admin));
        let both = strict.caller(Some(&remote(&["spiffe://fleet/admin/new", "dns:ci"])));
        assert_eq!((both.subject.as_str(), both.role), ("dns:ci", Some(Role::Builder)));
        assert_eq!(strict.caller(Some(&remote(&["spiffe://strata/admin/x"]))).role, None);
    }

    /// CVE-2026-33997, row 126: sets are compared as sets, whatever their order, with one element too.
    #[test]
    fn grants_are_those_of_the_subject_and_of_its_role_and_no_others() {
        for mask in 0_u8..16 {
            let chosen: BTreeSet<Grant> = Grant::ALL
                .into_iter()
                .enumerate()
                .filter(|(at, _)| mask >> at & 1 == 1)
                .map(|(_, grant)| grant)
                .collect();
            let named =
                |grants: &[Grant]| grants.iter().map(|grant| format!("\"{grant}\"")).collect::<Vec<_>>().join(", ");
            let mut backwards: Vec<Grant> = chosen.iter().rev().copied().collect();
            let of_role: Vec<Grant> = backwards.drain(..backwards.len() / 2).collect();
            let text = format!(
                "[grants]\noperator = [{}]\n\"spiffe://strata/operator/x\" = [{}]\n\"spiffe://strata/operator/y\" = [\"privileged\"]",
                named(&of_role),
                named(&backwards)
            );
            let caller = policy(&text).caller(Some(&remote(&["spiffe://strata/operator/x"])));
            for grant in Grant::ALL {
                let allowed = caller.require(grant, "something").is_ok();
                assert_eq!(allowed, chosen.contains(&grant), "{grant} of {chosen:?}");
            }
        }
    }

    #[test]
    fn an_admin_has_every_grant_and_who_has_no_role_none() {
        let policy = policy("[subjects]\n\"dns:x\" = \"none\"\n[grants]\n\"dns:x\" = [\"privileged\"]");
        let admin = policy.caller(Some(&remote(&["spiffe://strata/admin/x"])));
        let nobody = policy.caller(Some(&remote(&["dns:x"])));
        for grant in Grant::ALL {
            assert!(admin.require(grant, "something").is_ok());
            assert!(nobody.require(grant, "something").is_err());
        }
    }

    #[test]
    fn names_that_nobody_can_have_are_refused_at_the_start() {
        for wrong in [
            "[users]\n\"no such user\" = \"viewer\"",
            "[subjects]\nbob = \"viewer\"",
            "[grants]\nbob = [\"devices\"]",
            "[grants]\n\"user:bob\" = [\"devices\"]",
        ] {
            assert!(Policy::new(toml::from_str(wrong).unwrap()).is_err(), "{wrong}");
        }
    }
}
