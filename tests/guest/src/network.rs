//! What a test asks of a network: somebody who listens, and somebody who asks.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

/// How long somebody may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells each client on a TCP port its own address, for ever. Prints "ready" first.
pub fn serve(port: u16) -> io::Result<()> {
    // Where there is no IPv6 there is no such socket.
    answer(TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?)
}

/// The same on one address.
pub fn serve_at(address: &str, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    Ok(answer(TcpListener::bind((address.parse::<IpAddr>()?, port))?)?)
}

fn answer(listener: TcpListener) -> io::Result<()> {
    super::say("ready")?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let peer = stream.peer_addr()?.ip().to_canonical();
        // Who asked may be gone.
        let _gone = stream.write_all(peer.to_string().as_bytes());
    }
    Ok(())
}

/// Sends back what clients on a TCP port send, each as long as it likes, for ever. Prints "ready" first.
pub fn echo(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    super::say("ready")?;
    for stream in listener.incoming() {
        let stream = stream?;
        // Who sent may be gone.
        std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
    }
    Ok(())
}

/// Sends standard input to a server, and prints what it sends back, as long as both go on.
pub fn talk(address: &str, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address.parse()?, port), PATIENCE)?;
    let mut buffer = [0; 4096];
    loop {
        match io::stdin().read(&mut buffer)? {
            0 => return Ok(()),
            length => (&stream).write_all(&buffer[..length])?,
        }
        match (&stream).read(&mut buffer)? {
            0 => return Err("the other end has closed".into()),
            length => io::stdout().write_all(&buffer[..length])?,
        }
        io::stdout().flush()?;
    }
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

/// Asks a server so often, each time over a connection of its own, and prints how many answers came per second.
pub fn ask_often(address: &str, port: u16, times: u32) -> Result<(), Box<dyn std::error::Error>> {
    let address = SocketAddr::new(address.parse()?, port);
    let mut answer = [0; 64];
    let start = Instant::now();
    for _ in 0..times {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        while stream.read(&mut answer)? > 0 {}
    }
    super::say(&format!("{:.1}", f64::from(times) / start.elapsed().as_secs_f64()))?;
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

/// Asks the server of resolv.conf for what is known of a name, and prints how it answers, and the addresses, a line each. A C
/// library would ask for both kinds of addresses, and search domains.
pub fn look_up(name: &str, kind: &str) -> Result<(), Box<dyn std::error::Error>> {
    let query = query(name, kind)?;
    let question = query.len();
    let socket = ask_names()?;
    socket.send(&query)?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    let answer = &buffer[..length];
    let codes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    super::say(codes.get(usize::from(answer[3] & 15)).ok_or("an unknown code")?)?;
    // Each answer: two bytes for the name, then type, class, seconds, length, data.
    let mut rest = answer.get(question..).ok_or("no question is repeated")?;
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        let (head, data) = rest.split_at_checked(12).ok_or("an answer is cut off")?;
        let (data, next) = data.split_at_checked(usize::from(head[11])).ok_or("an answer is cut off")?;
        match data.len() {
            4 => super::say(&IpAddr::from(<[u8; 4]>::try_from(data)?).to_string())?,
            16 => super::say(&IpAddr::from(<[u8; 16]>::try_from(data)?).to_string())?,
            other => super::say(&format!("{other} bytes"))?,
        }
        rest = next;
    }
    Ok(())
}

/// A question for what is known of a name.
fn query(name: &str, kind: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let kind: u16 = match kind {
        "A" => 1,
        "AAAA" => 28,
        number => number.parse()?,
    };
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len())?);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend([kind.to_be_bytes(), [0, 1]].concat());
    Ok(query)
}

/// A socket that speaks to the server of resolv.conf.
fn ask_names() -> Result<UdpSocket, Box<dyn std::error::Error>> {
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf")?;
    let server = resolv_conf.lines().find_map(|line| line.strip_prefix("nameserver ")).ok_or("there is no server")?;
    let server: IpAddr = server.trim().parse()?;
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(2 * PATIENCE))?;
    Ok(socket)
}

/// Looks a name up so often and prints the median of how many microseconds an answer takes.
pub fn look_ups(name: &str, times: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (query, socket) = (query(name, "A")?, ask_names()?);
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        socket.send(&query)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        took.push(start.elapsed().as_secs_f64() * 1e6);
        if length < 8 || answer[3] & 15 != 0 || answer[6..8] == [0, 0] {
            return Err("the name has no address".into());
        }
    }
    took.sort_by(f64::total_cmp);
    super::say(&format!("{:.1}", took.get(times / 2).ok_or("at least once")?))?;
    Ok(())
}

/// A server of names that tells everybody 192.0.2.77 for every name. Prints "ready", then each name that it is asked for.
pub fn name_server(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let socket = UdpSocket::bind((address.parse::<IpAddr>()?, 53))?;
    super::say("ready")?;
    let mut buffer = [0; 4096];
    loop {
        let (length, asker) = socket.recv_from(&mut buffer)?;
        let query = &buffer[..length];
        let (mut name, mut rest) = (Vec::new(), query.get(12..).unwrap_or_default());
        while let [length, after @ ..] = rest
            && *length > 0
        {
            let (label, next) = after.split_at_checked(usize::from(*length)).ok_or("a name is cut off")?;
            name.push(String::from_utf8_lossy(label).into_owned());
            rest = next;
        }
        super::say(&name.join("."))?;
        // Its header, the question and one answer; what else was asked for is left out.
        let mut answer = query[..query.len() - rest.len() + 5].to_vec();
        answer[2] |= 0x80;
        answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 77]);
        socket.send_to(&answer, asker)?;
    }
}
