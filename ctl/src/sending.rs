//! Chunks on their way into a call. A read that fails must not look like the end of what is sent: the call is then given
//! up, and the failure told. And files that a service of this host uses itself, without chunks.

use std::fs::File;
use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use strata_proto::types::v1::OpenFile;
use strata_rpc::fault;
use strata_rpc::handed::Handed;
use tokio::sync::oneshot;
use tonic::Status;

/// Makes messages of chunks until one fails; from then on the stream stays open, and the receiver says why.
pub fn messages<M: Send + 'static>(
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    wrap: impl Fn(Bytes) -> M + Send + 'static,
) -> (impl Stream<Item = M> + Send + 'static, oneshot::Receiver<io::Error>) {
    let (failed, failure) = oneshot::channel();
    let mut failed = Some(failed);
    let messages = chunks.filter_map(move |chunk| {
        let message = match chunk {
            Ok(chunk) => Some(wrap(chunk)),
            Err(error) => {
                if let Some(failed) = failed.take() {
                    let _ = failed.send(error);
                }
                None
            }
        };
        // After a failure the stream stays open until the call is dropped.
        let is_over = message.is_none();
        async move {
            if is_over {
                std::future::pending::<()>().await;
            }
            message
        }
    });
    (messages, failure)
}

/// Describes an open file to a service, which can use it if it is on this host; else it says [`is_unreachable`].
pub fn handed(file: &File) -> io::Result<OpenFile> {
    let Handed { number, boot_id, device, inode } = Handed::of(file)?;
    Ok(OpenFile { number, boot_id, device, inode })
}

/// Does a service say that it cannot use an open file? Its bytes are to be streamed then.
pub fn is_unreachable(status: &Status) -> bool {
    fault::reason_of(status).as_deref() == Some("FAULT_FILE_UNREACHABLE")
}
