//! What containers want and have of networks, from the wire and back. What comes in is checked here, once.

use std::net::IpAddr;

use strata_net::{Attachment, Endpoint, Family, Mac};
use strata_proto::runtime::v1 as wire;

use crate::{
    error::Error,
    spec::{Network, Resolution},
};

/// The most networks of one container.
const MOST: usize = 64;
/// The most of names, servers, options.
const MOST_TEXTS: usize = 256;

/// Parses the network of a container.
pub fn network(mode: i32, networks: Vec<wire::NetworkAttachment>, container: String) -> Result<Network, Error> {
    let wrong = |problem: &str| Err(Error::argument("spec.networks", problem));
    let mode = wire::NetworkMode::try_from(mode)
        .map_err(|_| Error::argument("spec.network", format!("there is no network mode {mode}")))?;
    if container.is_empty() == (mode == wire::NetworkMode::Container) {
        return Err(Error::argument("spec.network_container", "it goes with NETWORK_MODE_CONTAINER, which needs it"));
    }
    let plain = match mode {
        wire::NetworkMode::Unspecified => Network::Default,
        wire::NetworkMode::None => Network::None,
        wire::NetworkMode::Host => Network::Host,
        wire::NetworkMode::Container => Network::Container(container),
        wire::NetworkMode::Networks => {
            if networks.is_empty() || networks.len() > MOST {
                return wrong("there must be one at least, and 64 at most");
            }
            let attachments: Vec<Attachment> =
                networks.into_iter().map(|network| attachment("spec.networks", network)).collect::<Result<_, _>>()?;
            let is_twice = |(index, one): (usize, &Attachment)| {
                attachments[..index].iter().any(|other| other.network == one.network)
            };
            if attachments.iter().enumerate().any(is_twice) {
                return wrong("one is named twice");
            }
            return Ok(Network::Networks(attachments));
        }
    };
    match networks.is_empty() {
        true => Ok(plain),
        false => wrong("the mode of the network has none"),
    }
}

/// Refuses what a container that shares another one's network has from that one.
pub fn check_shared(spec: &wire::ContainerSpec) -> Result<(), Error> {
    if spec.network() != wire::NetworkMode::Container {
        return Ok(());
    }
    for (field, is_said) in [
        ("spec.hostname", !spec.hostname.is_empty()),
        ("spec.domainname", !spec.domainname.is_empty()),
        ("spec.dns_servers", !spec.dns_servers.is_empty()),
        ("spec.dns_searches", !spec.dns_searches.is_empty()),
        ("spec.dns_options", !spec.dns_options.is_empty()),
        ("spec.extra_hosts", !spec.extra_hosts.is_empty()),
        ("spec.host_gateway_names", !spec.host_gateway_names.is_empty()),
    ] {
        if is_said {
            let problem = "conflicting options: a container that shares another one's network has this from that one";
            return Err(Error::argument(field, problem));
        }
    }
    Ok(())
}

/// Parses what a container wants of a network.
pub fn attachment(field: &'static str, network: wire::NetworkAttachment) -> Result<Attachment, Error> {
    let wrong = |problem: String| Error::argument(field, problem);
    if network.network.is_empty() || network.network.len() > 128 {
        return Err(wrong("a network has no name".to_owned()));
    }
    names(field, &network.aliases)?;
    let address = |text: &str, is_meant: fn(&IpAddr) -> bool| match text {
        "" => Ok(None),
        text => {
            let address = text.parse().ok().filter(is_meant);
            address.map(Some).ok_or_else(|| wrong(format!("{text:?} is no such address")))
        }
    };
    let mac = match network.mac_address.as_str() {
        "" => None,
        text => Some(text.parse::<Mac>().map_err(|error| wrong(error.to_string()))?),
    };
    let link_local = network.link_local_addresses.iter().take(MOST_TEXTS);
    Ok(Attachment {
        ipv4: address(&network.ipv4_address, IpAddr::is_ipv4)?,
        ipv6: address(&network.ipv6_address, IpAddr::is_ipv6)?,
        link_local: link_local
            .map(|text| text.parse().map_err(|_| wrong(format!("{text:?} is no address"))))
            .collect::<Result<_, _>>()?,
        network: network.network,
        aliases: network.aliases,
        mac,
        gateway_priority: network.gateway_priority,
    })
}

/// Takes out of a spec how names lead to addresses.
pub fn resolution(spec: &mut wire::ContainerSpec) -> Result<Resolution, Error> {
    let servers =
        spec.dns_servers.iter().take(MOST_TEXTS).map(|text| {
            text.parse().map_err(|_| Error::argument("spec.dns_servers", format!("{text:?} is no address")))
        });
    let servers = servers.collect::<Result<_, _>>()?;
    if !spec.domainname.is_empty() {
        names("spec.domainname", std::slice::from_ref(&spec.domainname))?;
    }
    names("spec.host_gateway_names", &spec.host_gateway_names)?;
    // Lines of a file: a break would begin another.
    let is_word =
        |text: &String| !text.is_empty() && text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_graphic());
    for (field, texts) in [("spec.dns_searches", &spec.dns_searches), ("spec.dns_options", &spec.dns_options)] {
        if texts.len() > MOST_TEXTS || !texts.iter().all(is_word) {
            return Err(Error::argument(field, "one of them is no word, or there are too many"));
        }
    }
    Ok(Resolution {
        domainname: std::mem::take(&mut spec.domainname),
        servers,
        searches: std::mem::take(&mut spec.dns_searches),
        options: std::mem::take(&mut spec.dns_options),
        host_gateway_names: std::mem::take(&mut spec.host_gateway_names),
    })
}

/// Names of hosts: letters, digits, "-", "." and "_".
fn names(field: &'static str, names: &[String]) -> Result<(), Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name =
        |name: &&String| (1..=253).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with(['-', '.']);
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(Error::argument(field, format!("{name:?} is no host name"))),
        None if names.len() > MOST_TEXTS => Err(Error::argument(field, "there are too many")),
        None => Ok(()),
    }
}

/// The mode as the wire shows it.
pub fn wire_mode(network: &Network) -> wire::NetworkMode {
    match network {
        Network::Default => wire::NetworkMode::Unspecified,
        Network::None => wire::NetworkMode::None,
        Network::Host => wire::NetworkMode::Host,
        Network::Networks(_) => wire::NetworkMode::Networks,
        Network::Container(_) => wire::NetworkMode::Container,
    }
}

/// The container whose network another one shares, as the wire shows it.
pub fn wire_container(network: &Network) -> String {
    match network {
        Network::Container(id) => id.clone(),
        Network::Default | Network::None | Network::Host | Network::Networks(_) => String::new(),
    }
}

/// What a container wants of a network, as the wire shows it.
pub fn wire_attachment(attachment: &Attachment) -> wire::NetworkAttachment {
    let text = |address: Option<IpAddr>| address.map_or_else(String::new, |address| address.to_string());
    wire::NetworkAttachment {
        network: attachment.network.clone(),
        aliases: attachment.aliases.clone(),
        ipv4_address: text(attachment.ipv4),
        ipv6_address: text(attachment.ipv6),
        mac_address: attachment.mac.map_or_else(String::new, |mac| mac.to_string()),
        link_local_addresses: attachment.link_local.iter().map(ToString::to_string).collect(),
        gateway_priority: attachment.gateway_priority,
    }
}

/// What a container has of a network, as the wire shows it.
pub fn wire_endpoint(endpoint: &Endpoint) -> wire::Endpoint {
    let of = |family| {
        endpoint.address(family).map_or((String::new(), 0, String::new()), |held| {
            (held.address.to_string(), u32::from(held.length), held.gateway.to_string())
        })
    };
    let (ipv4_address, ipv4_prefix_length, ipv4_gateway) = of(Family::V4);
    let (ipv6_address, ipv6_prefix_length, ipv6_gateway) = of(Family::V6);
    wire::Endpoint {
        id: endpoint.id.clone(),
        network_id: endpoint.network.to_string(),
        network_name: endpoint.network_name.to_string(),
        interface: endpoint.interface.clone(),
        mac_address: endpoint.mac.to_string(),
        ipv4_address,
        ipv4_prefix_length,
        ipv4_gateway,
        ipv6_address,
        ipv6_prefix_length,
        ipv6_gateway,
        aliases: endpoint.aliases.clone(),
        is_way_out: endpoint.is_way_out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(change: impl FnOnce(&mut wire::NetworkAttachment)) -> Result<Attachment, Error> {
        let mut wish = wire::NetworkAttachment { network: "net".into(), ..Default::default() };
        change(&mut wish);
        attachment("attachment", wish)
    }

    #[test]
    fn an_attachment_is_shown_as_it_came() {
        let message = wire::NetworkAttachment {
            network: "net".into(),
            aliases: vec!["db".into()],
            ipv4_address: "10.0.0.5".into(),
            ipv6_address: "fd00::5".into(),
            mac_address: "02:00:00:00:00:05".into(),
            link_local_addresses: vec!["169.254.1.5".into()],
            gateway_priority: -1,
        };
        assert_eq!(wire_attachment(&attachment("attachment", message.clone()).unwrap()), message);
    }

    #[test]
    fn what_is_no_address_or_name_is_refused() {
        assert!(wish(|_| {}).is_ok());
        assert!(wish(|wish| wish.network.clear()).is_err());
        assert!(wish(|wish| wish.ipv4_address = "fd00::5".into()).is_err());
        assert!(wish(|wish| wish.ipv6_address = "10.0.0.5".into()).is_err());
        assert!(wish(|wish| wish.mac_address = "ff:ff:ff:ff:ff:ff".into()).is_err());
        assert!(wish(|wish| wish.link_local_addresses = vec!["x".into()]).is_err());
        for alias in ["", "a b", "a\n1.2.3.4 b", "-a", ".a", &"a".repeat(254)] {
            assert!(wish(|wish| wish.aliases = vec![alias.into()]).is_err(), "{alias:?}");
        }
    }

    #[test]
    fn only_one_mode_has_networks_and_it_has_one_at_least() {
        let net = || vec![wire::NetworkAttachment { network: "net".into(), ..Default::default() }];
        let network = |mode: wire::NetworkMode, networks| network(mode.into(), networks, String::new());
        assert!(network(wire::NetworkMode::Networks, net()).is_ok());
        assert!(network(wire::NetworkMode::Networks, vec![]).is_err());
        assert!(network(wire::NetworkMode::Networks, [net(), net()].concat()).is_err());
        assert!(network(wire::NetworkMode::Host, net()).is_err());
        assert!(super::network(99, vec![], String::new()).is_err());
    }

    #[test]
    fn whose_network_is_shared_is_said_where_one_is_shared() {
        let shared = |networks| network(wire::NetworkMode::Container.into(), networks, "web".into());
        assert_eq!(shared(vec![]).unwrap(), Network::Container("web".into()));
        assert!(shared(vec![wire::NetworkAttachment { network: "net".into(), ..Default::default() }]).is_err());
        assert!(network(wire::NetworkMode::Container.into(), vec![], String::new()).is_err());
        assert!(network(wire::NetworkMode::None.into(), vec![], "web".into()).is_err());
    }

    #[test]
    fn lines_of_resolv_conf_cannot_be_broken() {
        let refused = |change: fn(&mut wire::ContainerSpec)| {
            let mut spec = wire::ContainerSpec::default();
            change(&mut spec);
            resolution(&mut spec).is_err()
        };
        assert!(!refused(|_| {}));
        assert!(refused(|spec| spec.dns_servers = vec!["10.0.0.1\nx".into()]));
        assert!(refused(|spec| spec.dns_searches = vec!["a\nnameserver 1.2.3.4".into()]));
        assert!(refused(|spec| spec.dns_options = vec!["a b".into()]));
        assert!(refused(|spec| spec.domainname = "a\n".into()));
        assert!(refused(|spec| spec.host_gateway_names = vec!["a\n1.2.3.4 b".into()]));
    }
}
