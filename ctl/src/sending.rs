//! Chunks on their way into a call. A read that fails must not look like the end of what is sent: the call is then given
//! up, and the failure told.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;

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
