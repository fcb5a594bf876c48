//! `ctl system dial-stdio`: the end of a tunnel, on the host of the services.

use strata_rpc::spawn::{self, OnDemand};
use tokio::io::AsyncWriteExt;

use crate::args::Service;
use crate::error::{Error, Result};

/// Passes bytes between standard input and output and a service, until the service hangs up.
pub async fn run(service: Service) -> Result<u8> {
    let name = match service {
        Service::Builder => "builder",
        Service::Runtime => "runtime",
        Service::Store => "store",
    };
    let stream = spawn::stream(OnDemand::service(name)?).await?;
    let (mut from, mut to) = stream.into_split();
    let upwards = async {
        tokio::io::copy(&mut tokio::io::stdin(), &mut to).await?;
        // The other side has said all: the service hears that, and may still answer.
        to.shutdown().await
    };
    let downwards = async {
        let mut output = tokio::io::stdout();
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = tokio::io::AsyncReadExt::read(&mut from, &mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            output.write_all(&bytes[..count]).await?;
            output.flush().await?;
        }
    };
    tokio::pin!(upwards, downwards);
    let passed: std::io::Result<()> = tokio::select! {
        done = &mut downwards => done,
        sent = &mut upwards => match sent {
            Ok(()) => downwards.await,
            error => error,
        },
    };
    passed.map(|()| 0).map_err(|error| Error::new(format!("the connection to the {name} broke: {error}")))
}
