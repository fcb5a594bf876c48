//! ContainerService.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use strata_proto::runtime::v1::{self as wire, container_service_server::ContainerService};
use strata_rpc::{Caller, Drain, pages, to_status};
use strata_types::ContainerName;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{convert, grants, refuse, stats};
use crate::{
    container::{Condition, Container},
    engine::{Engine, Lifetime, Pause, WithVolumes},
    error::Error,
    logs::{self, Line},
    signal,
    spec::Exit,
};

/// Seconds that a container has to end after its stop signal, if nobody says otherwise.
const STOP_TIMEOUT: u32 = 10;

/// Log lines on their way to a slow reader.
const LINES: usize = 64;

/// The service.
pub struct Containers {
    engine: Arc<Engine>,
    drain: Drain,
}

impl Containers {
    /// A service over an engine; streams end with `drain`.
    pub fn new(engine: Arc<Engine>, drain: Drain) -> Self {
        Self { engine, drain }
    }

    fn find(&self, text: &str) -> Result<Arc<Container>, Status> {
        self.engine.find(text).map_err(refuse)
    }

    fn show(&self, container: &Container) -> Option<wire::Container> {
        Some(convert::container(self.engine.view(container)))
    }
}

type Lines = Pin<Box<dyn Stream<Item = Result<wire::ReadLogsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ContainerService for Containers {
    async fn create_container(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Result<Response<wire::CreateContainerResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = convert::id("id", request.id).map_err(refuse)?;
        let (name, spec) = convert::spec(request.spec).map_err(refuse)?;
        grants::make(&caller, &self.engine, &spec)?;
        let container = self.engine.create(id, name, spec, Lifetime::Kept).await.map_err(refuse)?;
        let warnings = self.engine.warnings(&container).await;
        let container = self.show(&container);
        Ok(Response::new(wire::CreateContainerResponse { container, warnings }))
    }

    async fn start_container(
        &self,
        request: Request<wire::StartContainerRequest>,
    ) -> Result<Response<wire::StartContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let size = convert::size(request.terminal_size).map_err(refuse)?.unwrap_or_default();
        self.engine.start(&container, size, None).await.map_err(refuse)?;
        Ok(Response::new(wire::StartContainerResponse { container: self.show(&container) }))
    }

    async fn get_container(
        &self,
        request: Request<wire::GetContainerRequest>,
    ) -> Result<Response<wire::GetContainerResponse>, Status> {
        let container = self.find(&request.into_inner().container)?;
        Ok(Response::new(wire::GetContainerResponse { container: self.show(&container) }))
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<wire::ListContainersResponse>, Status> {
        let request = request.into_inner();
        let after = pages::decode(&request.page_token).map_err(|error| to_status(&error))?.unwrap_or_default();
        let size = pages::size(request.page_size);
        let mut page = self.engine.page(&after, size + 1, request.all);
        let next_page_token = pages::cut(&mut page, size, |container| container.id.to_string());
        let containers = page.iter().map(|container| convert::container(self.engine.view(container))).collect();
        Ok(Response::new(wire::ListContainersResponse { containers, next_page_token }))
    }

    async fn stop_container(
        &self,
        request: Request<wire::StopContainerRequest>,
    ) -> Result<Response<wire::StopContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let (timeout, number) = ending(&container, request.timeout, &request.signal).map_err(refuse)?;
        self.engine.stop(&container, timeout, number).await.map_err(refuse)?;
        Ok(Response::new(wire::StopContainerResponse { container: self.show(&container) }))
    }

    async fn restart_container(
        &self,
        request: Request<wire::RestartContainerRequest>,
    ) -> Result<Response<wire::RestartContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let (timeout, number) = ending(&container, request.timeout, &request.signal).map_err(refuse)?;
        self.engine.restart(&container, timeout, number).await.map_err(refuse)?;
        Ok(Response::new(wire::RestartContainerResponse { container: self.show(&container) }))
    }

    async fn rename_container(
        &self,
        request: Request<wire::RenameContainerRequest>,
    ) -> Result<Response<wire::RenameContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let name = ContainerName::parse(request.name)
            .map_err(|invalid| refuse(Error::argument("name", invalid.to_string())))?;
        self.engine.rename(container.clone(), name).await.map_err(refuse)?;
        Ok(Response::new(wire::RenameContainerResponse { container: self.show(&container) }))
    }

    async fn kill_container(
        &self,
        request: Request<wire::KillContainerRequest>,
    ) -> Result<Response<wire::KillContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let text = if request.signal.is_empty() { "KILL" } else { &request.signal };
        let number = signal::parse("signal", text).map_err(refuse)?;
        self.engine.kill(&container, number).await.map_err(refuse)?;
        Ok(Response::new(wire::KillContainerResponse {}))
    }

    async fn pause_container(
        &self,
        request: Request<wire::PauseContainerRequest>,
    ) -> Result<Response<wire::PauseContainerResponse>, Status> {
        let container = self.find(&request.into_inner().container)?;
        self.engine.pause(container.clone()).await.map_err(refuse)?;
        Ok(Response::new(wire::PauseContainerResponse { container: self.show(&container) }))
    }

    async fn unpause_container(
        &self,
        request: Request<wire::UnpauseContainerRequest>,
    ) -> Result<Response<wire::UnpauseContainerResponse>, Status> {
        let container = self.find(&request.into_inner().container)?;
        self.engine.unpause(container.clone()).await.map_err(refuse)?;
        Ok(Response::new(wire::UnpauseContainerResponse { container: self.show(&container) }))
    }

    async fn update_container(
        &self,
        request: Request<wire::UpdateContainerRequest>,
    ) -> Result<Response<wire::UpdateContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let update = convert::update(request).map_err(refuse)?;
        self.engine.update(container.clone(), update).await.map_err(refuse)?;
        Ok(Response::new(wire::UpdateContainerResponse { container: self.show(&container) }))
    }

    async fn delete_container(
        &self,
        request: Request<wire::DeleteContainerRequest>,
    ) -> Result<Response<wire::DeleteContainerResponse>, Status> {
        let request = request.into_inner();
        let container = match self.engine.find(&request.container) {
            Err(Error::NotFound { .. }) if request.allow_missing => {
                return Ok(Response::new(wire::DeleteContainerResponse { id: String::new() }));
            }
            result => result.map_err(refuse)?,
        };
        let id = container.id.to_string();
        let volumes = if request.volumes { WithVolumes::Yes } else { WithVolumes::No };
        self.engine.delete(container, request.force, volumes).await.map_err(refuse)?;
        Ok(Response::new(wire::DeleteContainerResponse { id }))
    }

    async fn mount_in_container(
        &self,
        request: Request<wire::MountInContainerRequest>,
    ) -> Result<Response<wire::MountInContainerResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let mount = convert::mounts::added(request.mount).map_err(refuse)?;
        grants::mount(&caller, &mount)?;
        self.engine.mount(container.clone(), mount).await.map_err(refuse)?;
        Ok(Response::new(wire::MountInContainerResponse { container: self.show(&container) }))
    }

    async fn unmount_in_container(
        &self,
        request: Request<wire::UnmountInContainerRequest>,
    ) -> Result<Response<wire::UnmountInContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let target = convert::path("target", &request.target).map_err(refuse)?;
        self.engine.unmount(container.clone(), target).await.map_err(refuse)?;
        Ok(Response::new(wire::UnmountInContainerResponse { container: self.show(&container) }))
    }

    async fn read_processes(
        &self,
        request: Request<wire::ReadProcessesRequest>,
    ) -> Result<Response<wire::ReadProcessesResponse>, Status> {
        let wire::ReadProcessesRequest { container, ps_args } = request.into_inner();
        convert::texts("ps_args", &ps_args).map_err(refuse)?;
        let container = self.find(&container)?;
        let table = self.engine.processes(&container, ps_args).await.map_err(refuse)?;
        let processes = table.rows.into_iter().map(|cells| wire::ProcessRow { cells }).collect();
        Ok(Response::new(wire::ReadProcessesResponse { titles: table.titles, processes }))
    }

    async fn prune_containers(
        &self,
        request: Request<wire::PruneContainersRequest>,
    ) -> Result<Response<wire::PruneContainersResponse>, Status> {
        let request = request.into_inner();
        let before = convert::moment("before", request.before).map_err(refuse)?;
        let labels = convert::label_conditions("labels", request.labels).map_err(refuse)?;
        Ok(Response::new(wire::PruneContainersResponse { deleted: self.engine.prune(before, &labels).await }))
    }

    async fn wait_container(
        &self,
        request: Request<wire::WaitContainerRequest>,
    ) -> Result<Response<wire::WaitContainerResponse>, Status> {
        let request = request.into_inner();
        let condition = match wire::WaitCondition::try_from(request.condition) {
            Ok(wire::WaitCondition::Unspecified | wire::WaitCondition::NotRunning) => Some(Condition::NotRunning),
            Ok(wire::WaitCondition::NextExit) => Some(Condition::NextExit),
            Ok(wire::WaitCondition::Removed) => Some(Condition::Removed),
            Ok(wire::WaitCondition::Healthy) => None,
            Err(_) => return Err(refuse(Error::argument("condition", "there is no such condition"))),
        };
        let container = self.find(&request.container)?;
        let waiting = async {
            match condition {
                Some(condition) => Ok(container.wait(condition).await),
                None => container.healthy().await.map(|()| Exit::code(0)),
            }
        };
        let exit = tokio::select! {
            exit = waiting => exit.map_err(refuse)?,
            () = self.drain.cancelled() => return Err(Status::unavailable("the runtime is stopping; ask again")),
        };
        Ok(Response::new(wire::WaitContainerResponse { exit: Some(convert::exit(exit)) }))
    }

    async fn commit_container(
        &self,
        request: Request<wire::CommitContainerRequest>,
    ) -> Result<Response<wire::CommitContainerResponse>, Status> {
        let wire::CommitContainerRequest { container, lease_id, pause } = request.into_inner();
        if lease_id.is_empty() {
            return Err(refuse(Error::argument("lease_id", "it is missing")));
        }
        let pause = if pause { Pause::Yes } else { Pause::No };
        let layer_id = self.engine.commit(self.find(&container)?, lease_id, pause).await.map_err(refuse)?;
        Ok(Response::new(wire::CommitContainerResponse { layer_id }))
    }

    type ReadLogsStream = Lines;

    async fn read_logs(&self, request: Request<wire::ReadLogsRequest>) -> Result<Response<Lines>, Status> {
        let request = request.into_inner();
        let container = self.find(&request.container)?;
        let wish = super::logs::wish(&request).map_err(refuse)?;
        let (follow, with_attributes) = (request.follow, request.with_attributes);
        let path = self.engine.log_file(&container).map_err(refuse)?;
        let (sender, receiver) = mpsc::channel(LINES);
        let drain = self.drain.clone();
        tokio::spawn(async move {
            let reading = logs::read(path, wish, follow.then_some(container), &sender);
            tokio::select! {
                result = reading => if let Err(error) = result {
                    let _reader_is_gone = sender.send(Err(error)).await;
                },
                () = sender.closed() => {}
                () = drain.cancelled() => {}
            }
        });
        let wire_line = move |line: Line| super::logs::wire_line(line, with_attributes);
        let lines = ReceiverStream::new(receiver).map(move |line| line.map(wire_line).map_err(refuse));
        Ok(Response::new(Box::pin(lines)))
    }

    async fn clear_logs(
        &self,
        request: Request<wire::ClearLogsRequest>,
    ) -> Result<Response<wire::ClearLogsResponse>, Status> {
        let container = self.find(&request.into_inner().container)?;
        self.engine.clear_log(&container).await.map_err(refuse)?;
        Ok(Response::new(wire::ClearLogsResponse {}))
    }

    type WatchStatsStream = ReceiverStream<Result<wire::WatchStatsResponse, Status>>;

    async fn watch_stats(
        &self,
        request: Request<wire::WatchStatsRequest>,
    ) -> Result<Response<Self::WatchStatsStream>, Status> {
        let wire::WatchStatsRequest { containers, all, interval } = request.into_inner();
        let interval = stats::interval(interval).map_err(refuse)?;
        let named = containers.iter().map(|name| self.find(name)).collect::<Result<Vec<_>, _>>()?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(stats::watch(self.engine.clone(), named, all, interval, sender, self.drain.clone()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// How a container is asked to end: the time it has, and the signal if it is not its own.
fn ending(
    container: &Container,
    timeout: Option<prost_types::Duration>,
    signal: &str,
) -> Result<(Duration, Option<i32>), Error> {
    let timeout = match timeout {
        None => Duration::from_secs(container.record().spec.stop_timeout_seconds.unwrap_or(STOP_TIMEOUT).into()),
        Some(timeout) => {
            Duration::try_from(timeout).map_err(|_| Error::argument("timeout", "it is negative or not a duration"))?
        }
    };
    let number = if signal.is_empty() { None } else { Some(signal::parse("signal", signal)?) };
    Ok((timeout, number))
}
