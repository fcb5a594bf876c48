//! SecretService.

use std::sync::Arc;

use strata_proto::runtime::v1::{self as wire, secret_service_server::SecretService};
use strata_rpc::{pages, to_status};
use strata_types::{ContainerId, SecretName};
use tonic::{Request, Response, Status};

use super::{
    convert::{self, mounts},
    refuse,
};
use crate::{
    engine::Engine,
    error::Error,
    secret::{New, Record, Replace, Value},
};

/// The service.
pub struct SecretDoor {
    engine: Arc<Engine>,
}

impl SecretDoor {
    /// A service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    fn show(&self, record: Record) -> Option<wire::Secret> {
        let users = self.engine.users_of_secret(&record.name);
        Some(describe(record, users.iter().map(|user| &user.id)))
    }
}

#[tonic::async_trait]
impl SecretService for SecretDoor {
    async fn create_secret(
        &self,
        request: Request<wire::CreateSecretRequest>,
    ) -> Result<Response<wire::CreateSecretResponse>, Status> {
        let new = new(request.into_inner()).map_err(refuse)?;
        let record = self.engine.create_secret(new).await.map_err(refuse)?;
        Ok(Response::new(wire::CreateSecretResponse { secret: self.show(record) }))
    }

    async fn get_secret(
        &self,
        request: Request<wire::GetSecretRequest>,
    ) -> Result<Response<wire::GetSecretResponse>, Status> {
        let record = self.engine.secrets().find(&request.into_inner().secret).map_err(refuse)?;
        Ok(Response::new(wire::GetSecretResponse { secret: self.show(record) }))
    }

    async fn list_secrets(
        &self,
        request: Request<wire::ListSecretsRequest>,
    ) -> Result<Response<wire::ListSecretsResponse>, Status> {
        let request = request.into_inner();
        let after = pages::decode(&request.page_token).map_err(|error| to_status(&error))?.unwrap_or_default();
        let size = pages::size(request.page_size);
        let mut page = self.engine.secrets().page(&after, size + 1);
        let next_page_token = pages::cut(&mut page, size, |record| record.name.to_string());
        let users = self.engine.users_of_secrets();
        let show = |record: Record| {
            let users = users.get(record.name.as_str()).into_iter().flatten();
            describe(record, users)
        };
        let secrets = page.into_iter().map(show).collect();
        Ok(Response::new(wire::ListSecretsResponse { secrets, next_page_token }))
    }

    async fn read_secret(
        &self,
        request: Request<wire::ReadSecretRequest>,
    ) -> Result<Response<wire::ReadSecretResponse>, Status> {
        let record = self.engine.secrets().find(&request.into_inner().secret).map_err(refuse)?;
        let value = self.engine.read_secret(record.name).await.map_err(refuse)?;
        Ok(Response::new(wire::ReadSecretResponse { value: value.into_bytes().into() }))
    }

    async fn delete_secret(
        &self,
        request: Request<wire::DeleteSecretRequest>,
    ) -> Result<Response<wire::DeleteSecretResponse>, Status> {
        let request = request.into_inner();
        let removed = match self.engine.secrets().find(&request.secret) {
            Ok(record) => self.engine.delete_secret(record.name).await.map_err(refuse),
            Err(error) => Err(refuse(error)),
        };
        match removed {
            Err(status) if request.allow_missing && status.code() == tonic::Code::NotFound => {}
            removed => removed?,
        }
        Ok(Response::new(wire::DeleteSecretResponse {}))
    }
}

fn new(request: wire::CreateSecretRequest) -> Result<New, Error> {
    Ok(New {
        name: SecretName::parse(request.name).map_err(|invalid| Error::invalid("name", invalid))?,
        value: Value::new(request.value.to_vec())?,
        labels: mounts::labels("labels", request.labels)?,
        replace: if request.replace { Replace::Yes } else { Replace::No },
    })
}

fn describe<'a>(record: Record, users: impl Iterator<Item = &'a ContainerId>) -> wire::Secret {
    wire::Secret {
        id: record.id.to_string(),
        name: record.name.to_string(),
        labels: record.labels.into_iter().collect(),
        created_at: Some(convert::timestamp(record.created_at)),
        updated_at: Some(convert::timestamp(record.updated_at)),
        container_ids: users.map(ToString::to_string).collect(),
    }
}
