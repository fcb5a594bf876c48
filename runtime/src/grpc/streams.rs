//! StreamService: attach, exec, run. Each call is one task that owns both directions; a client who goes away is
//! noticed by the closed response channel.

use std::{future::Future, sync::Arc, time::Duration};

use strata_proto::runtime::v1::{
    self as wire, attach_request, attach_response, exec_request, exec_response, input, output, run_request,
    run_response, stream_service_server::StreamService,
};
use strata_rpc::{Caller, Drain};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{convert, grants, refuse};
use crate::{
    container::Container,
    engine::{Engine, Exec, Lifetime, WithVolumes},
    error::Error,
    signal,
    stream::{Attachment, Input, Output, Pace, Wish},
};

/// Messages on their way to a client.
const MESSAGES: usize = 32;

type Answers<R> = mpsc::Sender<Result<R, Status>>;

/// The service.
pub struct Streams {
    engine: Arc<Engine>,
    drain: Drain,
}

/// What ended the flow of a stream.
enum Over {
    /// The process ended.
    Output,
    /// The monitor let go of us.
    Lost,
    /// The client leaves the process alone.
    Detached,
    /// The client is gone, or this service is stopping.
    Client,
}

impl Streams {
    /// A service over an engine; streams end with `drain`.
    pub fn new(engine: Arc<Engine>, drain: Drain) -> Self {
        Self { engine, drain }
    }

    /// Runs a call in a task of its own and answers with what it sends.
    fn answer<R, F>(&self, call: impl FnOnce(Answers<R>) -> F) -> Response<ReceiverStream<Result<R, Status>>>
    where
        R: Send + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(MESSAGES);
        let call = call(sender.clone());
        self.drain.spawn(async move {
            if let Err(status) = call.await {
                let _client_is_gone = sender.send(Err(status)).await;
            }
        });
        Response::new(ReceiverStream::new(receiver))
    }
}

#[tonic::async_trait]
impl StreamService for Streams {
    type AttachStream = ReceiverStream<Result<wire::AttachResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let caller = Caller::of(&request)?;
        let (engine, drain, requests) = (self.engine.clone(), self.drain.clone(), request.into_inner());
        Ok(self.answer(|answers| attach(caller, engine, drain, requests, answers)))
    }

    type ExecStream = ReceiverStream<Result<wire::ExecResponse, Status>>;

    async fn exec(&self, request: Request<Streaming<wire::ExecRequest>>) -> Result<Response<Self::ExecStream>, Status> {
        let caller = Caller::of(&request)?;
        let (engine, drain, requests) = (self.engine.clone(), self.drain.clone(), request.into_inner());
        Ok(self.answer(|answers| exec(caller, engine, drain, requests, answers)))
    }

    type RunStream = ReceiverStream<Result<wire::RunResponse, Status>>;

    async fn run(&self, request: Request<Streaming<wire::RunRequest>>) -> Result<Response<Self::RunStream>, Status> {
        let caller = Caller::of(&request)?;
        let (engine, drain, requests) = (self.engine.clone(), self.drain.clone(), request.into_inner());
        Ok(self.answer(|answers| run(caller, engine, drain, requests, answers)))
    }
}

async fn attach(
    caller: Caller,
    engine: Arc<Engine>,
    drain: Drain,
    mut requests: Streaming<wire::AttachRequest>,
    answers: Answers<wire::AttachResponse>,
) -> Result<(), Status> {
    let first = requests.message().await?.and_then(|request| request.event);
    let Some(attach_request::Event::Start(start)) = first else { return Err(refuse(first_is_start())) };
    let container = engine.find(&start.container).map_err(refuse)?;
    grants::enter(&caller, &engine, &container)?;
    let size = convert::size(start.terminal_size).map_err(refuse)?;
    let starts = start.start_container && !container.is_running();
    let pace = if starts { Pace::OfClient } else { Pace::OfProcess };
    let wish = Wish { has_stdin: start.has_stdin, size, pace };
    let attachment = match starts {
        true => engine.start(&container, size.unwrap_or_default(), Some(wish)).await,
        false => engine.attach(&container, Some(wish)).await,
    };
    let attachment = attachment.map_err(refuse)?.expect("a wish was given");
    let shown = Some(convert::container(engine.view(&container)));
    let started = attach_response::Event::Started(wire::AttachStarted { container: shown });
    let wrap = |event| wire::AttachResponse { event: Some(event) };
    if answers.send(Ok(wrap(started))).await.is_err() {
        return Ok(());
    }
    let output = |output| wrap(attach_response::Event::Output(output));
    let input = |request: wire::AttachRequest| match request.event {
        Some(attach_request::Event::Input(input)) => Ok(input),
        _ => Err(first_is_start()),
    };
    match flow(requests, input, attachment, &answers, output, &drain).await? {
        Over::Client => stopping(&drain),
        Over::Detached => Ok(()),
        over => {
            if let Over::Lost = over {
                let_go(&container).await?;
            }
            let exit = until(&answers, &drain, ended(&container)).await?;
            let exit = exit.map_err(refuse)?;
            let _client_is_gone = answers.send(Ok(wrap(attach_response::Event::Exited(convert::exit(exit))))).await;
            Ok(())
        }
    }
}

/// Let go by the monitor: because the container has ended, or because the client was too slow.
async fn let_go(container: &Container) -> Result<(), Status> {
    let ended = tokio::time::timeout(Duration::from_secs(2), container.ended()).await;
    let too_slow = |_| Status::resource_exhausted("the client was detached: it did not read the output in time");
    ended.map(drop).map_err(too_slow)
}

/// The end of a container as `docker run` sees it: one that removes itself is gone by then.
async fn ended(container: &Container) -> Result<crate::spec::Exit, Error> {
    let exit = container.ended().await?;
    if container.is_auto_remove() {
        container.gone().await;
    }
    Ok(exit)
}

async fn exec(
    caller: Caller,
    engine: Arc<Engine>,
    drain: Drain,
    mut requests: Streaming<wire::ExecRequest>,
    answers: Answers<wire::ExecResponse>,
) -> Result<(), Status> {
    let first = requests.message().await?.and_then(|request| request.event);
    let Some(exec_request::Event::Start(start)) = first else { return Err(refuse(first_is_start())) };
    let container = engine.find(&start.container).map_err(refuse)?;
    grants::enter(&caller, &engine, &container)?;
    grants::execute(&caller, start.is_privileged)?;
    let size = convert::size(start.terminal_size).map_err(refuse)?;
    if start.args.first().is_none_or(String::is_empty) {
        return Err(refuse(Error::argument("start.args", "no command specified")));
    }
    convert::texts("start.args", &start.args).map_err(refuse)?;
    convert::environment("start.env", &start.env).map_err(refuse)?;
    let wish = (!start.is_detached).then_some(Wish { has_stdin: start.has_stdin, size, pace: Pace::OfClient });
    let exec = Exec {
        args: start.args,
        env: start.env,
        working_directory: start.working_directory,
        user: start.user,
        has_terminal: start.has_terminal,
        has_stdin: start.has_stdin && !start.is_detached,
        is_privileged: start.is_privileged,
        size: size.unwrap_or_default(),
    };
    let (monitor, attachment) = engine.exec(&container, exec, wish).await.map_err(refuse)?;
    let wrap = |event| wire::ExecResponse { event: Some(event) };
    let started = exec_response::Event::Started(wire::ExecStarted { pid: monitor.init.identity.pid });
    let is_heard = answers.send(Ok(wrap(started))).await.is_ok();
    let Some(attachment) = attachment else { return Ok(()) };
    let output = |output| wrap(exec_response::Event::Output(output));
    let input = |request: wire::ExecRequest| match request.event {
        Some(exec_request::Event::Input(input)) => Ok(input),
        _ => Err(first_is_start()),
    };
    let over = match is_heard {
        true => flow(requests, input, attachment, &answers, output, &drain).await,
        false => Ok(Over::Client),
    };
    if let Ok(Over::Output | Over::Lost) = over
        && let Ok(exit) = until(&answers, &drain, monitor.exited()).await
    {
        let _client_is_gone = answers.send(Ok(wrap(exec_response::Event::Exited(convert::exit(exit))))).await;
        return Ok(());
    }
    if let Ok(Over::Detached) = over {
        return Ok(());
    }
    // The client is gone: an attached process goes with it.
    let _ended = monitor.signal(signal::KILL);
    over.map(drop)?;
    stopping(&drain)
}

async fn run(
    caller: Caller,
    engine: Arc<Engine>,
    drain: Drain,
    mut requests: Streaming<wire::RunRequest>,
    answers: Answers<wire::RunResponse>,
) -> Result<(), Status> {
    let first = requests.message().await?.and_then(|request| request.event);
    let Some(run_request::Event::Start(start)) = first else { return Err(refuse(first_is_start())) };
    let id = convert::id("id", start.id).map_err(refuse)?;
    let size = convert::size(start.terminal_size).map_err(refuse)?;
    let (name, mut spec) = convert::spec(start.spec).map_err(refuse)?;
    grants::make(&caller, &engine, &spec)?;
    if spec.restart.is_set() {
        return Err(refuse(Error::argument("spec.restart_policy", "a run has none")));
    }
    spec.auto_remove = true;
    let wish = Wish { has_stdin: spec.has_stdin, size, pace: Pace::OfClient };
    let container = engine.create(id, name, spec, Lifetime::Stream).await.map_err(refuse)?;
    let result = run_created(&engine, &drain, requests, &answers, &container, wish).await;
    // Whatever happened: after the call there is no container.
    if let Err(error) = engine.delete(container, true, WithVolumes::Yes).await {
        tracing::error!(error = strata_rpc::fault::chain(&error), "cannot remove the container of a run");
    }
    if let Some(exited) = result? {
        let event = Some(run_response::Event::Exited(exited));
        let _client_is_gone = answers.send(Ok(wire::RunResponse { event })).await;
        return Ok(());
    }
    stopping(&drain)
}

/// Starts and follows a run; `None`: the client is gone before the end.
async fn run_created(
    engine: &Arc<Engine>,
    drain: &Drain,
    requests: Streaming<wire::RunRequest>,
    answers: &Answers<wire::RunResponse>,
    container: &Arc<Container>,
    wish: Wish,
) -> Result<Option<wire::RunExited>, Status> {
    let wrap = |event| wire::RunResponse { event: Some(event) };
    let started = engine.start(container, wish.size.unwrap_or_default(), Some(wish)).await;
    let attachment = started.map_err(refuse)?.expect("a wish was given");
    // A process that ends at once may have ended already; then its mount points are still known.
    let monitor = container.monitor();
    let started = run_response::Event::Started(wire::RunStarted { container_id: container.id.to_string() });
    if answers.send(Ok(wrap(started))).await.is_err() {
        return Ok(None);
    }
    let output = |output| wrap(run_response::Event::Output(output));
    let input = |request: wire::RunRequest| match request.event {
        Some(run_request::Event::Input(wire::Input { event: Some(input::Event::Detach(_)) })) => {
            Err(Error::argument("input.detach", "a run lives no longer than its stream"))
        }
        Some(run_request::Event::Input(input)) => Ok(input),
        _ => Err(first_is_start()),
    };
    if let Over::Client | Over::Detached = flow(requests, input, attachment, answers, output, drain).await? {
        return Ok(None);
    }
    let Ok(exit) = until(answers, drain, ended(container)).await else { return Ok(None) };
    let exit = exit.map_err(refuse)?;
    let points = monitor.map(|monitor| monitor.mount_points()).unwrap_or_default();
    let created_mount_points = points.into_iter().map(convert::mount_point).collect();
    Ok(Some(wire::RunExited { exit: Some(convert::exit(exit)), created_mount_points }))
}

/// Moves input and output until one side is over.
async fn flow<Q, R>(
    mut requests: Streaming<Q>,
    input_of: impl Fn(Q) -> Result<wire::Input, Error>,
    attachment: Attachment,
    answers: &Answers<R>,
    wrap: impl Fn(wire::Output) -> R,
    drain: &Drain,
) -> Result<Over, Status> {
    let Attachment { input, mut output } = attachment;
    let mut input = Some(input);
    let inputs = async {
        loop {
            let request = match requests.message().await {
                Ok(Some(request)) => request,
                // The client says no more; it may well listen on.
                Ok(None) => break,
                Err(_) => return Ok::<_, Status>(Over::Client),
            };
            let message = input_of(request).map_err(refuse)?;
            if let Some(input::Event::Detach(_)) = message.event {
                return Ok(Over::Detached);
            }
            let event = parse_input(message).map_err(refuse)?;
            if let Some(sender) = &input
                && sender.send(event).await.is_err()
            {
                input = None;
            }
        }
        drop(input.take());
        std::future::pending().await
    };
    let outputs = async {
        while let Some(chunk) = output.recv().await {
            let stream = match chunk {
                Output::Stdout(bytes) => output::Stream::Stdout(bytes),
                Output::Stderr(bytes) => output::Stream::Stderr(bytes),
                Output::Ended => return Ok(Over::Output),
                Output::Lost => break,
            };
            if answers.send(Ok(wrap(wire::Output { stream: Some(stream) }))).await.is_err() {
                return Ok(Over::Client);
            }
        }
        Ok(Over::Lost)
    };
    tokio::select! {
        biased;
        over = outputs => over,
        over = inputs => over,
        () = answers.closed() => Ok(Over::Client),
        () = drain.cancelled() => Ok(Over::Client),
    }
}

/// Waits for something as long as the client does.
async fn until<T, R>(answers: &Answers<R>, drain: &Drain, work: impl Future<Output = T>) -> Result<T, Status> {
    tokio::select! {
        result = work => Ok(result),
        () = answers.closed() => Err(Status::cancelled("the client is gone")),
        () = drain.cancelled() => Err(Status::unavailable("the runtime is stopping")),
    }
}

fn stopping(drain: &Drain) -> Result<(), Status> {
    if drain.is_draining() { Err(Status::unavailable("the runtime is stopping")) } else { Ok(()) }
}

fn first_is_start() -> Error {
    Error::argument("event", "the first message must be `start`, all later ones `input`")
}

fn parse_input(input: wire::Input) -> Result<Input, Error> {
    match input.event {
        Some(input::Event::Stdin(bytes)) if bytes.len() <= 262_144 => Ok(Input::Stdin(bytes)),
        Some(input::Event::Stdin(_)) => Err(Error::argument("input.stdin", "it holds more than 262144 bytes")),
        Some(input::Event::EndOfInput(_)) => Ok(Input::EndOfInput),
        Some(input::Event::Resize(size)) => {
            let size = convert::size(Some(size))?;
            size.map(Input::Resize).ok_or_else(|| Error::argument("input.resize", "a terminal of 0 by 0"))
        }
        Some(input::Event::Signal(text)) => Ok(Input::Signal(signal::parse("input.signal", &text)?)),
        Some(input::Event::Detach(_)) | None => Err(Error::argument("input.event", "it is missing")),
    }
}
