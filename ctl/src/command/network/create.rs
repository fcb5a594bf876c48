//! `ctl network create`

use std::net::IpAddr;

use strata_proto::runtime::v1 as pb;
use strata_proto::types::v1::HostEntry;

use crate::args::NetworkCreate;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::{input, render};

/// Creates a network and prints its id.
pub async fn run(platform: &Platform, args: &NetworkCreate) -> Result<u8> {
    let request = pb::CreateNetworkRequest { spec: Some(spec(args)?) };
    let reply = platform.networks().await?.create_network(request).await?.into_inner();
    render::line(reply.network.ok_or_else(|| super::super::incomplete("a network"))?.id)?;
    Ok(0)
}

fn spec(args: &NetworkCreate) -> Result<pb::NetworkSpec> {
    let driver = match args.driver.as_str() {
        "bridge" => pb::NetworkDriver::Bridge,
        "macvlan" => pb::NetworkDriver::Macvlan,
        "ipvlan" => pb::NetworkDriver::Ipvlan,
        other => {
            return Err(Error::usage(format!("there is no driver {other:?}: bridge, macvlan and ipvlan are there")));
        }
    };
    let pools = pools(args)?;
    let has_six = pools.iter().any(|pool| pool.subnet.contains(':'));
    let mut spec = pb::NetworkSpec {
        name: args.name.clone(),
        driver: driver.into(),
        pools,
        has_no_ipv4: !args.ipv4,
        has_ipv6: args.ipv6 || has_six,
        is_internal: args.internal,
        labels: input::labels(&[], &args.label)?,
        ..Default::default()
    };
    args.opt.iter().try_for_each(|option| set(&mut spec, option))?;
    Ok(spec)
}

/// One option of the driver, by Docker's name.
fn set(spec: &mut pb::NetworkSpec, option: &str) -> Result<()> {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    let wrong = |why: &str| Error::usage(format!("invalid --opt {option:?}: {why}"));
    let truth = || match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(wrong("true or false is expected")),
    };
    let is_bridge = spec.driver() == pb::NetworkDriver::Bridge;
    let bare = key.strip_prefix("com.docker.network.").unwrap_or(key);
    if (bare.starts_with("bridge.") && !is_bridge) || (bare == "parent" && is_bridge) {
        return Err(wrong(&format!("networks of {} have no such option", super::driver(spec))));
    }
    match bare {
        "parent" => spec.interface = value.to_owned(),
        "macvlan_mode" => spec.set_macvlan_mode(match value {
            "bridge" => pb::MacvlanMode::Bridge,
            "private" => pb::MacvlanMode::Private,
            "vepa" => pb::MacvlanMode::Vepa,
            "passthru" => pb::MacvlanMode::Passthru,
            _ => return Err(wrong("bridge, private, vepa or passthru is expected")),
        }),
        "ipvlan_mode" => spec.set_ipvlan_mode(match value {
            "l2" => pb::IpvlanMode::L2,
            "l3" => pb::IpvlanMode::L3,
            "l3s" => pb::IpvlanMode::L3s,
            _ => return Err(wrong("l2, l3 or l3s is expected")),
        }),
        "ipvlan_flag" => spec.set_ipvlan_flag(match value {
            "bridge" => pb::IpvlanFlag::Bridge,
            "private" => pb::IpvlanFlag::Private,
            "vepa" => pb::IpvlanFlag::Vepa,
            _ => return Err(wrong("bridge, private or vepa is expected")),
        }),
        "bridge.name" => spec.interface = value.to_owned(),
        "bridge.enable_icc" => spec.is_closed_within = !truth()?,
        "bridge.enable_ip_masquerade" => spec.has_no_masquerade = !truth()?,
        "bridge.host_binding_ipv4" => spec.host_binding = value.to_owned(),
        "driver.mtu" | "mtu" => spec.mtu = value.parse().map_err(|_| wrong("a number of bytes is expected"))?,
        _ => return Err(wrong("it is not known: `ctl network create --help` shows those that are")),
    }
    Ok(())
}

/// Each subnet with the range, gateway and other addresses that are in it.
fn pools(args: &NetworkCreate) -> Result<Vec<pb::NetworkPool>> {
    let mut pools: Vec<pb::NetworkPool> =
        args.subnet.iter().map(|subnet| pb::NetworkPool { subnet: subnet.clone(), ..Default::default() }).collect();
    let orphan = |what: &str, text: &str| Error::usage(format!("no --subnet holds the {what} {text}"));
    for range in &args.ip_range {
        let first = range.split('/').next().unwrap_or_default();
        let pool = holder(&mut pools, first).filter(|pool| pool.range.is_empty());
        pool.ok_or_else(|| orphan("range", range))?.range = range.clone();
    }
    for gateway in &args.gateway {
        let pool = holder(&mut pools, gateway).filter(|pool| pool.gateway.is_empty());
        pool.ok_or_else(|| orphan("gateway", gateway))?.gateway = gateway.clone();
    }
    for text in &args.aux_address {
        let (name, address) = text
            .split_once('=')
            .ok_or_else(|| Error::usage(format!("invalid --aux-address {text:?}: NAME=ADDRESS")))?;
        let pool = holder(&mut pools, address).ok_or_else(|| orphan("address", address))?;
        pool.reserved.push(HostEntry { name: name.to_owned(), address: address.to_owned() });
    }
    Ok(pools)
}

/// The pool whose subnet an address is in.
fn holder<'a>(pools: &'a mut [pb::NetworkPool], address: &str) -> Option<&'a mut pb::NetworkPool> {
    let address: IpAddr = address.parse().ok()?;
    pools.iter_mut().find(|pool| holds(&pool.subnet, address).unwrap_or(false))
}

fn holds(subnet: &str, address: IpAddr) -> Option<bool> {
    let (first, length) = subnet.split_once('/')?;
    let (first, length): (IpAddr, u32) = (first.parse().ok()?, length.parse().ok()?);
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let differs = bits(first) ^ bits(address);
    Some(first.is_ipv4() == address.is_ipv4() && (length == 0 || differs.leading_zeros() >= length))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        create: NetworkCreate,
    }

    fn made(words: &str) -> Result<pb::NetworkSpec> {
        spec(&Flags::try_parse_from(words.split_whitespace()).unwrap().create)
    }

    #[test]
    fn addresses_go_to_the_subnet_that_holds_them() {
        let words = "create --subnet 10.1.0.0/16 --subnet fd00:1::/64 --gateway fd00:1::9 --ip-range 10.1.5.0/24 \
                     --aux-address printer=10.1.5.9 --gateway 10.1.0.9 net";
        let spec = made(words).unwrap();
        let [four, six] = spec.pools.as_slice() else { panic!("{spec:?}") };
        assert_eq!((four.gateway.as_str(), four.range.as_str()), ("10.1.0.9", "10.1.5.0/24"));
        assert_eq!(four.reserved[0].address, "10.1.5.9");
        assert!(six.gateway == "fd00:1::9" && spec.has_ipv6);
        for words in ["create --gateway 10.1.0.1 net", "create --subnet 10.1.0.0/16 --ip-range 10.2.0.0/24 net"] {
            assert!(made(words).is_err(), "{words}");
        }
    }

    #[test]
    fn options_of_the_driver_are_dockers() {
        let words = "create -o com.docker.network.bridge.name=br9 --opt com.docker.network.driver.mtu=1400 \
                     -o com.docker.network.bridge.enable_icc=false --ipv6 --ipv4=false net";
        let spec = made(words).unwrap();
        assert_eq!((spec.interface.as_str(), spec.mtu, spec.is_closed_within), ("br9", 1400, true));
        assert!(spec.has_ipv6 && spec.has_no_ipv4 && !spec.has_no_masquerade);
        let words = "create -d macvlan -o parent=eth0.50 -o macvlan_mode=vepa net";
        let spec = made(words).unwrap();
        assert_eq!((spec.driver(), spec.interface.as_str()), (pb::NetworkDriver::Macvlan, "eth0.50"));
        assert_eq!(spec.macvlan_mode(), pb::MacvlanMode::Vepa);
        let spec = made("create -d ipvlan -o ipvlan_mode=l3s -o ipvlan_flag=private net").unwrap();
        assert_eq!((spec.ipvlan_mode(), spec.ipvlan_flag()), (pb::IpvlanMode::L3s, pb::IpvlanFlag::Private));
        for words in [
            "create -d overlay net",
            "create -o parent=eth0 net",
            "create -d macvlan -o macvlan_mode=l2 net",
            "create -d macvlan -o com.docker.network.bridge.name=br9 net",
        ] {
            assert!(made(words).is_err(), "{words}");
        }
        for words in ["create -o nonsense=1 net", "create -o com.docker.network.bridge.enable_icc=maybe net"] {
            assert!(made(words).is_err(), "{words}");
        }
    }
}
