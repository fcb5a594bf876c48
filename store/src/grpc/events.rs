//! EventService.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use strata_proto::store::v1::{WatchEventsRequest, WatchEventsResponse, event_service_server::EventService};
use strata_rpc::events::Span;
use tonic::{Request, Response, Status};

use super::{Service, moment, status};

#[tonic::async_trait]
impl EventService for Service {
    type WatchEventsStream = BoxStream<'static, Result<WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let WatchEventsRequest { since, until, after_position: after } = request.into_inner();
        let time = |field, at| moment(field, at).map(|at| at.map(Into::into)).map_err(status);
        let span = Span { since: time("since", since)?, until: time("until", until)?, after };
        let events = self.store.events.watch(span);
        let events = events.map(|event| Ok(WatchEventsResponse { event: Some((&*event).into()) }));
        let drained = self.store.drain.token().clone().cancelled_owned();
        Ok(Response::new(events.take_until(drained).boxed()))
    }
}
