//! Names for containers that were given none: an adjective and a noun, as `quiet_granite`.
//! Two short lists; what is taken gets a number.

use rustix::rand::GetRandomFlags;
use strata_types::{ContainerId, ContainerName, SecretId, VolumeName};

use crate::error::Error;

const ADJECTIVES: [&str; 48] = [
    "able", "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cosmic", "crisp", "deep", "eager",
    "early", "fair", "fast", "fine", "firm", "fond", "fresh", "gentle", "glad", "golden", "good", "grand", "happy",
    "hardy", "honest", "jolly", "keen", "kind", "light", "lively", "lucid", "merry", "mild", "neat", "noble",
    "patient", "proud", "quick", "quiet", "ready", "sharp", "silent", "steady", "sunny", "warm",
];
const NOUNS: [&str; 48] = [
    "agate",
    "amber",
    "andesite",
    "basalt",
    "beryl",
    "breccia",
    "calcite",
    "chalk",
    "chert",
    "clay",
    "coal",
    "copper",
    "coral",
    "diorite",
    "dolomite",
    "dune",
    "feldspar",
    "flint",
    "gabbro",
    "garnet",
    "geode",
    "gneiss",
    "granite",
    "gravel",
    "gypsum",
    "jade",
    "jasper",
    "lava",
    "limestone",
    "loess",
    "magma",
    "marble",
    "marl",
    "mica",
    "obsidian",
    "onyx",
    "opal",
    "pebble",
    "pumice",
    "pyrite",
    "quartz",
    "sand",
    "schist",
    "shale",
    "slate",
    "talc",
    "topaz",
    "tuff",
];

/// Returns 32 random bytes as a container id.
pub fn new_id() -> Result<ContainerId, Error> {
    Ok(ContainerId::from_bytes(random()?))
}

/// Returns 32 random bytes as the name of a volume.
pub fn new_volume_name() -> Result<VolumeName, Error> {
    Ok(VolumeName::from_bytes(random()?))
}

/// Returns random digits as the id of a secret.
pub fn new_secret_id() -> Result<SecretId, Error> {
    Ok(SecretId::from_bytes(random()?))
}

/// Returns a name for which `is_taken` is false.
pub fn generate(is_taken: impl Fn(&str) -> bool) -> Result<ContainerName, Error> {
    let bytes: [u8; 32] = random()?;
    let mut name = String::new();
    for (round, pair) in bytes.chunks_exact(2).enumerate() {
        name = format!("{}_{}", ADJECTIVES[pair[0] as usize % 48], NOUNS[pair[1] as usize % 48]);
        if round > 3 {
            name.push_str(&(bytes[round] % 10).to_string());
        }
        if !is_taken(&name) {
            break;
        }
    }
    let mut number = 0u64;
    let mut free = name.clone();
    while is_taken(&free) {
        number += 1;
        free = format!("{name}{number}");
    }
    Ok(ContainerName::parse(free).expect("the lists hold lower-case letters only"))
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|e| Error::io("read", "/dev/urandom", e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_generated_name_is_never_one_that_is_taken() {
        let mut taken = HashSet::new();
        for _ in 0..4000 {
            let name = generate(|name| taken.contains(name)).unwrap();
            assert!(taken.insert(name.as_str().to_owned()), "{name} was given twice");
        }
    }

    #[test]
    fn ids_differ() {
        assert_ne!(new_id().unwrap(), new_id().unwrap());
    }
}
