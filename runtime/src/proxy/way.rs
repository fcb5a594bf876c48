//! How what arrives at a published port comes to its container. From the host itself; or, where networks are in a carrier,
//! from in there, and with the client's address where that can be.

use std::{io, net::SocketAddr};

use rustix::fd::OwnedFd;
use strata_net::Carrier;
use strata_types::Protocol;
use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    task::spawn_blocking,
};

/// Where connections to containers begin.
#[derive(Debug, Clone, Default)]
pub struct Way {
    carrier: Option<Carrier>,
    /// The client is in the carrier itself: an answer that it gets from where it did not ask is none.
    is_from_within: bool,
}

impl Way {
    /// From a carrier; without one from the host.
    pub fn from(carrier: Option<Carrier>) -> Self {
        Self { carrier, is_from_within: false }
    }

    /// The same for clients that are containers themselves.
    pub fn for_containers(&self) -> Self {
        Self { is_from_within: true, ..self.clone() }
    }

    /// Connects to a server in the name of a client.
    pub async fn stream(&self, client: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
        match &self.carrier {
            None => TcpStream::connect(target).await,
            Some(carrier) => {
                let socket = self.open(carrier.clone(), Protocol::Tcp, client, target).await?;
                TcpSocket::from_std_stream(socket.into()).connect(target).await
            }
        }
    }

    /// A socket that speaks to one server in the name of a client.
    pub async fn datagrams(&self, client: SocketAddr, target: SocketAddr) -> io::Result<UdpSocket> {
        let socket = match &self.carrier {
            None => {
                let any = SocketAddr::new(if target.is_ipv4() { [0_u8; 4].into() } else { [0_u8; 16].into() }, 0);
                UdpSocket::bind(any).await?
            }
            Some(carrier) => {
                let socket = self.open(carrier.clone(), Protocol::Udp, client, target).await?;
                UdpSocket::from_std(socket.into())?
            }
        };
        socket.connect(target).await?;
        Ok(socket)
    }

    async fn open(
        &self,
        carrier: Carrier,
        protocol: Protocol,
        client: SocketAddr,
        target: SocketAddr,
    ) -> io::Result<OwnedFd> {
        let client = (!self.is_from_within).then_some(client.ip());
        let opened = spawn_blocking(move || carrier.socket_for(protocol, client, target.ip())).await;
        opened.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}
