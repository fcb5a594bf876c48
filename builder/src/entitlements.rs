//! What steps may do beyond the usual: only where both the configuration of this builder and the request allow it. Whatever
//! starts a process asks here. Which devices a name means is in `devices`.

use strata_dockerfile::{Dockerfile, Instruction, Kind, Span};

use crate::error::Error;
use crate::peers::Network;

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
#[derive(Debug, Clone)]
pub struct Entitlements {
    /// What the configuration allows.
    pub service: Vec<Entitlement>,
    /// Devices, or kinds of them, that the configuration gives to every build.
    pub open_devices: Vec<String>,
    /// What the request allows.
    pub request: Vec<Grant>,
    /// Network of steps that do not say.
    pub network: Network,
}

impl Default for Entitlements {
    /// Nothing beyond the usual.
    fn default() -> Self {
        Self { service: Vec::new(), open_devices: Vec::new(), request: Vec::new(), network: Network::Default }
    }
}

impl Entitlements {
    /// Refuses an instruction that wants more than is allowed.
    pub fn check(&self, file: &Dockerfile, instruction: &Instruction) -> Result<(), Error> {
        let Kind::Run(run) = &instruction.kind else { return Ok(()) };
        let whole = |span, entitlement: Entitlement| {
            let is_granted = self.request.contains(&Grant::Whole(entitlement));
            self.require(file, span, &Wanted { entitlement, what: entitlement.name(), is_granted })
        };
        if let Some(flag) = run.security.as_ref().filter(|flag| flag.value == "insecure") {
            whole(flag.span, Entitlement::Insecure)?;
        }
        match run.network.as_ref().filter(|flag| flag.value != "default") {
            Some(flag) if flag.value == "host" => whole(flag.span, Entitlement::HostNetwork),
            None if self.network == Network::Host => whole(instruction.name_span, Entitlement::HostNetwork),
            _ => Ok(()),
        }
    }

    /// Refuses what the service does not allow, or the request did not grant.
    pub fn require(&self, file: &Dockerfile, span: Span, wanted: &Wanted<'_>) -> Result<(), Error> {
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
        let diagnostic = file.diagnostic(span, message).with_suggestion(hint);
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

    /// What is said of each instruction of the first stage: nothing, or why it is not allowed.
    fn said(text: &str, entitlements: &Entitlements) -> Vec<Option<String>> {
        let file = strata_dockerfile::parse(text, "Dockerfile").expect("the text is a Dockerfile");
        let check = |instruction| match entitlements.check(&file, instruction) {
            Ok(()) => None,
            Err(Error::NotAllowed { diagnostic }) => {
                Some(format!("{diagnostic}; {}", diagnostic.suggestion.as_deref().unwrap_or_default()))
            }
            Err(other) => Some(format!("another error: {other}")),
        };
        file.stages[0].instructions.iter().map(check).collect()
    }

    /// Row 105 (CVE-2024-23653): both must allow it, whatever asks.
    #[test]
    fn row_105_what_is_allowed_is_allowed_by_service_and_request() {
        let text = "FROM x\nRUN true\nRUN --security=sandbox --network=none true\nRUN --security=insecure true\nRUN --network=host true\n";
        let granted = |one| vec![Grant::Whole(one)];
        for (index, place, wanted) in
            [(2, "Dockerfile:4:5: ", Entitlement::Insecure), (3, "Dockerfile:5:5: ", Entitlement::HostNetwork)]
        {
            let others = Entitlement::ALL.into_iter().filter(|&one| one != wanted).collect::<Vec<_>>();
            let allow = format!("--allow {}", wanted.name());
            for (service, request, expected) in [
                (others.clone(), vec![], Some("insecure_entitlements")),
                (vec![], granted(wanted), Some("insecure_entitlements")),
                (vec![wanted], vec![], Some(&*allow)),
                (vec![wanted], others.into_iter().map(Grant::Whole).collect(), Some(&*allow)),
                (vec![wanted], granted(wanted), None),
            ] {
                let said = said(text, &Entitlements { service, request, ..Entitlements::default() });

                assert!(said[0].is_none() && said[1].is_none(), "{said:?}");
                match (expected, said[index].as_ref()) {
                    (None, None) => {}
                    (Some(hint), Some(said)) => assert!(said.starts_with(place) && said.contains(hint), "{said}"),
                    (_, said) => panic!("{expected:?} is expected: {said:?}"),
                }
            }
        }
    }

    #[test]
    fn a_build_on_the_network_of_the_host_needs_the_leave_of_the_service() {
        let text = "FROM x\nRUN true\nRUN --network=default true\nRUN --network=none true\n";
        let with = |service| {
            let request = vec![Grant::Whole(Entitlement::HostNetwork)];
            said(text, &Entitlements { service, request, network: Network::Host, ..Entitlements::default() })
        };

        let refused = with(vec![]);

        for (said, line) in refused.iter().zip([2, 3]) {
            let said = said.as_deref().expect("it is not allowed");
            assert!(
                said.starts_with(&format!("Dockerfile:{line}:1: network.host is not allowed by the builder")),
                "{said}"
            );
        }
        assert_eq!(refused[2], None);
        assert_eq!(with(vec![Entitlement::HostNetwork]), [None, None, None]);
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
