//! Ways to services: endpoints, `ssh`, and hosts that all three are on.

use std::path::Path;

use strata_rpc::{Endpoint, paths};

use super::Named;
use crate::error::{Error, Result};
use crate::tunnel::Ssh;

/// Port of the store on a host that says no other; the runtime is one above it, the builder two.
const FIRST_PORT: u16 = 7001;

/// The way to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A socket or a port.
    Service(Endpoint),
    /// On demand on another host.
    Ssh(Ssh),
}

impl Way {
    /// Reads unix:PATH, tcp:HOST:PORT or ssh://[USER@]HOST[:PORT].
    pub fn parse(text: &str) -> Result<Self> {
        match Ssh::parse(text) {
            Some(ssh) => Ok(Self::Ssh(ssh?)),
            None => Ok(Self::Service(Endpoint::parse(text)?)),
        }
    }
}

impl Named {
    /// The services of this host, which are started on demand: for who wants to see where they are.
    pub fn on_demand() -> Self {
        let socket = |service| format!("unix:{}", paths::socket(service).display());
        let (store, builder, runtime) = (socket("store"), socket("builder"), socket("runtime"));
        Self { store, builder, runtime, ..Self::default() }
    }

    /// The services of a host: "ssh://[USER@]HOST[:PORT]", "unix:///DIRECTORY", "tcp://HOST[:PORT]".
    ///
    /// # Errors
    ///
    /// It is none of these.
    pub fn at(host: &str) -> Result<Self> {
        if let Some(ssh) = Ssh::parse(host) {
            let text = ssh?.to_string();
            return Ok(Self { store: text.clone(), builder: text.clone(), runtime: text, ..Self::default() });
        }
        let wrong = || {
            let forms = "ssh://[USER@]HOST[:PORT], unix:///DIRECTORY or tcp://HOST[:PORT]";
            Error::usage(format!("invalid host {host:?}: it must be {forms}"))
        };
        if let Some(directory) = host.strip_prefix("unix://").map(Path::new) {
            if !directory.is_absolute() {
                return Err(wrong());
            }
            let socket = |name: &str| format!("unix:{}", directory.join(name).display());
            let (store, builder, runtime) = (socket("store.sock"), socket("builder.sock"), socket("runtime.sock"));
            return Ok(Self { store, builder, runtime, ..Self::default() });
        }
        let place = host.strip_prefix("tcp://").ok_or_else(wrong)?;
        let place = place.strip_suffix('/').unwrap_or(place);
        let is_whole = Endpoint::parse(&format!("tcp:{place}")).is_ok();
        let first = if is_whole { format!("tcp:{place}") } else { format!("tcp:{place}:{FIRST_PORT}") };
        let Ok(Endpoint::Tcp { host, port }) = Endpoint::parse(&first) else { return Err(wrong()) };
        let above = |by: u16| {
            let port = port.checked_add(by).ok_or_else(wrong)?;
            Ok::<_, Error>(Endpoint::Tcp { host: host.clone(), port }.to_string())
        };
        Ok(Self { store: above(0)?, runtime: above(1)?, builder: above(2)?, ..Self::default() })
    }

    /// Refuses endpoints that cannot be, and TCP without certificates.
    pub fn check(&self) -> Result<()> {
        let has_tls = self.tls_ca.is_some() && self.tls_cert.is_some() && self.tls_key.is_some();
        for (flag, text) in [("--store", &self.store), ("--builder", &self.builder), ("--runtime", &self.runtime)] {
            if text.is_empty() {
                let error = Error::usage(format!("{flag} is missing: a context names all three services"));
                return Err(error.hint("--host names a host that all of them are on"));
            }
            let way = Way::parse(text).map_err(|error| Error::usage(format!("{flag}: {}", error.message)))?;
            if matches!(way, Way::Service(Endpoint::Tcp { .. })) && !has_tls {
                let needs = "a TCP endpoint needs --tls-ca, --tls-cert and --tls-key";
                let error = Error::usage(format!("{flag} {text}: {needs}"));
                return Err(error.hint("`ctl tls init` makes the certificates"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_all_three_services() {
        for (host, store, builder, runtime) in [
            ("ssh://me@node", "ssh://me@node", "ssh://me@node", "ssh://me@node"),
            ("unix:///run/x", "unix:/run/x/store.sock", "unix:/run/x/builder.sock", "unix:/run/x/runtime.sock"),
            ("tcp://node", "tcp:node:7001", "tcp:node:7003", "tcp:node:7002"),
            ("tcp://[fd00::1]:8000/", "tcp:[fd00::1]:8000", "tcp:[fd00::1]:8002", "tcp:[fd00::1]:8001"),
        ] {
            let named = Named::at(host).unwrap();

            assert_eq!([&named.store, &named.builder, &named.runtime], [store, builder, runtime], "{host}");
        }
        for host in ["", "node", "http://node", "unix://x", "tcp://", "tcp://node:65535", "ssh://"] {
            assert!(Named::at(host).is_err(), "{host}");
        }
    }

    #[test]
    fn a_context_names_all_services_and_tcp_has_certificates() {
        assert!(Named::at("ssh://node").unwrap().check().is_ok());
        assert!(Named::default().check().unwrap_err().message.contains("--store is missing"));
        let tcp = Named::at("tcp://node").unwrap();
        assert!(tcp.check().unwrap_err().message.contains("needs --tls-ca"));
        let tls = || Some("x.pem".into());
        assert!(Named { tls_ca: tls(), tls_cert: tls(), tls_key: tls(), ..tcp }.check().is_ok());
    }
}
