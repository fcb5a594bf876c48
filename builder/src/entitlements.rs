//! What steps may do beyond the usual: only where both the configuration of this builder and the request allow it. Whatever
//! starts a process asks here.

use strata_dockerfile::{Dockerfile, Flag, Instruction, Kind};

use crate::error::Error;

/// Something that is not everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entitlement {
    /// The network of the host.
    HostNetwork,
    /// All capabilities, no filter of system calls, nothing hidden.
    Insecure,
}

impl Entitlement {
    /// Every one of them.
    const ALL: [Entitlement; 2] = [Entitlement::HostNetwork, Entitlement::Insecure];

    /// Its name in flags and configuration, as in BuildKit.
    pub fn name(self) -> &'static str {
        match self {
            Entitlement::HostNetwork => "network.host",
            Entitlement::Insecure => "security.insecure",
        }
    }

    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| format!("{text:?} is nothing that can be allowed; what can is {}", names()))
    }
}

/// What a build may do.
#[derive(Debug, Clone, Default)]
pub struct Entitlements {
    /// What the configuration allows.
    pub service: Vec<Entitlement>,
    /// What the request allows.
    pub request: Vec<Entitlement>,
}

impl Entitlements {
    /// Refuses an instruction that wants more than is allowed.
    pub fn check(&self, file: &Dockerfile, instruction: &Instruction) -> Result<(), Error> {
        let Kind::Run(run) = &instruction.kind else { return Ok(()) };
        match &run.security {
            Some(flag) if flag.value == "insecure" => self.require(file, Entitlement::Insecure, flag),
            _ => Ok(()),
        }
    }

    fn require(&self, file: &Dockerfile, wanted: Entitlement, flag: &Flag<String>) -> Result<(), Error> {
        let name = wanted.name();
        let (who, hint) = match (self.service.contains(&wanted), self.request.contains(&wanted)) {
            (true, true) => return Ok(()),
            (true, false) => ("this build", format!("`ctl build --allow {name}` allows it")),
            (false, _) => {
                let hint =
                    format!("`insecure_entitlements = [{name:?}]` in its configuration, builder.toml, allows it");
                ("the builder", hint)
            }
        };
        let diagnostic = file.diagnostic(flag.span, format!("{name} is not allowed by {who}")).with_suggestion(hint);
        Err(Error::NotAllowed { diagnostic: Box::new(diagnostic) })
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
        for (service, request, expected) in [
            (vec![], vec![], Some("insecure_entitlements")),
            (vec![], insecure(), Some("insecure_entitlements")),
            (insecure(), vec![], Some("--allow security.insecure")),
            (insecure(), vec![Entitlement::HostNetwork], Some("--allow security.insecure")),
            (insecure(), insecure(), None),
        ] {
            let entitlements = Entitlements { service, request };
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
        }
        let said = Entitlement::parse("security.unsafe").expect_err("there is none of this name");
        assert!(said.contains("security.unsafe") && said.contains("network.host, security.insecure"), "{said}");
    }
}
