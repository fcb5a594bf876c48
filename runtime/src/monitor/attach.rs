//! Clients that are attached to a container: their input goes to its monitor, its output comes back.

use std::io;

use bytes::Bytes;
use strata_init::{plan, wire::Frame};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::mpsc,
};

use super::{Frames, Monitor};
use crate::{
    error::Error,
    stream::{Attachment, Input, Output, Pace, Wish},
};

/// Chunks of output on their way to a client, 32 KiB each at most.
const CHUNKS: usize = 16;

impl Monitor {
    /// Connects to the standard streams.
    pub async fn attach(&self, wish: Wish) -> Result<Attachment, Error> {
        let broken = |e: io::Error| Error::Monitor { id: self.id.clone(), problem: format!("cannot be reached: {e}") };
        let (reader, mut writer) = match UnixStream::connect(&self.control).await {
            Ok(stream) => stream.into_split(),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Err(Error::NotRunning { name: self.id.clone() });
            }
            Err(error) => return Err(broken(error)),
        };
        let hello = Frame::Hello { stdin: wish.has_stdin, output: true, wait: wish.pace == Pace::OfClient };
        writer.write_all(&hello.encode()).await.map_err(broken)?;
        let mut frames = Frames::new(reader);
        match frames.next().await.map_err(broken)? {
            Some(Frame::State { .. }) => {}
            _ => return Err(Error::NotRunning { name: self.id.clone() }),
        }
        if let Some(size) = wish.size {
            writer.write_all(&frame_of(Input::Resize(size)).encode()).await.map_err(broken)?;
        }
        let (output_sender, output) = mpsc::channel(CHUNKS);
        let (input, inputs) = mpsc::channel(CHUNKS);
        let mut are_readers_free = self.are_readers_free.subscribe();
        tokio::spawn(async move {
            // What the client said before it left still arrives. Then both halves end together: the monitor sees that
            // this client is gone.
            let client_is_gone = async { tokio::join!(pass_input(inputs, writer), output_sender.closed()) };
            tokio::select! {
                () = pass_output(frames, &output_sender) => {}
                _writer = client_is_gone => {}
                // A monitor that is dropped has nothing to wait for.
                Ok(_) = are_readers_free.wait_for(|are_free| *are_free) => {}
            }
        });
        Ok(Attachment { input, output })
    }
}

async fn pass_output(mut frames: Frames, output: &mpsc::Sender<Output>) {
    loop {
        let chunk = match frames.next().await {
            Ok(Some(Frame::Stdout { bytes })) => Output::Stdout(Bytes::from(bytes)),
            Ok(Some(Frame::Stderr { bytes })) => Output::Stderr(Bytes::from(bytes)),
            Ok(Some(Frame::Exited { .. } | Frame::Failed { .. })) => Output::Ended,
            Ok(Some(_)) => continue,
            Ok(None) | Err(_) => Output::Lost,
        };
        let is_last = matches!(chunk, Output::Ended | Output::Lost);
        // Without a client it is read all the same, while the rest of the input is on its way.
        let _client_is_gone = output.send(chunk).await;
        if is_last {
            return;
        }
    }
}

/// Passes input on as long as there is some. Gives the writer back: the conversation goes on with output.
async fn pass_input(mut inputs: mpsc::Receiver<Input>, mut writer: OwnedWriteHalf) -> OwnedWriteHalf {
    while let Some(input) = inputs.recv().await {
        if writer.write_all(&frame_of(input).encode()).await.is_err() {
            break;
        }
    }
    writer
}

fn frame_of(input: Input) -> Frame {
    match input {
        Input::Stdin(bytes) => Frame::Stdin { bytes: bytes.into() },
        Input::EndOfInput => Frame::StdinClose,
        Input::Resize(size) => Frame::Resize { size: plan::TerminalSize { rows: size.rows, columns: size.columns } },
        Input::Signal(signal) => Frame::Signal { signal },
    }
}
