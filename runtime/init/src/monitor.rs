//! The process that stays with a container: copies its output, keeps its log, answers on its control
//! socket, reaps it and records its exit. One thread, one poll loop; only `poll` waits.
//! The exit record is written before anyone is told; the runtime may go away at any time after Start.

use crate::channel::GO;
use crate::failure::{Attempt, Failure};
use crate::log::{Log, Stream};
use crate::peer::{Peer, Wants};
use crate::plan::Plan;
use crate::record::{Record, now_nanos};
use crate::spawn::{Spawned, spawn};
use crate::streams::Streams;
use crate::sys;
use crate::wake::wake;
use crate::wire::{self, CHUNK_BYTES, ExitStatus, Frame};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::process::{Pid, WaitOptions, WaitStatus, pidfd_send_signal, wait};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How long output may be silent, and may last in all, after the exit while a grandchild holds it open.
const DRAIN_SILENCE: Duration = Duration::from_millis(100);
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How long clients may take to read the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);
const MAX_CLIENTS: usize = 64;

/// Runs the roles `monitor` and `exec` over the conversation with the runtime.
pub fn monitor(socket: OwnedFd) -> Result<(), Failure> {
    let mut runtime = UnixStream::from(socket);
    runtime.set_nonblocking(false).attempt(|| "prepare the socket".into())?;
    let outcome = create(&mut runtime);
    match outcome {
        Ok(mut monitor) => {
            monitor.run();
            Ok(())
        }
        Err(failure) => {
            let _ = wire::send(&mut runtime, &failure.to_frame());
            Err(failure)
        }
    }
}

/// Reads the plan and makes its process.
fn create(runtime: &mut UnixStream) -> Result<Monitor, Failure> {
    let plan = receive_plan(runtime)?;
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Pid::from_raw(1)).attempt(|| "become a subreaper".into())?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block().attempt(|| "block SIGCHLD".into())?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .attempt(|| "watch children".into())?;
    let log_path = || plan.log.as_ref().map(|log| log.path.display().to_string()).unwrap_or_default();
    let log = Log::open(plan.log.as_ref(), plan.log_receiver.as_ref());
    let mut log = log.attempt(|| format!("open log {}", log_path()))?;
    let (mut streams, child_ends) = Streams::new(&plan.streams)?;
    let ooms_before = plan.target.as_ref().map_or(0, |_| oom_kills(&plan));
    let mut spawned = spawn(&plan, child_ends, &mut |_| Ok(()))?;
    if let Some(log) = &mut log {
        log.set_process(spawned.pid);
    }
    let listener = (|| {
        if let Some(master) = spawned.master.take() {
            streams.take_terminal(master)?;
        }
        listen(&plan)
    })();
    let peer = runtime.try_clone().and_then(Peer::new).attempt(|| "prepare the socket".into());
    let (listener, mut peer) = match (listener, peer) {
        (Ok(listener), Ok(peer)) => (listener, peer),
        (Err(failure), _) | (_, Err(failure)) => {
            let _ = pidfd_send_signal(&spawned.pidfd, rustix::process::Signal::KILL);
            return Err(failure);
        }
    };
    peer.send(&Frame::Ready { pid: spawned.pid, created: std::mem::take(&mut spawned.created) });
    Ok(Monitor {
        plan,
        runtime: Some(peer),
        listener,
        clients: Vec::new(),
        signals,
        spawned,
        is_starting: false,
        streams,
        log,
        ooms_before,
        started_at_nanos: None,
        failure: None,
        exit: None,
        last_output: Instant::now(),
        last_behind: Instant::now(),
        told_at: None,
    })
}

/// Reads the first frame, which must be a plan.
pub(crate) fn receive_plan(runtime: &mut UnixStream) -> Result<Plan, Failure> {
    let step = || "receive the plan".to_owned();
    match wire::receive(runtime).attempt(step)? {
        Some(Frame::Plan { bytes }) => Plan::decode(&bytes).map_err(|error| Failure::new(step(), error.to_string())),
        _ => Err(Failure::new(step(), "there is none")),
    }
}

fn listen(plan: &Plan) -> Result<Option<UnixListener>, Failure> {
    let Some(path) = &plan.control_socket else { return Ok(None) };
    let _ = fs::remove_file(path);
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.attempt(|| format!("listen on {}", path.display())).map(Some)
}

fn oom_kills(plan: &Plan) -> u64 {
    let read = |path| {
        let text = fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    };
    plan.cgroups.oom_events.as_ref().and_then(read).unwrap_or(0)
}

/// What `poll` said something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Runtime,
    Listener,
    Client(usize),
    Children,
    Child,
    Output(Stream),
    Input,
    /// Whoever is sent the log.
    LogReceiver,
}

struct Exit {
    status: ExitStatus,
    at: Instant,
}

struct Monitor {
    plan: Plan,
    runtime: Option<Peer>,
    listener: Option<UnixListener>,
    clients: Vec<Peer>,
    signals: SignalFd,
    spawned: Spawned,
    /// Between "go" and the first word of the child: its end (execve closed the channel) or a failure.
    is_starting: bool,
    streams: Streams,
    log: Option<Log>,
    ooms_before: u64,
    started_at_nanos: Option<u64>,
    failure: Option<Failure>,
    exit: Option<Exit>,
    last_output: Instant,
    /// When somebody was last behind: output that nobody could take is not silence.
    last_behind: Instant,
    told_at: Option<Instant>,
}

impl Monitor {
    fn run(&mut self) {
        let mut buffer = vec![0; CHUNK_BYTES];
        while !self.is_finished() {
            let was_behind = self.is_behind();
            for (source, flags) in self.wait() {
                self.handle(source, flags, &mut buffer);
            }
            if was_behind {
                self.last_behind = Instant::now();
            }
            self.tend_log();
            self.drop_gone_peers();
            self.tell_when_drained();
        }
        if let Some(log) = &mut self.log {
            log.close();
        }
        if let Some(path) = &self.plan.control_socket {
            let _ = fs::remove_file(path);
        }
        self.wake_runtime();
    }

    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let interests = self.interests();
        let mut fds: Vec<PollFd<'_>> =
            interests.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = self
            .timeout()
            .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let results = interests.iter().zip(&fds).map(|((source, ..), fd)| (*source, fd.revents()));
        results.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn interests(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::with_capacity(8 + self.clients.len());
        let with_output = |peer: &Peer, flags| if peer.queued() > 0 { flags | PollFlags::OUT } else { flags };
        if let Some(runtime) = &self.runtime {
            interests.push((Source::Runtime, runtime.stream.as_fd(), with_output(runtime, PollFlags::IN)));
        }
        if self.exit.is_none() {
            interests.push((Source::Children, self.signals.as_fd(), PollFlags::IN));
        }
        if self.is_starting {
            interests.push((Source::Child, self.spawned.channel.as_fd(), PollFlags::IN));
        }
        if let Some(receiver) = self.log.as_ref().and_then(Log::interest) {
            interests.push((Source::LogReceiver, receiver, PollFlags::OUT));
        }
        if !self.is_behind() {
            for stream in [Stream::Stdout, Stream::Stderr] {
                if let Some(output) = &self.streams.outputs[stream as usize] {
                    interests.push((Source::Output(stream), output.as_fd(), PollFlags::IN));
                }
            }
        }
        if let (true, Some(input)) = (self.streams.has_pending_input(), &self.streams.input) {
            interests.push((Source::Input, input.as_fd(), PollFlags::OUT));
        }
        if let (true, Some(listener)) = (self.clients.len() < MAX_CLIENTS, &self.listener) {
            interests.push((Source::Listener, listener.as_fd(), PollFlags::IN));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let sends_input = client.wants.is_some_and(|wants| wants.stdin);
            let flags = match sends_input && self.streams.is_input_full() {
                true => PollFlags::empty(),
                false => PollFlags::IN,
            };
            interests.push((Source::Client(index), client.stream.as_fd(), with_output(client, flags)));
        }
        interests
    }

    /// Whether the container has to wait for somebody to take its output.
    fn is_behind(&self) -> bool {
        self.clients.iter().any(Peer::is_behind) || self.log.as_ref().is_some_and(Log::is_behind)
    }

    fn timeout(&self) -> Option<Duration> {
        let log = self.log.as_ref().and_then(|log| log.timer(self.told_at));
        [self.drain_timeout(), log].into_iter().flatten().min()
    }

    fn drain_timeout(&self) -> Option<Duration> {
        let exit = self.exit.as_ref()?;
        let now = Instant::now();
        Some(match self.told_at {
            Some(told_at) => (told_at + FLUSH_LIMIT).saturating_duration_since(now),
            None if self.is_behind() => FLUSH_LIMIT,
            None => {
                let begun = self.last_behind.max(exit.at);
                let silent = self.last_output.max(begun) + DRAIN_SILENCE;
                silent.min(begun + DRAIN_LIMIT).saturating_duration_since(now)
            }
        })
    }

    fn handle(&mut self, source: Source, flags: PollFlags, buffer: &mut [u8]) {
        let is_readable = flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        match source {
            Source::Runtime => self.handle_runtime(is_readable, buffer),
            Source::Listener => self.accept(),
            Source::Client(index) => self.handle_client(index, is_readable, buffer),
            Source::Children => self.reap(),
            Source::Child => self.hear_child(),
            Source::Output(stream) => self.copy_output(stream, buffer),
            Source::Input => self.streams.write_input(),
            // The log is tended after every round.
            Source::LogReceiver => {}
        }
    }

    fn handle_runtime(&mut self, is_readable: bool, buffer: &mut [u8]) {
        let Some(mut runtime) = self.runtime.take() else { return };
        runtime.flush();
        let frames = if is_readable { runtime.receive(buffer) } else { Vec::new() };
        for frame in frames {
            if frame == Frame::Start && self.started_at_nanos.is_none() {
                self.started_at_nanos = Some(now_nanos());
                self.is_starting = self.spawned.channel.open_gate(GO, self.spawned.pid).is_ok();
            }
        }
        if !runtime.is_gone {
            self.runtime = Some(runtime);
        } else if self.started_at_nanos.is_none() {
            // Nobody is left who could start it.
            let _ = pidfd_send_signal(&self.spawned.pidfd, rustix::process::Signal::KILL);
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        if let Ok(peer) = listener.accept().and_then(|(stream, _)| Peer::new(stream)) {
            self.clients.push(peer);
        }
    }

    fn handle_client(&mut self, index: usize, is_readable: bool, buffer: &mut [u8]) {
        let client = &mut self.clients[index];
        client.flush();
        if !is_readable {
            return;
        }
        for frame in client.receive(buffer) {
            let client = &mut self.clients[index];
            match frame {
                Frame::Hello { stdin, output, wait } if client.wants.is_none() => {
                    client.wants = Some(Wants { stdin, output, wait });
                    let status = self.exit.as_ref().map(|exit| exit.status.clone());
                    client.send(&Frame::State { pid: self.spawned.pid, status: status.clone() });
                    if let (Some(status), true) = (status, self.told_at.is_some()) {
                        client.send(&Frame::Exited { status });
                    }
                }
                Frame::Stdin { bytes } if client.wants.is_some_and(|wants| wants.stdin) => {
                    self.streams.add_input(&bytes);
                }
                Frame::StdinClose if client.wants.is_some_and(|wants| wants.stdin) => self.streams.close_input(),
                Frame::Resize { size } => self.streams.resize(&size),
                Frame::Signal { signal } => self.signal(signal),
                Frame::SetWaker { waker } if client.wants.is_some() => self.plan.waker = waker,
                Frame::ClearLog if client.wants.is_some() => {
                    let cleared = self.log.as_mut().map_or(Ok(()), Log::clear);
                    // A failure that has no number is one all the same.
                    let errno = cleared.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
                    client.send(&Frame::LogCleared { errno });
                }
                _ => client.is_gone = true,
            }
        }
    }

    fn signal(&self, number: i32) {
        if self.exit.is_none() {
            let _ = sys::pidfd_send_signal(self.spawned.pidfd.as_fd(), number);
        }
    }

    /// Reads what the child says after "go": nothing, since execve closed its end, or why there was no execve.
    fn hear_child(&mut self) {
        // The child's end may have been met in the same round, and its word with it.
        if !std::mem::take(&mut self.is_starting) {
            return;
        }
        match self.spawned.channel.receive() {
            Ok(Some((frame, _))) => self.failure = Failure::from_frame(frame),
            _ => {
                if let Some(runtime) = &mut self.runtime {
                    runtime.send(&Frame::Started);
                }
            }
        }
    }

    fn copy_output(&mut self, stream: Stream, buffer: &mut [u8]) {
        let Some(count) = self.streams.read(stream, buffer) else { return };
        let bytes = &buffer[..count];
        if let Some(log) = &mut self.log {
            log.write(stream, bytes, now_nanos());
        }
        self.last_output = Instant::now();
        let mut attached =
            self.clients.iter_mut().filter(|client| client.wants.is_some_and(|wants| wants.output)).peekable();
        if attached.peek().is_none() {
            return;
        }
        let bytes = bytes.to_vec();
        let frame = match stream {
            Stream::Stdout => Frame::Stdout { bytes },
            Stream::Stderr => Frame::Stderr { bytes },
        };
        let encoded = frame.encode();
        attached.for_each(|client| client.send_encoded(&encoded));
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid.as_raw_nonzero().get() as u32 == self.spawned.pid {
                self.record_exit(status);
            }
        }
    }

    /// Makes the exit known to the disk, before anyone else.
    fn record_exit(&mut self, status: WaitStatus) {
        if self.is_starting {
            self.hear_child();
        }
        let signal = status.terminating_signal().unwrap_or(0);
        let code = match (&self.failure, status.exit_status()) {
            (Some(failure), _) => failure.code,
            (None, Some(code)) => code,
            (None, None) => 128 + signal,
        };
        let oom_killed = oom_kills(&self.plan) > self.ooms_before;
        let status = ExitStatus { code, signal, oom_killed, exited_at_nanos: now_nanos() };
        if let Some(path) = &self.plan.exit_record {
            let record = Record {
                pid: self.spawned.pid,
                status: &status,
                started_at_nanos: self.started_at_nanos,
                failure: self.failure.as_ref().map(Failure::to_string),
            };
            // Without a record the exit is still told; a restarted runtime then calls it unknown.
            let _ = record.write(path, self.plan.is_exit_record_durable);
        }
        self.exit = Some(Exit { status, at: Instant::now() });
    }

    /// Tells everyone of the exit once the output is complete.
    fn tell_when_drained(&mut self) {
        let Some(exit) = &self.exit else { return };
        let is_drained = self.streams.outputs.iter().all(Option::is_none);
        if self.told_at.is_some() || !(is_drained || self.drain_timeout() == Some(Duration::ZERO)) {
            return;
        }
        if let Some(log) = &mut self.log {
            log.finish(now_nanos());
        }
        let exited = Frame::Exited { status: exit.status.clone() };
        for client in &mut self.clients {
            client.send(&exited);
        }
        if let Some(runtime) = &mut self.runtime {
            runtime.send(&self.failure.as_ref().map_or(exited, Failure::to_frame));
        }
        self.told_at = Some(Instant::now());
    }

    /// Starts the runtime again if it is gone, and something follows the end of the process.
    fn wake_runtime(&self) {
        let Some(waker) = &self.plan.waker else { return };
        let is_failure = self.exit.as_ref().is_some_and(|exit| exit.status.code != 0);
        let is_there = |peer: &Peer| !peer.is_gone && peer.queued() == 0;
        let is_heard = self.runtime.iter().chain(self.clients.iter().filter(|peer| is_watcher(peer))).any(is_there);
        if !is_heard && (is_failure || !waker.only_after_failure) {
            wake(waker);
        }
    }

    /// Sends what waits to be sent, and tells who compresses files of the log that there is one more.
    fn tend_log(&mut self) {
        let Some(log) = &mut self.log else { return };
        log.tend();
        if log.take_rotated() {
            let watchers = self.clients.iter_mut().filter(|peer| is_watcher(peer));
            self.runtime.iter_mut().chain(watchers).for_each(|peer| peer.send(&Frame::LogRotated));
        }
    }

    fn drop_gone_peers(&mut self) {
        let stdin_once = self.plan.streams.stdin_once;
        let had_input = self.clients.iter().any(|peer| peer.is_gone && peer.wants.is_some_and(|wants| wants.stdin));
        self.clients.retain(|peer| !peer.is_gone);
        if had_input && stdin_once {
            self.streams.close_input();
        }
    }

    fn is_finished(&self) -> bool {
        let Some(told_at) = self.told_at else { return false };
        let is_flushed = self.runtime.iter().chain(&self.clients).all(|peer| peer.is_gone || peer.queued() == 0);
        let is_settled = self.log.as_ref().is_none_or(|log| log.is_settled(told_at));
        (is_flushed && is_settled) || told_at.elapsed() >= FLUSH_LIMIT
    }
}

/// A runtime that found this monitor again is a client that wants nothing but the end.
fn is_watcher(peer: &Peer) -> bool {
    peer.wants.is_some_and(|wants| !wants.stdin && !wants.output)
}
