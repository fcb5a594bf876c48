//! What a test asks of a network: somebody who listens, and somebody who asks.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

/// How long somebody may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells each client on a TCP port its own address, for ever. Prints "ready" first.
pub fn serve(port: u16) -> io::Result<()> {
    // Where there is no IPv6 there is no such socket.
    let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    super::say("ready")?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let peer = stream.peer_addr()?.ip().to_canonical();
        // Who asked may be gone.
        let _gone = stream.write_all(peer.to_string().as_bytes());
    }
    Ok(())
}

/// Prints what a server says.
pub fn ask(address: &str, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let address: IpAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    super::say(&text)?;
    Ok(())
}

/// Tells each client on a UDP port its own address, for ever. Prints "ready" first.
pub fn serve_datagrams(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port)))?;
    super::say("ready")?;
    loop {
        let (_, client) = socket.recv_from(&mut [0; 64])?;
        // Who asked may be gone.
        let _gone = socket.send_to(client.ip().to_canonical().to_string().as_bytes(), client);
    }
}

/// Prints what a server of datagrams says.
pub fn ask_datagrams(address: &str, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let address: IpAddr = address.parse()?;
    let any: IpAddr = if address.is_ipv4() { [0_u8; 4].into() } else { [0_u8; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((address, port))?;
    socket.send(b"who")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    super::say(&String::from_utf8_lossy(&buffer[..length]))?;
    Ok(())
}
