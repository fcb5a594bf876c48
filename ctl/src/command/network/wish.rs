//! What people type about the networks of a container.

use std::str::FromStr;

use strata_proto::runtime::v1 as pb;

use crate::args::{ContainerNetwork, NetworkConnect};
use crate::error::{Error, Result};
use crate::input;

/// Puts what the flags say into a spec.
pub fn of_container(args: &ContainerNetwork, spec: &mut pb::ContainerSpec) -> Result<()> {
    if let Some(link) = args.link.first() {
        let error = Error::usage(format!(
            "--link {link} is not available: in a network of their own, containers know each other"
        ));
        return Err(error.hint("`ctl network create NAME`, then --network NAME and --network-alias ALIAS for both"));
    }
    let mut attachments: Vec<pb::NetworkAttachment> =
        args.network.iter().map(|text| network(text)).collect::<Result<_>>()?;
    let is = |name: &str| matches!(attachments.as_slice(), [only] if only.network == name);
    if let [first, ..] = attachments.as_slice()
        && let Some(container) = attachments.iter().find_map(|one| one.network.strip_prefix("container:"))
    {
        if attachments.len() > 1 || attachments[0] != plain(&first.network) {
            let text =
                format!("with --network container:{container} there is no other network, no address and no alias");
            return Err(Error::usage(text));
        }
        spec.network_container = container.to_owned();
    }
    let mode = match attachments.as_slice() {
        [] => pb::NetworkMode::Unspecified,
        _ if !spec.network_container.is_empty() => pb::NetworkMode::Container,
        _ if is("none") => pb::NetworkMode::None,
        _ if is("host") => pb::NetworkMode::Host,
        _ => pb::NetworkMode::Networks,
    };
    let wishes = pb::NetworkAttachment {
        network: "bridge".to_owned(),
        aliases: args.network_alias.clone(),
        ipv4_address: args.ip.clone().unwrap_or_default(),
        ipv6_address: args.ip6.clone().unwrap_or_default(),
        mac_address: args.mac_address.clone().unwrap_or_default(),
        link_local_addresses: args.link_local_ip.clone(),
        gateway_priority: 0,
    };
    let has_wishes = wishes != plain(&wishes.network);
    let mode = match mode {
        pb::NetworkMode::Networks => mode,
        pb::NetworkMode::Unspecified if has_wishes => {
            attachments.push(plain(&wishes.network));
            pb::NetworkMode::Networks
        }
        _ if has_wishes => {
            let name = &attachments[0].network;
            return Err(Error::usage(format!("with --network {name} there is no address and no alias to choose")));
        }
        _ => {
            attachments.clear();
            mode
        }
    };
    if let Some(first) = attachments.first_mut() {
        add(first, wishes);
    }
    spec.network = mode.into();
    spec.networks = attachments;
    spec.domainname = args.domainname.clone().unwrap_or_default();
    spec.dns_servers = args.dns.clone();
    spec.dns_searches = args.dns_search.clone();
    spec.dns_options = args.dns_option.clone();
    for text in &args.add_host {
        match text.split_once(['=', ':']) {
            Some((name, "host-gateway")) => spec.host_gateway_names.push(name.to_owned()),
            _ => spec.extra_hosts.push(input::host(text)?),
        }
    }
    Ok(())
}

/// What the flags say goes to the first network, where that does not say it itself.
fn add(attachment: &mut pb::NetworkAttachment, wishes: pb::NetworkAttachment) {
    attachment.aliases.extend(wishes.aliases);
    attachment.link_local_addresses.extend(wishes.link_local_addresses);
    for (text, wish) in [
        (&mut attachment.ipv4_address, wishes.ipv4_address),
        (&mut attachment.ipv6_address, wishes.ipv6_address),
        (&mut attachment.mac_address, wishes.mac_address),
    ] {
        if text.is_empty() {
            *text = wish;
        }
    }
}

/// A network of which nothing special is wanted.
fn plain(name: &str) -> pb::NetworkAttachment {
    pb::NetworkAttachment { network: name.to_owned(), ..Default::default() }
}

/// "NAME", or "name=NAME,alias=ALIAS,ip=ADDRESS".
fn network(text: &str) -> Result<pb::NetworkAttachment> {
    if text == "container:" {
        return Err(Error::usage("--network container:NAME needs a container"));
    }
    if !text.contains('=') {
        return Ok(plain(if text == "default" { "bridge" } else { text }));
    }
    let wrong = |why: String| Error::usage(format!("invalid --network {text:?}: {why}"));
    let mut attachment = pb::NetworkAttachment::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| wrong(format!("{part:?} has no value")))?;
        let value = value.to_owned();
        match key {
            "name" => attachment.network = value,
            "alias" => attachment.aliases.push(value),
            "ip" => attachment.ipv4_address = value,
            "ip6" => attachment.ipv6_address = value,
            "mac-address" => attachment.mac_address = value,
            "link-local-ip" => attachment.link_local_addresses.push(value),
            "gw-priority" => {
                let number = i32::from_str(&value).map_err(|_| wrong(format!("{value:?} is no number")))?;
                attachment.gateway_priority = number;
            }
            _ => {
                let known = "name, alias, ip, ip6, mac-address, link-local-ip and gw-priority are";
                return Err(wrong(format!("{key:?} is not known; {known}")));
            }
        }
    }
    if attachment.network.is_empty() { Err(wrong("name=NAME is missing".to_owned())) } else { Ok(attachment) }
}

/// What `ctl network connect` asks for.
pub fn attachment(args: &NetworkConnect) -> pb::NetworkAttachment {
    pb::NetworkAttachment {
        network: args.network.clone(),
        aliases: args.alias.clone(),
        ipv4_address: args.ip.clone().unwrap_or_default(),
        ipv6_address: args.ip6.clone().unwrap_or_default(),
        mac_address: String::new(),
        link_local_addresses: args.link_local_ip.clone(),
        gateway_priority: args.gw_priority,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        network: ContainerNetwork,
    }

    fn spec(flags: &str) -> Result<pb::ContainerSpec> {
        let words = std::iter::once("run").chain(flags.split_whitespace());
        let mut spec = pb::ContainerSpec::default();
        of_container(&Flags::try_parse_from(words).unwrap().network, &mut spec)?;
        Ok(spec)
    }

    #[test]
    fn modes_and_names() {
        for (flags, mode, networks) in [
            ("", pb::NetworkMode::Unspecified, ""),
            ("--network none", pb::NetworkMode::None, ""),
            ("--net host", pb::NetworkMode::Host, ""),
            ("--network default", pb::NetworkMode::Networks, "bridge"),
            ("--network a --network b", pb::NetworkMode::Networks, "a b"),
            ("--network name=a,alias=x", pb::NetworkMode::Networks, "a"),
            ("--network-alias x", pb::NetworkMode::Networks, "bridge"),
            ("--network container:web", pb::NetworkMode::Container, ""),
        ] {
            let spec = spec(flags).unwrap();
            let names: Vec<&str> = spec.networks.iter().map(|network| network.network.as_str()).collect();
            assert_eq!((spec.network(), names.join(" ").as_str()), (mode, networks), "{flags}");
        }
    }

    #[test]
    fn wishes_go_to_the_first_network_unless_it_has_its_own() {
        let flags =
            "--network name=a,ip=10.0.0.5 --network b --ip 10.0.0.6 --network-alias x --mac-address 02:00:00:00:00:01";
        let spec = spec(flags).unwrap();
        let first = &spec.networks[0];
        assert_eq!((first.ipv4_address.as_str(), first.mac_address.as_str()), ("10.0.0.5", "02:00:00:00:00:01"));
        assert_eq!((first.aliases.join(" ").as_str(), spec.networks[1].aliases.len()), ("x", 0));
    }

    #[test]
    fn the_host_is_a_name_of_its_own() {
        let spec = spec("--add-host db:10.0.0.1 --add-host host.docker.internal:host-gateway").unwrap();
        assert_eq!((spec.extra_hosts.len(), spec.host_gateway_names), (1, vec!["host.docker.internal".to_owned()]));
    }

    #[test]
    fn the_container_whose_network_is_shared_stands_alone() {
        assert_eq!(spec("--network container:web").unwrap().network_container, "web");
        for flags in ["--ip 10.0.0.1", "--network-alias x", "--network net", "--mac-address 02:00:00:00:00:01"] {
            assert!(spec(&format!("--network container:web {flags}")).is_err(), "{flags}");
        }
        assert!(spec("--network net --network container:web").is_err());
        assert!(spec("--network name=container:web,alias=x").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for flags in ["--network host --ip 10.0.0.1", "--network none --network-alias x", "--network name=a,b=c"] {
            assert!(spec(flags).is_err(), "{flags}");
        }
        for flags in ["--network alias=x", "--network name=a,gw-priority=x", "--network container:", "--link db"] {
            assert!(spec(flags).is_err(), "{flags}");
        }
    }
}
