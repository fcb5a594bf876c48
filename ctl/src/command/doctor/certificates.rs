//! Certificates of contexts: how long they are good, and who reads their keys.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use strata_proto::runtime::v1::Finding;
use x509_parser::pem::Pem;

use super::{notice, open, problem};
use crate::contexts::Contexts;

const DAY: i64 = 24 * 3600;

/// Who renews by hand wants to know so many days before.
const SOON: i64 = 30;

/// What is to be said of the files that contexts name.
pub fn findings(contexts: &Contexts, now: Timestamp) -> Vec<Finding> {
    let files = |pick: fn(&crate::contexts::Named) -> [Option<&PathBuf>; 2]| -> BTreeSet<PathBuf> {
        contexts.contexts.values().flat_map(pick).flatten().cloned().collect()
    };
    let mut found = Vec::new();
    for path in files(|named| [named.tls_ca.as_ref(), named.tls_cert.as_ref()]) {
        found.extend(of_certificate(&path, now));
    }
    for path in files(|named| [named.tls_key.as_ref(), None]) {
        found.extend(of_key(&path));
    }
    found
}

fn of_certificate(path: &Path, now: Timestamp) -> Option<Finding> {
    let name = path.display();
    let renew = "`ctl tls issue` makes another pair of the same authority, `ctl tls init` another authority";
    let unusable = |why: String| Some(problem(format!("the certificate {name} cannot be used: {why}"), renew));
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return unusable(error.to_string()),
    };
    let pem = match Pem::iter_from_buffer(&bytes).next() {
        Some(Ok(pem)) => pem,
        _ => return unusable("it is no PEM file".to_owned()),
    };
    let certificate = match pem.parse_x509() {
        Ok(certificate) => certificate,
        Err(error) => return unusable(error.to_string()),
    };
    let (from, until) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let now = now.as_second();
    let day = |second: i64| {
        Timestamp::from_second(second).map_or_else(|_| "?".to_owned(), |at| at.strftime("%F").to_string())
    };
    if now > until {
        return Some(problem(format!("the certificate {name} has not been valid since {}", day(until)), renew));
    }
    if now < from {
        let what = format!("the certificate {name} is not valid before {}", day(from));
        return Some(problem(what, "the clock of this host, or of the one that made it, is wrong: `timedatectl`"));
    }
    let days = (until - now) / DAY;
    let what = || format!("the certificate {name} is valid for {days} days more, until {}", day(until));
    (days < SOON).then(|| notice(what(), renew))
}

/// A key that others may read is no secret.
fn of_key(path: &Path) -> Option<Finding> {
    match std::fs::metadata(path) {
        Err(error) => {
            let what = format!("the private key {} cannot be read: {error}", path.display());
            Some(problem(
                what,
                "`ctl context inspect` shows what the context names; `ctl tls issue` makes another pair",
            ))
        }
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let what = format!("others than its owner may read the private key {}", path.display());
            Some(open(what, format!("chmod 600 {}", path.display())))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::contexts::Named;

    #[test]
    fn certificates_that_end_soon_have_ended_or_are_none_are_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 12, 31));
        let key = KeyPair::generate().unwrap();
        fs::write(file("good.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(file("bad.pem"), "no certificate").unwrap();
        fs::write(file("key.pem"), key.serialize_pem()).unwrap();
        fs::set_permissions(file("key.pem"), Permissions::from_mode(0o600)).unwrap();
        let told = |certificate: &str, now: &str| {
            let named = Named { tls_cert: Some(file(certificate)), tls_key: Some(file("key.pem")), ..Named::default() };
            let contexts =
                Contexts { current: "far".to_owned(), contexts: [("far".to_owned(), named)].into_iter().collect() };
            let found = findings(&contexts, now.parse().unwrap());
            found.into_iter().map(|finding| finding.what).collect::<Vec<_>>().join("\n")
        };

        assert_eq!(told("good.pem", "2026-06-01T00:00:00Z"), "");
        assert!(told("good.pem", "2026-12-20T00:00:00Z").contains("11 days more, until 2026-12-31"));
        assert!(told("good.pem", "2027-02-01T00:00:00Z").contains("not been valid since 2026-12-31"));
        assert!(told("good.pem", "2025-02-01T00:00:00Z").contains("not valid before 2026-01-01"));
        assert!(told("bad.pem", "2026-06-01T00:00:00Z").contains("no PEM file"));
        assert!(told("absent.pem", "2026-06-01T00:00:00Z").contains("cannot be used"));
        fs::set_permissions(file("key.pem"), Permissions::from_mode(0o644)).unwrap();
        assert!(told("good.pem", "2026-06-01T00:00:00Z").contains("others than its owner"));
    }
}
