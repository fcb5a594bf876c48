//! Who may do what. The kernel or a certificate names the caller, the caller has one role, a role has permissions, and
//! every method declares the permission that it needs. What is dangerous within a method is a grant of its own, which the
//! handler asks for with the message that it acts on: no second parser reads it. Whatever is not allowed is refused.

pub mod audit;
mod caller;
mod config;
mod layer;
mod policy;
mod role;

use std::{path::Path, sync::Arc};

use strata_proto::types::v1::Permission;

pub use caller::{Caller, Denied};
pub use config::{Audited, Config, Error};
pub(crate) use layer::{AccessLayer, is_standard};
pub use policy::Policy;
pub use role::{Grant, Role};

/// What a service serves, and which permission each method needs.
#[derive(Debug, Clone, Copy)]
pub struct Surface {
    /// Descriptor set that reflection serves.
    pub descriptors: &'static [u8],
    /// The permission of a method by its path; `None`: there is no such method, and nothing else is asked.
    pub permission: fn(&str) -> Option<Permission>,
}

impl Surface {
    /// The services of Strata.
    pub const STRATA: Self = Self { descriptors: strata_proto::DESCRIPTORS, permission: strata_proto::permission };
}

/// The rules of one service, and the log of what came of them.
#[derive(Debug, Clone)]
pub struct Access {
    policy: Arc<Policy>,
    log: Arc<audit::Log>,
}

impl Access {
    /// These rules, with the audit log in `root`. Nothing is written before there is something to record.
    pub fn new(service: &'static str, policy: Policy, root: &Path) -> Self {
        Self { policy: Arc::new(policy), log: Arc::new(audit::Log::new(service, root)) }
    }

    /// Whether others than the owner of the service may come over the Unix socket.
    pub(crate) fn has_users(&self) -> bool {
        self.policy.has_users()
    }
}
