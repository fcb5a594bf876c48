//! Which image of an index runs where. Platforms themselves are [`strata_types::Platform`]; here is the order in which
//! their variants do, as containerd has it (its `platforms` package, `platformVector`), and what this machine is.

use strata_types::Platform;

use crate::{Entry, Error, Result};

/// Which images of an index are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Platforms {
    /// All of them; the index itself is then what a name points at.
    All,
    /// The best for this machine. A single image is taken whatever it is for.
    #[default]
    Host,
    /// The best for this platform; nothing else will do.
    Only(Platform),
}

impl Platforms {
    /// Platforms that will do, best first; none where all are meant.
    pub(crate) fn preferences(&self) -> Option<(Platform, Vec<Platform>)> {
        match self {
            Self::All => None,
            Self::Host => Some((host(), host_preferences())),
            Self::Only(platform) => Some((platform.clone(), preferences(platform))),
        }
    }

    /// Refuses a single image whose platform was not asked for; where none was asked for, any will do.
    pub fn check(&self, what: &str, platform: &Platform) -> Result<()> {
        match self {
            Self::Only(wanted) if rank(platform, &preferences(wanted)).is_none() => {
                let available = vec![platform.clone()];
                Err(Error::NoPlatform { what: what.to_owned(), wanted: wanted.clone(), available })
            }
            _ => Ok(()),
        }
    }

    /// The place of the best of some platforms. Where none will do it is none if one was asked for, else the first.
    pub fn best(&self, platforms: &[&Platform]) -> Option<usize> {
        let ranked = self.preferences().and_then(|(_, preferences)| {
            let ranks = platforms.iter().enumerate();
            ranks.filter_map(|(place, platform)| Some((rank(platform, &preferences)?, place))).min()
        });
        match (ranked, self) {
            (Some((_, place)), _) => Some(place),
            (None, Self::Only(_)) => None,
            (None, Self::All | Self::Host) => (!platforms.is_empty()).then_some(0),
        }
    }
}

/// The platform of these names, normalised; none if one is empty or malformed.
pub(crate) fn named(os: &str, architecture: &str, variant: Option<&str>) -> Option<Platform> {
    let variant = variant.filter(|variant| !variant.is_empty());
    if [os, architecture, variant.unwrap_or_default()].iter().any(|name| name.contains('/')) {
        return None;
    }
    let suffix = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    Platform::parse(&format!("{os}/{architecture}{suffix}")).ok()
}

/// Platforms whose images run on `wanted`, best first: the same architecture, its variant, and then older variants.
pub fn preferences(wanted: &Platform) -> Vec<Platform> {
    let with = |variant: String| Platform { variant: Some(variant), ..wanted.clone() };
    let variant = wanted.variant.as_deref().filter(|variant| !variant.is_empty());
    let (usual, oldest) = match wanted.architecture.as_str() {
        "amd64" => ("v1", 1),
        "arm" => ("v7", 5),
        "arm64" => ("v8", 8),
        _ => return vec![wanted.clone()],
    };
    let variant = variant.unwrap_or(usual);
    let mut found = vec![with(variant.to_owned())];
    // "v8.2" is arm64's; its older ones are v8.1 and v8.
    let (major, minor) = match variant.strip_prefix('v').map(|number| number.split_once('.').unwrap_or((number, "0"))) {
        Some((major, minor)) => (major.parse::<u8>(), minor.parse::<u8>()),
        None => return found,
    };
    let (Ok(major), Ok(minor)) = (major, minor) else { return found };
    for minor in (1..minor).rev() {
        found.push(with(format!("v{major}.{minor}")));
    }
    if minor > 0 {
        found.push(with(format!("v{major}")));
    }
    for major in (oldest..major).rev() {
        found.push(with(format!("v{major}")));
    }
    found
}

/// Preferences for this machine. Its processor may run another architecture besides, last of all.
fn host_preferences() -> Vec<Platform> {
    let host = host();
    let mut found = preferences(&host);
    let older = |architecture: &str| Platform { architecture: architecture.to_owned(), variant: None, ..host.clone() };
    match host.architecture.as_str() {
        "amd64" => found.push(older("386")),
        "arm64" => found.extend(preferences(&older("arm"))),
        _ => {}
    }
    found
}

/// This machine, with the variant that its processor has: for choosing among images. What people read is
/// [`Platform::host`], which names usual variants only.
pub fn host() -> Platform {
    let mut host = Platform::host();
    match host.architecture.as_str() {
        "amd64" => host.variant = Some(amd64_level().to_owned()),
        "arm" => host.variant = Some(arm_variant(&rustix::system::uname().machine().to_string_lossy()).to_owned()),
        _ => {}
    }
    host
}

/// The level of the x86-64 psABI ("Micro-Architecture Levels") that all its features are there for.
#[cfg(target_arch = "x86_64")]
fn amd64_level() -> &'static str {
    macro_rules! has {
        ($($feature:tt),+) => { $(std::arch::is_x86_feature_detected!($feature))&&+ };
    }
    if !has!("cmpxchg16b", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3") {
        "v1"
    } else if !has!("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe") {
        "v2"
    } else if !has!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl") {
        "v3"
    } else {
        "v4"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_level() -> &'static str {
    "v1"
}

/// The variant of a 32-bit ARM machine, by the name that the kernel gives it.
fn arm_variant(machine: &str) -> &'static str {
    match machine {
        name if name.starts_with("aarch64") || name.starts_with("armv8") => "v8",
        name if name.starts_with("armv6") => "v6",
        name if name.starts_with("armv5") => "v5",
        _ => "v7",
    }
}

/// The best entry for a platform; none if none will do. Entries without a platform and attestations are passed over.
pub fn choose<'a>(entries: &'a [Entry], wanted: &Platforms) -> Option<&'a Entry> {
    let (_, preferences) = wanted.preferences()?;
    let ranked = entries.iter().filter(|entry| !entry.is_attestation()).filter_map(|entry| {
        let rank = rank(entry.platform.as_ref()?, &preferences)?;
        Some((rank, entry))
    });
    // The first of equals, as the order of an index is a preference too.
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
}

/// The place of a platform among the preferred; none if it is not there.
pub(crate) fn rank(platform: &Platform, preferences: &[Platform]) -> Option<usize> {
    preferences.iter().position(|preferred| preferred.equals(platform))
}

#[cfg(test)]
mod tests {
    use strata_types::{Descriptor, Digest, media_type};

    use super::*;

    fn entry(number: u8, platform: &str) -> Entry {
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::from_sha256_bytes([number; 32]), 7);
        let platform = (!platform.is_empty()).then(|| Platform::parse(platform).unwrap());
        Entry { descriptor, platform, artifact_type: None, urls: vec![] }
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Option<u8> {
        let entries: Vec<_> =
            platforms.iter().enumerate().map(|(number, platform)| entry(number as u8, platform)).collect();
        let wanted = Platforms::Only(Platform::parse(wanted).unwrap());
        choose(&entries, &wanted).map(|entry| entry.descriptor.digest.as_bytes()[0])
    }

    #[test]
    fn older_variants_will_do_and_the_newest_of_them_is_taken() {
        for (platforms, wanted, best) in [
            (&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"][..], "linux/arm/v6", Some(1)),
            (&["linux/arm/v5", "linux/arm/v7"], "linux/arm/v6", Some(0)),
            (&["linux/arm/v7"], "linux/arm/v6", None),
            (&["linux/arm/v6", "linux/arm"], "linux/arm", Some(1)),
            (&["linux/arm/v7"], "linux/arm/v8", Some(0)),
            (&["linux/amd64", "linux/amd64/v3"], "linux/amd64", Some(0)),
            (&["linux/amd64", "linux/amd64/v3"], "linux/amd64/v4", Some(1)),
            (&["linux/amd64/v2"], "linux/amd64", None),
            (&["linux/arm64"], "linux/arm64/v8", Some(0)),
            (&["linux/arm64/v8"], "arm64", Some(0)),
            (&["linux/arm64/v8", "linux/arm64/v8.1", "linux/arm64/v9"], "linux/arm64/v8.2", Some(1)),
            (&["linux/arm64"], "linux/arm64/v9", Some(0)),
            (&["linux/386", "windows/amd64", "linux/arm64", ""], "linux/amd64", None),
            (&["linux/s390x", "linux/ppc64le"], "linux/ppc64le", Some(1)),
            (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
            (&["unknown/unknown"], "linux/amd64", None),
            (&[], "linux/amd64", None),
        ] {
            assert_eq!(chosen(platforms, wanted), best, "{wanted} among {platforms:?}");
        }
    }

    #[test]
    fn an_attestation_is_never_chosen() {
        let mut attestation = entry(1, "linux/amd64");
        let marks = [("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())];
        attestation.descriptor.annotations.extend(marks);
        let wanted = Platforms::Only(Platform::parse("linux/amd64").unwrap());
        assert_eq!(choose(&[attestation.clone()], &wanted), None);
        let image = entry(2, "linux/amd64");
        assert_eq!(choose(&[attestation, image.clone()], &wanted), Some(&image));
    }

    #[test]
    fn this_machine_runs_images_for_it() {
        let usual = Entry { platform: Some(Platform::host()), ..entry(1, "") };
        assert_eq!(choose(std::slice::from_ref(&usual), &Platforms::Host), Some(&usual));
    }

    #[test]
    fn parts_of_a_platform_cannot_smuggle_others() {
        assert_eq!(named("linux/arm", "v7", None), None);
        assert_eq!(named("linux", "", None), None);
        assert_eq!(named("linux", "x86_64", Some("")).unwrap().to_string(), "linux/amd64");
    }

    #[test]
    fn machines_of_arm_have_the_variant_of_their_name() {
        for (machine, variant) in [("armv7l", "v7"), ("armv6l", "v6"), ("armv5tel", "v5"), ("aarch64", "v8")] {
            assert_eq!(arm_variant(machine), variant, "{machine}");
        }
    }
}
