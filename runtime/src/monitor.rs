//! A monitor as this service sees it: a process that keeps one container (or one exec), spoken to in `wire` frames.
//! The first conversation runs over the socketpair it was born with; attached clients, and a service that was
//! restarted, use its control socket. It outlives this service.

use std::{
    io,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use strata_init::{
    plan::Waker,
    wire::{Created, Decoder, ExitStatus, Frame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::{
    error::Error,
    identity::Process,
    record::Running,
    signal,
    spec::{Exit, ExitKind, MountPoint},
};

mod attach;
mod log;

use log::Packer;

/// How long a monitor may take to prepare a container or to execute its program.
const PREPARED: Duration = Duration::from_secs(60);

/// How long readers may take after the end of a process that was told to end.
const READ: Duration = Duration::from_secs(2);

/// A monitor just spawned; the plan is on its way to it.
#[derive(Debug)]
pub struct Launch {
    /// Id of the container.
    pub id: String,
    /// The process.
    pub child: Child,
    /// Our end of the socketpair.
    pub stream: std::os::unix::net::UnixStream,
    /// Its control socket.
    pub control: PathBuf,
    /// Where it will leave the exit status.
    pub exit_record: PathBuf,
    /// Its log, where that is to be compressed.
    pub packed_log: Option<PathBuf>,
}

/// A monitor.
#[derive(Debug)]
pub struct Monitor {
    /// The process it keeps.
    pub init: Process,
    /// The monitor itself.
    pub process: Process,
    /// Its control socket.
    pub control: PathBuf,
    id: String,
    child: Mutex<Option<Child>>,
    is_killed: AtomicBool,
    is_hurried: AtomicBool,
    /// Whether readers are waited for no longer.
    are_readers_free: watch::Sender<bool>,
    points: Vec<MountPoint>,
    progress: watch::Receiver<Progress>,
    start: tokio::sync::Mutex<Option<OwnedWriteHalf>>,
}

/// How far it has come.
#[derive(Debug, Clone)]
enum Progress {
    /// The process waits.
    Waiting,
    /// Its program runs.
    Started,
    /// It could not be executed.
    Failed(Failure),
    /// It has ended.
    Exited(Exit),
}

/// What init says of a step that failed, see [`Frame::Failed`].
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was attempted.
    pub step: String,
    /// The error number, or 0.
    pub errno: i32,
    /// The cause in words.
    pub text: String,
    /// Exit code for it.
    pub code: i32,
}

impl Monitor {
    /// A name of its own for a further process in a container.
    pub fn exec_id(&self) -> String {
        self.control.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Waits until the process of a launch exists and waits to be started.
    pub async fn ready(launch: Launch) -> Result<Self, Error> {
        let Launch { id, mut child, stream, control, exit_record, packed_log } = launch;
        match Self::converse(&id, &child, stream).await {
            Ok((process, init, created, mut frames, writer)) => {
                let (sender, progress) = watch::channel(Progress::Waiting);
                let packer = Packer::new(packed_log);
                tokio::spawn(async move { follow(&mut frames, &sender, &exit_record, &packer).await });
                let points = created.into_iter().map(mount_point).collect();
                let (child, start) = (Mutex::new(Some(child)), tokio::sync::Mutex::new(Some(writer)));
                let (is_killed, is_hurried) = (AtomicBool::new(false), AtomicBool::new(false));
                let are_readers_free = watch::Sender::new(false);
                Ok(Self {
                    init,
                    process,
                    control,
                    id,
                    child,
                    is_killed,
                    is_hurried,
                    are_readers_free,
                    points,
                    progress,
                    start,
                })
            }
            Err(error) => {
                // It ends by itself when the socketpair is closed; one that hangs must not stay.
                let _reaped = tokio::task::spawn_blocking(move || {
                    let _ended_already = child.kill();
                    child.wait()
                })
                .await;
                Err(error)
            }
        }
    }

    async fn converse(
        id: &str,
        child: &Child,
        stream: std::os::unix::net::UnixStream,
    ) -> Result<(Process, Process, Vec<Created>, Frames, OwnedWriteHalf), Error> {
        let broken = |problem: String| Error::Monitor { id: id.to_owned(), problem };
        let process = Process::of(child.id())?;
        let nonblocking = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let (reader, writer) = nonblocking.map_err(|e| broken(format!("cannot be spoken to: {e}")))?.into_split();
        let mut frames = Frames::new(reader);
        let first = tokio::time::timeout(PREPARED, frames.next()).await;
        match first.map_err(|_| broken("did not prepare the container in time".into()))? {
            Ok(Some(Frame::Ready { pid, created })) => Ok((process, Process::of(pid)?, created, frames, writer)),
            Ok(Some(Frame::Failed { step, errno, text, code })) => Err(Failure { step, errno, text, code }.into()),
            Ok(None) => Err(broken("ended before the container was ready".into())),
            Ok(Some(_)) => Err(broken("sent a frame out of turn".into())),
            Err(error) => Err(broken(format!("broke off: {error}"))),
        }
    }

    /// Connects to the monitor of a container that was started by an earlier service; `None`: it has ended.
    pub async fn reconnect(
        process: Process,
        running: &Running,
        id: &str,
        control: &Path,
        exit_record: &Path,
        packed_log: Option<PathBuf>,
    ) -> Result<Option<Self>, Error> {
        let broken = |e: io::Error| Error::Monitor { id: id.to_owned(), problem: format!("cannot be reached: {e}") };
        let hello = Frame::Hello { stdin: false, output: false, wait: false };
        let connected = async {
            let (reader, mut writer) = UnixStream::connect(control).await?.into_split();
            writer.write_all(&hello.encode()).await?;
            let mut frames = Frames::new(reader);
            let state = frames.next().await?;
            Ok::<_, io::Error>((frames, writer, state))
        };
        let (mut frames, writer, state) = match connected.await {
            Ok(connected) => connected,
            // Nobody listens: it is about to end.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                process.ended().await;
                return Ok(None);
            }
            Err(error) => return Err(broken(error)),
        };
        let progress = match state {
            Some(Frame::State { status: Some(status), .. }) => Progress::Exited(exit(&status)),
            Some(Frame::State { status: None, .. }) => Progress::Started,
            _ => return Err(broken(io::ErrorKind::InvalidData.into())),
        };
        // Its process may have ended meanwhile; then the monitor is about to say so.
        let Some(init) = Process::find(&running.init) else {
            process.ended().await;
            return Ok(None);
        };
        let is_over = matches!(progress, Progress::Exited(_));
        let (sender, progress) = watch::channel(progress);
        let exit_record = exit_record.to_owned();
        let packer = Packer::new(packed_log);
        tokio::spawn(async move {
            let _connected = writer;
            if !is_over {
                follow(&mut frames, &sender, &exit_record, &packer).await;
            }
        });
        Ok(Some(Self {
            init,
            process,
            control: control.to_owned(),
            id: id.to_owned(),
            child: Mutex::new(None),
            is_killed: AtomicBool::new(false),
            is_hurried: AtomicBool::new(false),
            are_readers_free: watch::Sender::new(false),
            points: Vec::new(),
            progress,
            start: tokio::sync::Mutex::new(None),
        }))
    }

    /// Lets the process execute its program, and waits until it has.
    pub async fn start(&self) -> Result<(), Error> {
        let broken = |problem: String| Error::Monitor { id: self.id.clone(), problem };
        let mut start = self.start.lock().await;
        let writer = start.as_mut().ok_or_else(|| broken("was told to start twice".into()))?;
        let sent = writer.write_all(&Frame::Start.encode()).await;
        sent.map_err(|e| broken(format!("cannot be told to start: {e}")))?;
        let mut progress = self.progress.clone();
        let begun = progress.wait_for(|progress| !matches!(progress, Progress::Waiting));
        let begun = tokio::time::timeout(PREPARED, begun).await;
        let begun = begun.map_err(|_| broken("did not start the process in time".into()))?;
        match begun.map(|progress| progress.clone()) {
            Ok(Progress::Failed(failure)) => Err(failure.into()),
            Ok(Progress::Exited(Exit { kind: ExitKind::Unknown(reason), .. })) => Err(broken(reason)),
            Ok(_) => Ok(()),
            Err(_) => Err(broken("ended".into())),
        }
    }

    /// Waits for the end of the process.
    pub async fn exited(&self) -> Exit {
        let mut progress = self.progress.clone();
        let over = progress.wait_for(|progress| matches!(progress, Progress::Exited(_) | Progress::Failed(_))).await;
        match over.map(|progress| progress.clone()) {
            Ok(Progress::Exited(exit)) => exit,
            Ok(Progress::Failed(failure)) => Exit::code(failure.code.clamp(0, 255) as u32),
            _ => Exit::unknown("the monitor was lost"),
        }
    }

    /// Waits for the end of the monitor itself, and reaps it.
    pub async fn ended(&self) {
        self.process.ended().await;
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // Readable pidfd: it is a zombie, this does not wait.
            let _status = child.wait();
        }
    }

    /// Mount points that had to be made in the root file system.
    pub fn mount_points(&self) -> Vec<MountPoint> {
        self.points.clone()
    }

    /// Whether the process it keeps was sent a SIGKILL by this service.
    pub fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }

    /// Its process is to end: some time after that, those are waited for no longer who do not read what it wrote. They would
    /// hold up the end; what they miss is in the log.
    pub fn hurry(self: &Arc<Self>) {
        if self.is_hurried.swap(true, Ordering::AcqRel) {
            return;
        }
        let monitor = self.clone();
        tokio::spawn(async move {
            monitor.init.ended().await;
            tokio::time::sleep(READ).await;
            monitor.are_readers_free.send_replace(true);
        });
    }

    /// Says anew what starts this service, should it be gone at the end of the process. A monitor that was made by a service
    /// which did not say so hangs up: then the next service finds out what is due, whoever wakes it.
    pub async fn set_waker(&self, waker: Option<Waker>) -> io::Result<()> {
        let mut stream = UnixStream::connect(&self.control).await?;
        let hello = Frame::Hello { stdin: false, output: false, wait: false };
        stream.write_all(&[hello.encode(), Frame::SetWaker { waker }.encode()].concat()).await
    }

    /// Sends a signal to the process it keeps.
    pub fn signal(&self, number: i32) -> Result<(), Error> {
        if number == signal::KILL {
            self.is_killed.store(true, Ordering::Release);
            // A monitor that stands still would not see the end.
            self.process.signal(signal::CONTINUE);
        }
        if self.init.signal(number) {
            return Ok(());
        }
        let not_running = || Error::NotRunning { name: self.id.clone() };
        if number < 32 {
            return Err(not_running());
        }
        // Real-time signals have no name in safe Rust; the monitor sends them.
        let mut stream = std::os::unix::net::UnixStream::connect(&self.control).map_err(|_| not_running())?;
        let hello = Frame::Hello { stdin: false, output: false, wait: false };
        let timeout = stream.set_write_timeout(Some(Duration::from_secs(2)));
        let sent = timeout
            .and_then(|()| strata_init::wire::send(&mut stream, &hello))
            .and_then(|()| strata_init::wire::send(&mut stream, &Frame::Signal { signal: number }));
        sent.map_err(|_| not_running())
    }
}

/// Reads frames into the progress until the end of the conversation.
async fn follow(frames: &mut Frames, progress: &watch::Sender<Progress>, exit_record: &Path, packer: &Packer) {
    loop {
        match frames.next().await {
            Ok(Some(Frame::LogRotated)) => packer.pack(),
            Ok(Some(Frame::Started)) => drop(progress.send_replace(Progress::Started)),
            Ok(Some(Frame::Exited { status })) => {
                progress.send_replace(Progress::Exited(exit(&status)));
                return;
            }
            Ok(Some(Frame::Failed { step, errno, text, code })) => {
                progress.send_replace(Progress::Failed(Failure { step, errno, text, code }));
                return;
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                let exit = exit_record_at(exit_record).unwrap_or_else(|| Exit::unknown("the monitor was lost"));
                progress.send_replace(Progress::Exited(exit));
                return;
            }
        }
    }
}

/// A mount point that had to be made, as it was told.
pub fn mount_point(created: Created) -> MountPoint {
    MountPoint { path: created.path.to_string_lossy().into_owned(), inode: created.inode }
}

fn exit(status: &ExitStatus) -> Exit {
    let kind = match status.signal {
        0 => ExitKind::Code(status.code.clamp(0, 255) as u32),
        signal => ExitKind::Signal(signal.unsigned_abs()),
    };
    Exit { kind, is_oom_killed: status.oom_killed }
}

/// The exit record of a monitor, as JSON.
#[derive(serde::Deserialize)]
struct ExitRecord {
    code: i32,
    signal: i32,
    oom_killed: bool,
}

/// Reads the exit record that a monitor left.
pub fn exit_record_at(path: &Path) -> Option<Exit> {
    let bytes = std::fs::read(path).ok()?;
    let record: ExitRecord = serde_json::from_slice(&bytes).ok()?;
    let (code, signal, oom_killed) = (record.code, record.signal, record.oom_killed);
    Some(exit(&ExitStatus { code, signal, oom_killed, exited_at_nanos: 0 }))
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure { step, errno, text, code } = failure;
        // 125 stands for all that is not the program's fault: Docker shows 128 for it.
        let exit_code = if matches!(code, 126 | 127) { code as u32 } else { 128 };
        let text = if text.is_empty() { step.clone() } else { format!("cannot {step}: {text}") };
        Self::Start { step, errno, exit_code, text }
    }
}

/// The receiving side of a conversation.
#[derive(Debug)]
struct Frames {
    reader: OwnedReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Frames {
    fn new(reader: OwnedReadHalf) -> Self {
        Self { reader, decoder: Decoder::new(), buffer: vec![0; 64 << 10] }
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            match self.reader.read(&mut self.buffer).await? {
                0 => return Ok(None),
                count => self.decoder.feed(&self.buffer[..count]),
            }
        }
    }
}
