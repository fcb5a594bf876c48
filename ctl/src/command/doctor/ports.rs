//! Ports of the host that containers will want, and somebody else has.

use std::collections::BTreeSet;
use std::path::Path;

use strata_proto::runtime::v1::{Container, Finding, PortBinding, PortProtocol, RestartKind};

use super::{notice, read};

/// A socket of TCP that listens: proc_net_tcp(5), the column "st".
const LISTENS: &str = "0A";

/// Says which containers, of those that are to be started again, will find their port taken. `root` is "/", but for tests.
pub fn findings(root: &Path, containers: &[Container]) -> Vec<Finding> {
    let table = |names: [&str; 2], state: Option<&str>| -> BTreeSet<u32> {
        names.iter().flat_map(|name| ports(&read(&root.join("proc/net").join(name)), state)).collect()
    };
    let (tcp, udp) = (table(["tcp", "tcp6"], Some(LISTENS)), table(["udp", "udp6"], None));
    let mut found = Vec::new();
    for container in containers.iter().filter(|container| container.pid == 0) {
        let Some(spec) = &container.spec else { continue };
        let policy = spec.restart_policy.as_ref().map_or(RestartKind::No, |policy| policy.kind());
        if matches!(policy, RestartKind::No | RestartKind::Unspecified) {
            continue;
        }
        for binding in &spec.port_bindings {
            let Some((port, protocol)) = fixed(binding) else { continue };
            let (taken, name, flag) = match protocol {
                PortProtocol::Udp => (&udp, "udp", "u"),
                _ => (&tcp, "tcp", "t"),
            };
            if taken.contains(&port) {
                found.push(notice(
                    format!(
                        "port {port}/{name}, which container {} wants when it is started again, is taken",
                        container.name
                    ),
                    format!("ss -l{flag}np 'sport = :{port}' says by whom; or publish another port"),
                ));
            }
        }
    }
    found
}

/// The one port of the host that a binding asks for.
fn fixed(binding: &PortBinding) -> Option<(u32, PortProtocol)> {
    let is_one = binding.last_host_port == 0 || binding.last_host_port == binding.first_host_port;
    let protocol = binding.port.as_ref()?.protocol();
    (is_one && binding.first_host_port > 0 && protocol != PortProtocol::Sctp)
        .then_some((binding.first_host_port, protocol))
}

/// Local ports of sockets in a state, or in any.
fn ports(table: &str, state: Option<&str>) -> Vec<u32> {
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_state = sockets.filter(|fields| state.is_none() || fields.get(3).copied() == state);
    of_state.filter_map(|fields| u32::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use strata_proto::runtime::v1::{ContainerSpec, Port, RestartPolicy};

    use super::*;

    fn container(name: &str, pid: u32, port: u32, protocol: PortProtocol, kind: RestartKind) -> Container {
        let port = PortBinding {
            port: Some(Port { number: 80, protocol: protocol.into() }),
            first_host_port: port,
            ..PortBinding::default()
        };
        let restart_policy = Some(RestartPolicy { kind: kind.into(), attempts: 0 });
        let spec = Some(ContainerSpec { restart_policy, port_bindings: vec![port], ..ContainerSpec::default() });
        Container { name: name.to_owned(), pid, spec, ..Container::default() }
    }

    #[test]
    fn a_port_that_somebody_else_has_is_told_of_for_who_will_want_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        // 8080 listens, 9090 is the end of a connection.
        let tcp = "  sl  local_address rem_address   st\n   0: 00000000:1F90 00000000:0000 0A x\n   \
                   1: 0100007F:2382 0100007F:1234 01 x\n";
        fs::write(root.path().join("proc/net/tcp"), tcp).unwrap();
        let udp = "  sl  local_address rem_address   st\n   0: 00000000000000000000000000000000:0035 x 07\n";
        fs::write(root.path().join("proc/net/udp6"), udp).unwrap();
        let all = [
            container("web", 0, 8080, PortProtocol::Tcp, RestartKind::Always),
            container("runs", 7, 8080, PortProtocol::Tcp, RestartKind::Always),
            container("stays", 0, 8080, PortProtocol::Tcp, RestartKind::No),
            container("other", 0, 9090, PortProtocol::Tcp, RestartKind::Always),
            container("names", 0, 53, PortProtocol::Udp, RestartKind::UnlessStopped),
            container("any", 0, 0, PortProtocol::Tcp, RestartKind::Always),
        ];

        let found: Vec<String> = findings(root.path(), &all).into_iter().map(|finding| finding.what).collect();

        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("port 8080/tcp, which container web wants"), "{found:?}");
        assert!(found[1].contains("port 53/udp, which container names wants"), "{found:?}");
    }
}
