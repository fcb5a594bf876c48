//! `RUN --device`: which devices of the runtime's host a name means, by BuildKit's rules, and whether a step may have them.

use strata_dockerfile::{Dockerfile, Flag, Instruction, Kind, Run, device};

use crate::entitlements::{Entitlement, Entitlements, Grant, Wanted};
use crate::error::Error;
use crate::peers::{Device, Devices};

/// The most devices that an error lists.
const MOST: usize = 10;

/// What a step gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Full names, each once, in the order of the flags.
    pub names: Vec<String>,
    /// What is not there and not required, with why, for people.
    pub absent: Vec<String>,
}

/// Whether an instruction asks for devices.
pub fn wants_any(instruction: &Instruction) -> bool {
    matches!(&instruction.kind, Kind::Run(run) if !run.devices.is_empty())
}

/// Finds the devices of a RUN and refuses those that it may not have.
pub fn grant(file: &Dockerfile, run: &Run, devices: &Devices, entitlements: &Entitlements) -> Result<Granted, Error> {
    let mut granted = Granted::default();
    for flag in &run.devices {
        let wanted = device::parse(&flag.value).map_err(|error| {
            let diagnostic = file.diagnostic(flag.value_span, error.to_string());
            Error::Dockerfile(Box::new(diagnostic.did_you_mean(error.suggestion())))
        })?;
        let aliased = entitlements.request.iter().rev().find_map(|grant| match grant {
            Grant::Device { name, alias: Some(alias) } if *alias == wanted.name => Some(name.as_str()),
            _ => None,
        });
        let found = find(devices, aliased.unwrap_or(&wanted.name));
        if found.is_empty() {
            let what = match aliased {
                Some(name) => format!("device {:?}, which stands for {:?},", name, wanted.name),
                None => format!("device {:?}", wanted.name),
            };
            match wanted.is_required {
                true => return Err(missing(file, flag, &what, devices)),
                false => {
                    granted.absent.push(format!("{what} is not there, and the step runs without it{}", told(devices)))
                }
            }
        }
        for device in found {
            let is_granted = aliased.is_some() || is_granted(devices, device, &entitlements.request);
            if !is_open(device, entitlements) {
                let wanted = Wanted { entitlement: Entitlement::Device, what: &device.name, is_granted };
                entitlements.require(file, flag.span, &wanted)?;
            }
            if !granted.names.contains(&device.name) {
                granted.names.push(device.name.clone());
            }
        }
    }
    Ok(granted)
}

/// The devices that a name means: one by its full name, the first of a kind, all of a kind with `*`, else those whose
/// annotations say that they are of a class of this name.
fn find<'a>(devices: &'a Devices, name: &str) -> Vec<&'a Device> {
    let (kind, within) = name.split_once('=').unwrap_or((name, ""));
    let is_kind = kind.split_once('/').is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty());
    let of_kind = devices.devices.iter().filter(|device| device.kind() == kind);
    let found: Vec<&Device> = match within {
        _ if !is_kind => Vec::new(),
        "" => of_kind.take(1).collect(),
        "*" => of_kind.collect(),
        _ => of_kind.filter(|device| device.name == name).collect(),
    };
    match found.is_empty() && !name.is_empty() {
        true => devices.devices.iter().filter(|device| device.class == name).collect(),
        false => found,
    }
}

/// Every build may have it.
fn is_open(device: &Device, entitlements: &Entitlements) -> bool {
    device.is_auto_allowed || entitlements.open_devices.iter().any(|open| *open == device.name || open == device.kind())
}

/// The request names it, by any name that means it.
fn is_granted(devices: &Devices, device: &Device, request: &[Grant]) -> bool {
    request.iter().any(|grant| match grant {
        Grant::Whole(entitlement) => *entitlement == Entitlement::Device,
        Grant::Device { name, alias: None } => find(devices, name).contains(&device),
        Grant::Device { .. } => false,
    })
}

fn missing(file: &Dockerfile, flag: &Flag<String>, what: &str, devices: &Devices) -> Error {
    let names: Vec<&str> = devices.devices.iter().map(|device| device.name.as_str()).collect();
    let hint = match names.len() {
        0 => "the runtime finds no device: `[cdi] spec_dirs` in its configuration, runtime.toml, says where it looks for \
              spec files"
            .to_owned(),
        1..=MOST => format!("the runtime has {}", names.join(", ")),
        all => format!("the runtime has {} and {} more", names[..MOST].join(", "), all - MOST),
    };
    let message = format!("{what} is required and is not there{}", told(devices));
    let diagnostic = file.diagnostic(flag.span, message).with_suggestion(hint);
    Error::NoDevice { diagnostic: Box::new(diagnostic) }
}

/// Spec files that do not count may be why.
fn told(devices: &Devices) -> String {
    devices.problems.iter().take(MOST).map(|problem| format!("; {problem}")).collect()
}

#[cfg(test)]
mod tests;
