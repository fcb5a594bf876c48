//! The service that every service has for its own log.

use std::path::PathBuf;

use strata_proto::access::v1::{
    AuditBreak, VerifyAuditRequest, VerifyAuditResponse,
    audit_service_server::{AuditService, AuditServiceServer},
};
use tonic::{Code, Request, Response, Status};

use super::{Error, verify};
use crate::fault::{Fault, to_status};

/// Answers for the log below a root.
#[derive(Debug, Clone)]
pub(crate) struct Auditor {
    root: PathBuf,
}

impl Auditor {
    pub(crate) fn server(root: PathBuf) -> AuditServiceServer<Self> {
        AuditServiceServer::new(Self { root })
    }
}

impl Fault for Error {
    fn code(&self) -> Code {
        match self {
            Self::File { .. } | Self::Damaged { .. } => Code::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::Damaged { .. } => "FAULT_AUDIT_UNAVAILABLE",
        }
    }
}

#[tonic::async_trait]
impl AuditService for Auditor {
    async fn verify_audit(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        let known = request.into_inner().known_head;
        let root = self.root.clone();
        let path = root.join(super::DIRECTORY);
        let read =
            tokio::task::spawn_blocking(move || verify(&root, Some(known.as_str()).filter(|head| !head.is_empty())));
        let found = match read.await {
            Ok(found) => found.map_err(|source| to_status(&Error::File { action: "read", path, source }))?,
            Err(_) => return Err(Status::internal("the check of the audit log ended early")),
        };
        let broken = found.broken.map(|at| AuditBreak { file: at.file, line: at.line, reason: at.reason });
        let path = found.path.display().to_string();
        Ok(Response::new(VerifyAuditResponse { path, records: found.records, head: found.head, broken }))
    }
}
