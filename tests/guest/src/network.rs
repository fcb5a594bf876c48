//! What a test asks of a network: somebody who listens, and somebody who asks.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
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
