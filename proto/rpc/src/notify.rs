//! What a service tells systemd of itself, so that `systemctl start` waits until it serves and its log says what it does:
//! sd_notify(3). Without systemd nobody listens, and nothing is told.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Where systemd listens: a path, or a name of the abstract namespace after an "@".
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells a state: "READY=1", "STOPPING=1".
pub(crate) fn tell(state: &str) {
    let Some(place) = env::var_os(VARIABLE).filter(|place| !place.is_empty()) else { return };
    if let Err(error) = send(&place, state) {
        tracing::warn!("cannot tell systemd {state}: {error}");
    }
}

fn send(place: &OsStr, state: &str) -> io::Result<()> {
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(place)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_at_a_path_and_at_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("@strata-notify-{}", std::process::id());
        let listeners = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (
                name.clone().into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name[1..]).unwrap()).unwrap(),
            ),
        ];
        for (place, listener) in listeners {
            send(&place, "READY=1").unwrap();
            let mut text = [0; 16];
            let length = listener.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"READY=1", "{place:?}");
        }
        assert!(send(OsStr::new("/nonexistent/notify"), "READY=1").is_err());
    }
}
