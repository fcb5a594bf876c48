//! EventService.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt};
use strata_proto::runtime::v1::{self as wire, event_service_server::EventService};
use strata_rpc::{Drain, events::Span};
use tonic::{Request, Response, Status};

use super::{convert, refuse};
use crate::engine::Engine;

/// The service.
pub struct Events {
    engine: Arc<Engine>,
    drain: Drain,
}

impl Events {
    /// A service over an engine; streams end with `drain`.
    pub fn new(engine: Arc<Engine>, drain: Drain) -> Self {
        Self { engine, drain }
    }
}

type Happenings = Pin<Box<dyn Stream<Item = Result<wire::WatchEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Happenings;

    async fn watch_events(&self, request: Request<wire::WatchEventsRequest>) -> Result<Response<Happenings>, Status> {
        let wire::WatchEventsRequest { since, until, after_position: after } = request.into_inner();
        let time = |field, at| convert::moment(field, at).map(|at| at.map(Into::into)).map_err(refuse);
        let span = Span { since: time("since", since)?, until: time("until", until)?, after };
        let events = self
            .engine
            .events()
            .watch(span)
            .map(|event| Ok(wire::WatchEventsResponse { event: Some((&*event).into()) }));
        let drained = self.drain.token().clone().cancelled_owned();
        Ok(Response::new(Box::pin(events.take_until(drained))))
    }
}
