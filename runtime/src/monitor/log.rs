//! The log of a container as its monitor keeps it: emptied on demand, and what rotation puts aside compressed.

use std::{io, path::PathBuf, time::Duration};

use strata_init::wire::Frame;
use tokio::{io::AsyncWriteExt, net::UnixStream, sync::mpsc};

use super::{Frames, Monitor};
use crate::{error::Error, logs};

/// How long a monitor may take to answer, how often it is asked while its files are locked, and the pause in between.
const ANSWERED: Duration = Duration::from_secs(5);
const CLEAR_ATTEMPTS: u32 = 100;
const CLEAR_PAUSE: Duration = Duration::from_millis(20);

impl Monitor {
    /// Empties its log, and removes older files of it.
    pub async fn clear_log(&self) -> Result<(), Error> {
        let broken = |problem: String| Error::Monitor { id: self.id.clone(), problem };
        let unreachable = |e: io::Error| broken(format!("cannot be reached: {e}"));
        let mut stream = match UnixStream::connect(&self.control).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Err(Error::NotRunning { name: self.id.clone() });
            }
            Err(error) => return Err(unreachable(error)),
        };
        let hello = Frame::Hello { stdin: false, output: false, wait: false };
        stream.write_all(&hello.encode()).await.map_err(unreachable)?;
        let (reader, mut writer) = stream.into_split();
        let mut frames = Frames::new(reader);
        for _ in 0..CLEAR_ATTEMPTS {
            writer.write_all(&Frame::ClearLog.encode()).await.map_err(unreachable)?;
            let answered = tokio::time::timeout(ANSWERED, cleared(&mut frames)).await;
            match answered.map_err(|_| broken("does not answer".into()))?.map_err(unreachable)? {
                // An older one knows no such frame, and hangs up.
                None => return Err(broken("cannot empty its log: restart the container once".into())),
                Some(0) => return Ok(()),
                Some(errno) if errno == rustix::io::Errno::WOULDBLOCK.raw_os_error() => {
                    tokio::time::sleep(CLEAR_PAUSE).await;
                }
                Some(errno) => {
                    let why = io::Error::from_raw_os_error(errno);
                    return Err(broken(format!("cannot empty its log: {why}")));
                }
            }
        }
        Err(broken("cannot empty its log: somebody has its files locked".into()))
    }
}

/// Waits for the answer to `ClearLog`: an error number; `None`: there is none.
async fn cleared(frames: &mut Frames) -> io::Result<Option<i32>> {
    loop {
        match frames.next().await? {
            Some(Frame::LogCleared { errno }) => return Ok(Some(errno)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Compresses what rotation of a log puts aside, on a thread for it.
#[derive(Debug)]
pub(super) struct Packer(Option<mpsc::Sender<()>>);

impl Packer {
    /// A packer of a log, which begins with what is there already.
    pub(super) fn new(log: Option<PathBuf>) -> Self {
        let Some(log) = log else { return Self(None) };
        let (sender, mut turns) = mpsc::channel::<()>(1);
        let packer = Self(Some(sender));
        packer.pack();
        tokio::spawn(async move {
            while turns.recv().await.is_some() {
                let log = log.clone();
                let packed = tokio::task::spawn_blocking(move || logs::pack(&log)).await;
                if let Ok(Err(error)) = packed {
                    let error = strata_rpc::fault::chain(&error);
                    tracing::warn!(error, "an older file of a log stays uncompressed");
                }
            }
        });
        packer
    }

    pub(super) fn pack(&self) {
        if let Some(turns) = &self.0 {
            // One that is waited for does it.
            let _is_due_anyway = turns.try_send(());
        }
    }
}
