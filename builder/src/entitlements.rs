//! What steps may do beyond the usual: only where both the configuration of this builder and the request allow it. Whatever
//! starts a process asks here. Which devices a name means is in `devices`.

use strata_dockerfile::{Dockerfile, Flag, Instruction, Kind};

use crate::error::Error;

/// Something that is not everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entitlement {
    /// The network of the host.
    HostNetwork,
    /// All capabilities, no filter of system calls, nothing hidden.
    Insecure,
    /// Devices of the host.
    Device,
}

impl Entitlement {
    /// Every one of them.
    const ALL: [Entitlement; 3] = [Entitlement::HostNetwork, Entitlement::Insecure, Entitlement::Device];

    /// Its name in flags and configuration, as in BuildKit.
    pub fn name(self) -> &'static str {
        match self {
            Entitlement::HostNetwork => "network.host",
            Entitlement::Insecure => "security.insecure",
            Entitlement::Device => "device",
        }
    }

    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| format!("{text:?} is nothing that can be allowed; what can is {}", names()))
    }
}

/// What a request allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// All of it.
    Whole(Entitlement),
    /// The devices of one name.
    Device {
        /// The name, as in `RUN --device`.
        name: String,
        /// What the Dockerfile calls them instead.
        alias: Option<String>,
    },
}

impl Grant {
    /// Parses an entitlement: `security.insecure`, `device`, `device=NAME`, `device=NAME,alias=NAME`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("device=").filter(|rest| !rest.is_empty()) else {
            return Entitlement::parse(text.trim_end_matches('=')).map(Self::Whole);
        };
        let mut parts = rest.split(',');
        let name = parts.next().unwrap_or_default();
        let mut alias = None;
        for part in parts {
            match part.split_once('=') {
                Some(("alias", value)) if !value.is_empty() => alias = Some(value.to_owned()),
                _ => return Err(format!("{part:?} in {text:?}: after the device there can be alias=NAME alone")),
            }
        }
        match name.is_empty() {
            true => Err(format!("{text:?} names no device: device=vendor.com/class=name")),
            false => Ok(Self::Device { name: name.to_owned(), alias }),
        }
    }
}

/// What a build may do.
#[derive(Debug, Clone, Default)]
pub struct Entitlements {
    /// What the configuration allows.
    pub service: Vec<Entitlement>,
    /// Devices, or kinds of them, that the configuration gives to every build.
    pub open_devices: Vec<String>,
    /// What the request allows.
    pub request: Vec<Grant>,
}

impl Entitlements {
    /// Refuses an instruction that wants more than is allowed.
    pub fn check(&self, file: &Dockerfile, instruction: &Instruction) -> Result<(), Error> {
        let Kind::Run(run) = &instruction.kind else { return Ok(()) };
        let wanted = Entitlement::Insecure;
        match &run.security {
            Some(flag) if flag.value == "insecure" => {
                let is_granted = self.request.contains(&Grant::Whole(wanted));
                self.require(file, flag, &Wanted { entitlement: wanted, what: wanted.name(), is_granted })
            }
            _ => Ok(()),
        }
    }

    /// Refuses what the service does not allow, or the request did not grant.
    pub fn require(&self, file: &Dockerfile, flag: &Flag<String>, wanted: &Wanted<'_>) -> Result<(), Error> {
        let name = wanted.entitlement.name();
        let (who, hint) = match (self.service.contains(&wanted.entitlement), wanted.is_granted) {
            (true, true) => return Ok(()),
            (true, false) => ("this build", format!("`ctl build --allow {}` allows it", wanted.flag())),
            (false, _) => {
                let hint =
                    format!("`insecure_entitlements = [{name:?}]` in its configuration, builder.toml, allows it");
                ("the builder", hint)
            }
        };
        let message = match wanted.entitlement {
            Entitlement::Device => format!("device {} is not allowed by {who}", wanted.what),
            _ => format!("{name} is not allowed by {who}"),
        };
        let diagnostic = file.diagnostic(flag.span, message).with_suggestion(hint);
        Err(Error::NotAllowed { diagnostic: Box::new(diagnostic) })
    }
}

/// Something that a step wants.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// What must be allowed.
    pub entitlement: Entitlement,
    /// What it is for: its name, or that of a device.
    pub what: &'a str,
    /// The request allows it.
    pub is_granted: bool,
}

impl Wanted<'_> {
    /// What to pass to `--allow`.
    fn flag(&self) -> String {
        match self.entitlement {
            Entitlement::Device => format!("device={}", self.what),
            other => other.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 105 (CVE-2024-23653): both must allow it, whatever asks.
    #[test]
    fn row_105_what_is_allowed_is_allowed_by_service_and_request() {
        let text = "FROM x\nRUN true\nRUN --security=sandbox true\nRUN --security=insecure true\n";
        let file = strata_dockerfile::parse(text, "Dockerfile").expect("the text is a Dockerfile");
        let insecure = || vec![Entitlement::Insecure];
        let granted = |one| vec![Grant::Whole(one)];
        for (service, request, expected) in [
            (vec![], vec![], Some("insecure_entitlements")),
            (vec![], granted(Entitlement::Insecure), Some("insecure_entitlements")),
            (insecure(), vec![], Some("--allow security.insecure")),
            (insecure(), granted(Entitlement::HostNetwork), Some("--allow security.insecure")),
            (insecure(), granted(Entitlement::Insecure), None),
        ] {
            let entitlements = Entitlements { service, request, ..Entitlements::default() };
            let said: Vec<_> = file.stages[0]
                .instructions
                .iter()
                .map(|instruction| {
                    entitlements.check(&file, instruction).map_err(|error| match error {
                        Error::NotAllowed { diagnostic } => {
                            format!("{diagnostic}; {}", diagnostic.suggestion.as_deref().unwrap_or_default())
                        }
                        other => format!("another error: {other}"),
                    })
                })
                .collect();

            assert!(said[0].is_ok() && said[1].is_ok(), "{said:?}");
            match expected {
                None => assert!(said[2].is_ok(), "{said:?}"),
                Some(hint) => {
                    let said = said[2].as_ref().expect_err("it is not allowed");
                    assert!(said.starts_with("Dockerfile:4:5: ") && said.contains(hint), "{said}");
                }
            }
        }
    }

    #[test]
    fn names_are_buildkits() {
        for one in Entitlement::ALL {
            assert_eq!(Entitlement::parse(one.name()), Ok(one));
            assert_eq!(Grant::parse(one.name()), Ok(Grant::Whole(one)));
        }
        for said in [Entitlement::parse("security.unsafe").map(drop), Grant::parse("security.unsafe").map(drop)] {
            let said = said.expect_err("there is none of this name");
            let names = "network.host, security.insecure, device";
            assert!(said.contains("security.unsafe") && said.contains(names), "{said}");
        }
        // That a configuration names one device must not open all.
        assert!(Entitlement::parse("device=vendor.com/gpu=0").is_err());
    }

    #[test]
    fn one_device_is_granted_by_its_name_or_for_another() {
        let grant = |name: &str, alias: Option<&str>| {
            Ok(Grant::Device { name: name.to_owned(), alias: alias.map(str::to_owned) })
        };
        for (text, expected) in [
            ("device=", Ok(Grant::Whole(Entitlement::Device))),
            ("device=vendor.com/gpu=0", grant("vendor.com/gpu=0", None)),
            ("device=gpu,alias=vendor.com/gpu", grant("gpu", Some("vendor.com/gpu"))),
        ] {
            assert_eq!(Grant::parse(text), expected, "{text}");
        }
        for text in ["device=,alias=a", "device=a,alias=", "device=a,b", "device=a,name=b", "devices"] {
            assert!(Grant::parse(text).is_err(), "{text}");
        }
    }
}
