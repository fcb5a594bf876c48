//! The audit log: one line of JSON per decision, each with the hash of the one before it, so that a change shows. Lines are
//! added and never changed; a full file is set aside under the number of its first record.

mod log;
mod service;
mod verify;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use serde::Serialize;
use strata_proto::types::v1::Permission;
use tonic::Code;

pub use log::Log;
pub(crate) use service::Auditor;
pub use verify::{Break, Findings, verify};

use super::role::{Grant, Role};
use crate::fault::code_name;

/// Name of the directory of the log below a service's root.
pub const DIRECTORY: &str = "audit";

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it.
    #[error("cannot {action} the audit log {path}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its last whole line is no record, so that none can follow.
    #[error("the audit log {path} does not end with a record: move it away to begin another", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// Who asks for what.
#[derive(Debug)]
pub(super) struct Subject {
    pub request: String,
    pub subject: String,
    pub role: Option<Role>,
    pub peer: String,
    pub method: String,
    pub permission: Permission,
}

/// One decision, as it is written. The hash follows as the last field.
#[derive(Debug, Serialize)]
struct Record<'a> {
    sequence: u64,
    time: String,
    service: &'a str,
    request: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    peer: &'a str,
    method: &'a str,
    permission: &'static str,
    decision: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<u64>,
    previous: &'a str,
}

/// A record that has no place in the log yet.
#[derive(Debug)]
struct Draft<'a> {
    subject: &'a Subject,
    decision: Decision,
    dangerous: Option<(Grant, &'a str)>,
    code: Option<Code>,
    milliseconds: Option<u64>,
}

impl<'a> Draft<'a> {
    /// The record with its number, after the one with the hash `previous`.
    fn at(&self, sequence: u64, service: &'a str, previous: &'a str) -> Record<'a> {
        let subject = self.subject;
        Record {
            sequence,
            time: jiff::Timestamp::now().to_string(),
            service,
            request: &subject.request,
            subject: &subject.subject,
            role: subject.role.map(Role::name),
            peer: &subject.peer,
            method: &subject.method,
            permission: subject.permission.as_str_name(),
            decision: self.decision,
            grant: self.dangerous.map(|(grant, _)| grant.name()),
            what: self.dangerous.map(|(_, what)| what),
            code: self.code.map(code_name),
            milliseconds: self.milliseconds,
            previous,
        }
    }
}

/// What was decided, or what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    /// The method may be called. Written before it is, unless it only looks.
    Allowed,
    /// It may not.
    Denied,
    /// What takes a grant may be done. Written before it is.
    Granted,
    /// It may not.
    Refused,
    /// The call is over.
    Ended,
}

/// A request on its way. Clones are the same request; when the last goes without an end, the caller went away.
#[derive(Debug, Clone)]
pub struct Entry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Arc<Log>,
    subject: Subject,
    began: Instant,
    is_open: AtomicBool,
}

impl Entry {
    /// Records what was decided of the method. Of one that only looks the end says all.
    pub(super) fn begun(&self, permitted: bool) -> Result<(), Error> {
        self.inner.is_open.store(permitted, Ordering::Relaxed);
        match (permitted, self.inner.subject.permission) {
            (false, _) => self.inner.write(Decision::Denied, None, None),
            (true, Permission::View) => Ok(()),
            (true, _) => self.inner.write(Decision::Allowed, None, None),
        }
    }

    /// Records what was decided of something within the request.
    pub(super) fn granted(&self, grant: Grant, what: &str, is_granted: bool) -> Result<(), Error> {
        let decision = if is_granted { Decision::Granted } else { Decision::Refused };
        self.inner.write(decision, Some((grant, what)), None)
    }

    /// Records the end. The call is over: that it cannot be recorded is told in the service's own log.
    pub(crate) fn ended(&self, code: Code) {
        self.inner.end(code);
    }
}

impl Inner {
    fn end(&self, code: Code) {
        if !self.is_open.swap(false, Ordering::Relaxed) {
            return;
        }
        let is_look = self.subject.permission == Permission::View;
        let decision = if is_look { Decision::Allowed } else { Decision::Ended };
        if let Err(error) = self.write(decision, None, Some(code)) {
            tracing::error!("{}", crate::fault::chain(&error));
        }
    }

    fn write(&self, decision: Decision, dangerous: Option<(Grant, &str)>, code: Option<Code>) -> Result<(), Error> {
        let milliseconds = code.map(|_| u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.log.append(&Draft { subject: &self.subject, decision, dangerous, code, milliseconds })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests;
