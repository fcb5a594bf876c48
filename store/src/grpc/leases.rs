//! LeaseService.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use strata_proto::store::v1::{
    DeleteLeaseRequest, DeleteLeaseResponse, HoldLeaseRequest, HoldLeaseResponse, Lease, ListLeasesRequest,
    ListLeasesResponse, lease_service_server::LeaseService,
};
use tonic::{Request, Response, Status};

use super::{Service, lease_id, page, status, timestamp};
use crate::Error;
use crate::catalog::LeaseRow;
use crate::lease::{GRACE, Session};

impl From<&LeaseRow> for Lease {
    fn from(row: &LeaseRow) -> Self {
        Self {
            id: row.id.to_string(),
            holder: row.holder.clone(),
            created_at: Some(timestamp(row.created)),
            expires_at: row.expires.map(timestamp),
        }
    }
}

#[tonic::async_trait]
impl LeaseService for Service {
    type HoldLeaseStream = BoxStream<'static, Result<HoldLeaseResponse, Status>>;

    async fn hold_lease(&self, request: Request<HoldLeaseRequest>) -> Result<Response<Self::HoldLeaseStream>, Status> {
        let HoldLeaseRequest { holder, grace } = request.into_inner();
        let grace = match grace {
            None => GRACE,
            Some(grace) => {
                Duration::try_from(grace).map_err(|_| status(Error::invalid("grace", "it must not be negative")))?
            }
        };
        let session = Session::begin(&self.store, &holder, grace).await.map_err(status)?;
        let first = HoldLeaseResponse { lease: Some(session.lease().into()) };
        // The client dropping the stream drops the session, and so does the stop of the service.
        let drain = self.store.drain.clone();
        let rest = futures_util::stream::once(async move {
            drain.cancelled().await;
            drop(session);
            Err(Status::unavailable("the store is stopping; the lease lives on for its grace"))
        });
        Ok(Response::new(futures_util::stream::iter([Ok(first)]).chain(rest).boxed()))
    }

    async fn delete_lease(
        &self,
        request: Request<DeleteLeaseRequest>,
    ) -> Result<Response<DeleteLeaseResponse>, Status> {
        let DeleteLeaseRequest { lease_id: text, allow_missing } = request.into_inner();
        let id = lease_id(&text).map_err(status)?;
        let existed = self.store.catalog.delete_lease(&id).await.map_err(status)?;
        if !existed && !allow_missing {
            return Err(status(Error::LeaseNotFound { id }));
        }
        self.store.collector.wake();
        Ok(Response::new(DeleteLeaseResponse {}))
    }

    async fn list_leases(&self, request: Request<ListLeasesRequest>) -> Result<Response<ListLeasesResponse>, Status> {
        let (after, size) = page(&request.get_ref().page_token, request.get_ref().page_size)?;
        let mut rows = self.store.catalog.leases(&after, size + 1).await.map_err(status)?;
        let next_page_token = strata_rpc::pages::cut(&mut rows, size, |row| row.id.to_string());
        Ok(Response::new(ListLeasesResponse { leases: rows.iter().map(Lease::from).collect(), next_page_token }))
    }
}
