//! SystemService.

use std::sync::Arc;

use strata_proto::{
    runtime::v1::{
        DiagnoseRequest, DiagnoseResponse, Finding, FindingKind, GetInfoRequest, GetInfoResponse, ResetRequest,
        ResetResponse, system_service_server::SystemService,
    },
    types::v1::{Fact, ServiceInfo},
};
use strata_types::Platform;
use tonic::{Request, Response, Status};

use super::refuse;
use crate::{
    doctor::{self, Kind},
    engine::{Counts, Engine, Removed},
};

/// The service.
pub struct System {
    engine: Arc<Engine>,
}

impl System {
    /// A service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl SystemService for System {
    async fn get_info(&self, _request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let Counts { running, paused, stopped } = self.engine.count();
        let (host, memory) = (rustix::system::uname(), rustix::system::sysinfo());
        let facts = [
            ("Containers", (running + paused + stopped).to_string()),
            ("Running", running.to_string()),
            ("Paused", paused.to_string()),
            ("Stopped", stopped.to_string()),
            ("Logging Driver", self.engine.config().file.logs.driver.to_string()),
            ("Default Network", self.engine.default_network().to_owned()),
            ("Cgroup Version", self.engine.cgroup_version().to_owned()),
            ("Kernel Version", host.release().to_string_lossy().into_owned()),
            ("Operating System", doctor::operating_system()),
            ("OS Type", "linux".to_owned()),
            ("Architecture", Platform::host().architecture),
            ("CPUs", std::thread::available_parallelism().map_or(0, usize::from).to_string()),
            ("Total Memory", (memory.totalram * u64::from(memory.mem_unit)).to_string()),
            ("Host Name", host.nodename().to_string_lossy().into_owned()),
        ];
        let facts = facts.map(|(label, value)| Fact { label: label.to_owned(), value }).into();
        let info = ServiceInfo {
            name: "runtime".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            root_path: self.engine.config().root.to_string_lossy().into_owned(),
            facts,
        };
        let default_network = self.engine.default_network().to_owned();
        Ok(Response::new(GetInfoResponse { info: Some(info), default_network }))
    }

    async fn diagnose(&self, _request: Request<DiagnoseRequest>) -> Result<Response<DiagnoseResponse>, Status> {
        let findings = doctor::findings(&self.engine).await.map_err(refuse)?;
        let wire = |finding: doctor::Finding| Finding {
            kind: match finding.kind {
                Kind::Open => FindingKind::Open,
                Kind::Notice => FindingKind::Notice,
                Kind::Problem => FindingKind::Problem,
            }
            .into(),
            what: finding.what,
            fix: finding.fix,
        };
        Ok(Response::new(DiagnoseResponse { findings: findings.into_iter().map(wire).collect() }))
    }

    async fn reset(&self, _request: Request<ResetRequest>) -> Result<Response<ResetResponse>, Status> {
        let Removed { containers, volumes, networks } = self.engine.reset().await.map_err(refuse)?;
        let (containers, volumes, networks) = (containers as u64, volumes as u64, networks as u64);
        Ok(Response::new(ResetResponse { containers, volumes, networks }))
    }
}
