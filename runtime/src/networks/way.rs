//! How what arrives at a published port comes to its container. From the host itself; or, where networks are in a carrier,
//! from in there, and with the client's address where that can be.

use std::{io, net::SocketAddr};

use strata_net::Carrier;
use strata_types::Protocol;
use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    task::spawn_blocking,
};

/// Where connections to containers begin.
#[derive(Debug, Clone, Default)]
pub struct Way(Option<Carrier>);

impl Way {
    /// From a carrier; without one from the host.
    pub fn from(carrier: Option<Carrier>) -> Self {
        Self(carrier)
    }

    /// Connects to a server in the name of a client.
    pub async fn stream(&self, client: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
        match &self.0 {
            None => TcpStream::connect(target).await,
            Some(carrier) => {
                let socket = open(carrier.clone(), Protocol::Tcp, client, target).await?;
                TcpSocket::from_std_stream(socket.into()).connect(target).await
            }
        }
    }

    /// A socket that speaks to one server in the name of a client.
    pub async fn datagrams(&self, client: SocketAddr, target: SocketAddr) -> io::Result<UdpSocket> {
        let socket = match &self.0 {
            None => {
                let any = SocketAddr::new(if target.is_ipv4() { [0_u8; 4].into() } else { [0_u8; 16].into() }, 0);
                UdpSocket::bind(any).await?
            }
            Some(carrier) => UdpSocket::from_std(open(carrier.clone(), Protocol::Udp, client, target).await?.into())?,
        };
        socket.connect(target).await?;
        Ok(socket)
    }
}

async fn open(
    carrier: Carrier,
    protocol: Protocol,
    client: SocketAddr,
    target: SocketAddr,
) -> io::Result<rustix::fd::OwnedFd> {
    let opened = spawn_blocking(move || carrier.socket_for(protocol, client.ip(), target.ip())).await;
    opened.map_err(io::Error::other)?.map_err(io::Error::other)
}
