//! DeviceService.

use std::sync::Arc;

use strata_proto::runtime::v1::{self as wire, device_service_server::DeviceService};
use strata_rpc::{pages, to_status};
use tonic::{Request, Response, Status};

use super::refuse;
use crate::engine::Engine;

/// The most problems that are told.
const MAX_PROBLEMS: usize = 100;

/// The service.
pub struct Devices {
    engine: Arc<Engine>,
}

impl Devices {
    /// A service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl DeviceService for Devices {
    async fn list_devices(
        &self,
        request: Request<wire::ListDevicesRequest>,
    ) -> Result<Response<wire::ListDevicesResponse>, Status> {
        let request = request.into_inner();
        let after = pages::decode(&request.page_token).map_err(|error| to_status(&error))?.unwrap_or_default();
        let size = pages::size(request.page_size);
        let registry = self.engine.devices().await.map_err(refuse)?;
        let devices = registry.devices().filter(|(name, _)| name.as_str() > after.as_str());
        let mut page: Vec<_> = devices.take(size + 1).collect();
        let next_page_token = pages::cut(&mut page, size, |(name, _)| name.to_string());
        let devices = page.into_iter().map(|(name, device)| wire::Device {
            name: name.to_string(),
            device_class: device.class().to_owned(),
            is_auto_allowed: device.is_auto_allowed(),
            spec_path: device.path().to_string_lossy().into_owned(),
        });
        let problems = registry.problems().iter().take(MAX_PROBLEMS).map(|one| wire::DeviceProblem {
            spec_path: one.path.to_string_lossy().into_owned(),
            problem: one.problem.clone(),
        });
        Ok(Response::new(wire::ListDevicesResponse {
            devices: devices.collect(),
            next_page_token,
            problems: problems.collect(),
        }))
    }
}
