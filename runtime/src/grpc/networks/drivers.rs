//! Drivers of networks on the wire, with the options that each has.

use strata_net::{Driver, Ipvlan, IpvlanFlag, Macvlan};
use strata_proto::runtime::v1 as wire;

use crate::error::Error;

/// The driver of a network that shall be; options of another one are refused.
pub fn driver(spec: &wire::NetworkSpec) -> Result<Driver, Error> {
    let wrong = |field, number: i32| Err(Error::argument(field, format!("there is no {number}")));
    let Ok(kind) = wire::NetworkDriver::try_from(spec.driver) else { return wrong("spec.driver", spec.driver) };
    let Ok(mode) = wire::MacvlanMode::try_from(spec.macvlan_mode) else {
        return wrong("spec.macvlan_mode", spec.macvlan_mode);
    };
    let Ok(level) = wire::IpvlanMode::try_from(spec.ipvlan_mode) else {
        return wrong("spec.ipvlan_mode", spec.ipvlan_mode);
    };
    let Ok(flag) = wire::IpvlanFlag::try_from(spec.ipvlan_flag) else {
        return wrong("spec.ipvlan_flag", spec.ipvlan_flag);
    };
    let driver = match kind {
        wire::NetworkDriver::Unspecified | wire::NetworkDriver::Bridge => Driver::Bridge,
        wire::NetworkDriver::Macvlan => Driver::Macvlan(macvlan(mode)),
        wire::NetworkDriver::Ipvlan => Driver::Ipvlan(ipvlan(level), ipvlan_flag(flag)),
    };
    let foreign = [
        ("spec.macvlan_mode", mode != wire::MacvlanMode::Unspecified, matches!(driver, Driver::Macvlan(_))),
        ("spec.ipvlan_mode", level != wire::IpvlanMode::Unspecified, matches!(driver, Driver::Ipvlan(..))),
        ("spec.ipvlan_flag", flag != wire::IpvlanFlag::Unspecified, matches!(driver, Driver::Ipvlan(..))),
        ("spec.is_closed_within", spec.is_closed_within, driver.is_bridge()),
        ("spec.has_no_masquerade", spec.has_no_masquerade, driver.is_bridge()),
        ("spec.host_binding", !spec.host_binding.is_empty(), driver.is_bridge()),
    ];
    match foreign.into_iter().find(|(_, is_said, is_meant)| *is_said && !is_meant) {
        Some((field, ..)) => Err(Error::argument(field, format!("networks of {} have no such option", driver.name()))),
        None => Ok(driver),
    }
}

fn macvlan(mode: wire::MacvlanMode) -> Macvlan {
    match mode {
        wire::MacvlanMode::Unspecified | wire::MacvlanMode::Bridge => Macvlan::Bridge,
        wire::MacvlanMode::Private => Macvlan::Private,
        wire::MacvlanMode::Vepa => Macvlan::Vepa,
        wire::MacvlanMode::Passthru => Macvlan::Passthru,
    }
}

fn ipvlan(mode: wire::IpvlanMode) -> Ipvlan {
    match mode {
        wire::IpvlanMode::Unspecified | wire::IpvlanMode::L2 => Ipvlan::L2,
        wire::IpvlanMode::L3 => Ipvlan::L3,
        wire::IpvlanMode::L3s => Ipvlan::L3s,
    }
}

fn ipvlan_flag(flag: wire::IpvlanFlag) -> IpvlanFlag {
    match flag {
        wire::IpvlanFlag::Unspecified | wire::IpvlanFlag::Bridge => IpvlanFlag::Bridge,
        wire::IpvlanFlag::Private => IpvlanFlag::Private,
        wire::IpvlanFlag::Vepa => IpvlanFlag::Vepa,
    }
}

/// Tells what a network has.
pub fn tell(driver: Driver, spec: &mut wire::NetworkSpec) {
    match driver {
        Driver::Bridge => spec.set_driver(wire::NetworkDriver::Bridge),
        Driver::Macvlan(mode) => {
            spec.set_driver(wire::NetworkDriver::Macvlan);
            spec.set_macvlan_mode(match mode {
                Macvlan::Bridge => wire::MacvlanMode::Bridge,
                Macvlan::Private => wire::MacvlanMode::Private,
                Macvlan::Vepa => wire::MacvlanMode::Vepa,
                Macvlan::Passthru => wire::MacvlanMode::Passthru,
            });
        }
        Driver::Ipvlan(mode, flag) => {
            spec.set_driver(wire::NetworkDriver::Ipvlan);
            spec.set_ipvlan_mode(match mode {
                Ipvlan::L2 => wire::IpvlanMode::L2,
                Ipvlan::L3 => wire::IpvlanMode::L3,
                Ipvlan::L3s => wire::IpvlanMode::L3s,
            });
            spec.set_ipvlan_flag(match flag {
                IpvlanFlag::Bridge => wire::IpvlanFlag::Bridge,
                IpvlanFlag::Private => wire::IpvlanFlag::Private,
                IpvlanFlag::Vepa => wire::IpvlanFlag::Vepa,
            });
        }
    }
}
