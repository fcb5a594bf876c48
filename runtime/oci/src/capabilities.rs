//! Linux capabilities as a set of bits: names, Docker's default set, `--cap-add` and `--cap-drop`.
//! The kernel's numbers are in `TABLE`, in order; a name is accepted with or without `CAP_`.

use std::fmt;

use oci_spec::runtime::{Capabilities, Capability, Process};

/// Why a list of capabilities was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel knows no capability of this name.
    #[error("unknown capability {name:?}")]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// The capability exists, but this runtime does not hold it and so cannot give it.
    #[error("capability {name} is not available: this runtime does not hold it itself")]
    Unavailable {
        /// The name with its `CAP_` prefix.
        name: &'static str,
    },
    /// `/proc/self/status` did not say which capabilities this process holds.
    #[error("cannot read this process's capabilities from /proc/self/status")]
    Status,
}

/// A set of capabilities; bit N is the kernel's capability N.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapabilitySet(u64);

use Capability::*;

/// Every capability in the kernel's order: the index is the number. include/uapi/linux/capability.h
const TABLE: [(&str, Capability); 41] = [
    ("CAP_CHOWN", Chown),
    ("CAP_DAC_OVERRIDE", DacOverride),
    ("CAP_DAC_READ_SEARCH", DacReadSearch),
    ("CAP_FOWNER", Fowner),
    ("CAP_FSETID", Fsetid),
    ("CAP_KILL", Kill),
    ("CAP_SETGID", Setgid),
    ("CAP_SETUID", Setuid),
    ("CAP_SETPCAP", Setpcap),
    ("CAP_LINUX_IMMUTABLE", LinuxImmutable),
    ("CAP_NET_BIND_SERVICE", NetBindService),
    ("CAP_NET_BROADCAST", NetBroadcast),
    ("CAP_NET_ADMIN", NetAdmin),
    ("CAP_NET_RAW", NetRaw),
    ("CAP_IPC_LOCK", IpcLock),
    ("CAP_IPC_OWNER", IpcOwner),
    ("CAP_SYS_MODULE", SysModule),
    ("CAP_SYS_RAWIO", SysRawio),
    ("CAP_SYS_CHROOT", SysChroot),
    ("CAP_SYS_PTRACE", SysPtrace),
    ("CAP_SYS_PACCT", SysPacct),
    ("CAP_SYS_ADMIN", SysAdmin),
    ("CAP_SYS_BOOT", SysBoot),
    ("CAP_SYS_NICE", SysNice),
    ("CAP_SYS_RESOURCE", SysResource),
    ("CAP_SYS_TIME", SysTime),
    ("CAP_SYS_TTY_CONFIG", SysTtyConfig),
    ("CAP_MKNOD", Mknod),
    ("CAP_LEASE", Lease),
    ("CAP_AUDIT_WRITE", AuditWrite),
    ("CAP_AUDIT_CONTROL", AuditControl),
    ("CAP_SETFCAP", Setfcap),
    ("CAP_MAC_OVERRIDE", MacOverride),
    ("CAP_MAC_ADMIN", MacAdmin),
    ("CAP_SYSLOG", Syslog),
    ("CAP_WAKE_ALARM", WakeAlarm),
    ("CAP_BLOCK_SUSPEND", BlockSuspend),
    ("CAP_AUDIT_READ", AuditRead),
    ("CAP_PERFMON", Perfmon),
    ("CAP_BPF", Bpf),
    ("CAP_CHECKPOINT_RESTORE", CheckpointRestore),
];

/// Docker's 14: what a container gets when nobody says anything.
const DOCKER: [Capability; 14] = [
    Chown,
    DacOverride,
    Fsetid,
    Fowner,
    Mknod,
    NetRaw,
    Setgid,
    Setuid,
    Setfcap,
    Setpcap,
    NetBindService,
    SysChroot,
    Kill,
    AuditWrite,
];

/// Podman's 11: Docker's without MKNOD, NET_RAW and AUDIT_WRITE.
const STRICT: [Capability; 11] =
    [Chown, DacOverride, Fsetid, Fowner, Setgid, Setuid, Setfcap, Setpcap, NetBindService, SysChroot, Kill];

impl CapabilitySet {
    /// No capability at all.
    pub const EMPTY: Self = Self(0);
    /// All 41 capabilities this crate knows.
    pub const ALL: Self = Self((1 << TABLE.len()) - 1);

    /// Returns Docker's default set of 14.
    pub fn docker() -> Self {
        DOCKER.into_iter().collect()
    }

    /// Returns the default set of the strict profile, 11 capabilities.
    pub fn strict() -> Self {
        STRICT.into_iter().collect()
    }

    /// Builds a set from the kernel's bits; bits of capabilities unknown here are dropped.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Returns the kernel's bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Says whether no capability is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Says whether `capability` is in the set.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & bit(capability) != 0
    }

    /// Returns the capabilities that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the capabilities that are in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the capabilities of this set that are not in `other`.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Iterates in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        TABLE.iter().enumerate().filter(move |(number, _)| self.0 >> number & 1 == 1).map(|(_, entry)| entry.1)
    }

    /// Reads what this process may hand out: permitted and bounding at once.
    pub fn of_this_process() -> Result<Self, Error> {
        let status = std::fs::read_to_string("/proc/self/status").map_err(|_| Error::Status)?;
        Self::of_status(&status)
    }

    /// Returns what `process` asks for and this set has not: the specification wants it warned of, not refused.
    pub fn missing_for(self, process: &Process) -> Self {
        let Some(sets) = process.capabilities() else { return Self::EMPTY };
        let all = [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()];
        all.into_iter().flatten().fold(Self::EMPTY, |asked, set| asked.union(set.into())).difference(self)
    }

    /// Parses `CapPrm` and `CapBnd` of a `/proc/PID/status` text.
    fn of_status(status: &str) -> Result<Self, Error> {
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(value.trim(), 16).ok()
        };
        let permitted = field("CapPrm:").ok_or(Error::Status)?;
        let bounding = field("CapBnd:").ok_or(Error::Status)?;
        Ok(Self::from_bits(permitted & bounding))
    }

    /// Returns the set in the OCI spec's type.
    pub fn to_spec(self) -> Capabilities {
        self.iter().collect()
    }
}

impl From<&Capabilities> for CapabilitySet {
    fn from(capabilities: &Capabilities) -> Self {
        capabilities.iter().copied().collect()
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().fold(0, |bits, capability| bits | bit(capability)))
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter().map(name)).finish()
    }
}

/// Returns the kernel's number of a capability.
pub fn number(capability: Capability) -> u32 {
    let index = TABLE.iter().position(|entry| entry.1 == capability);
    index.expect("the table has every variant; a test walks them") as u32
}

/// Returns the name with its prefix, as `CAP_NET_ADMIN`.
pub fn name(capability: Capability) -> &'static str {
    TABLE[number(capability) as usize].0
}

/// Parses a name in any case, with or without `CAP_`.
pub fn parse(text: &str) -> Result<Capability, Error> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let found = TABLE.iter().find(|entry| entry.0.strip_prefix("CAP_") == Some(bare));
    found.map(|entry| entry.1).ok_or_else(|| Error::Unknown { name: text.to_owned() })
}

/// Applies `--cap-add` and `--cap-drop` to `base`, as Docker does.
///
/// `ALL` in `add` starts from everything in `available`, `ALL` in `drop` from nothing; `ALL` in both
/// starts from everything. A named capability in both lists is kept only if `ALL` is not added.
/// `base` and `ALL` shrink silently to `available`; a capability added by name does not.
pub fn resolve(
    base: CapabilitySet,
    add: &[String],
    drop: &[String],
    available: CapabilitySet,
) -> Result<CapabilitySet, Error> {
    let (added, all_added) = parse_list(add)?;
    let (dropped, all_dropped) = parse_list(drop)?;
    let missing = if all_added { CapabilitySet::EMPTY } else { added.difference(available) };
    if let Some(capability) = missing.iter().next() {
        return Err(Error::Unavailable { name: name(capability) });
    }
    Ok(match (all_added, all_dropped) {
        (true, _) => available.difference(dropped),
        (false, true) => added,
        (false, false) => base.intersection(available).difference(dropped).union(added),
    })
}

fn parse_list(list: &[String]) -> Result<(CapabilitySet, bool), Error> {
    let is_all = |text: &&String| text.eq_ignore_ascii_case("ALL") || text.eq_ignore_ascii_case("CAP_ALL");
    let set = list.iter().filter(|text| !is_all(text)).map(|text| parse(text)).collect::<Result<_, _>>()?;
    Ok((set, list.iter().any(|text| is_all(&text))))
}

fn bit(capability: Capability) -> u64 {
    1 << number(capability)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_names(add: &[&str], drop: &[&str]) -> Result<CapabilitySet, Error> {
        let own = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        resolve(CapabilitySet::docker(), &own(add), &own(drop), CapabilitySet::ALL)
    }

    #[test]
    fn numbers_are_those_of_the_kernel_header() {
        for (capability, expected) in
            [(Chown, 0), (Setpcap, 8), (SysAdmin, 21), (Setfcap, 31), (Bpf, 39), (CheckpointRestore, 40)]
        {
            assert_eq!(number(capability), expected, "{capability}");
        }
    }

    #[test]
    fn the_default_set_is_dockers_fourteen() {
        // CapEff of a container started by dockerd without options.
        assert_eq!(CapabilitySet::docker().bits(), 0xa80425fb);
        assert_eq!(CapabilitySet::strict().bits(), 0x800405fb);
    }

    #[test]
    fn every_name_parses_back_to_its_capability() {
        for capability in CapabilitySet::ALL.iter() {
            let bare = name(capability).trim_start_matches("CAP_").to_ascii_lowercase();

            assert_eq!(parse(name(capability)), Ok(capability));
            assert_eq!(parse(&bare), Ok(capability));
        }
        assert_eq!(CapabilitySet::ALL.iter().count(), 41);
    }

    #[test]
    fn add_and_drop_follow_docker() {
        let docker = CapabilitySet::docker();
        let only = |capability| CapabilitySet::from_iter([capability]);

        assert_eq!(resolve_names(&[], &[]), Ok(docker));
        assert_eq!(
            resolve_names(&["NET_ADMIN"], &["cap_chown"]),
            Ok(docker.difference(only(Chown)).union(only(NetAdmin)))
        );
        assert_eq!(resolve_names(&["NET_ADMIN"], &["ALL"]), Ok(only(NetAdmin)));
        assert_eq!(resolve_names(&[], &["all"]), Ok(CapabilitySet::EMPTY));
        assert_eq!(resolve_names(&["ALL"], &["SYS_ADMIN"]), Ok(CapabilitySet::ALL.difference(only(SysAdmin))));
        assert_eq!(resolve_names(&["ALL"], &["ALL"]), Ok(CapabilitySet::ALL));
    }

    #[test]
    fn an_unknown_name_is_refused_and_named() {
        for bad in ["NET_ADMlN", "", "CAP_", "CAP_CAP_CHOWN", "21"] {
            assert_eq!(resolve_names(&[bad], &[]), Err(Error::Unknown { name: bad.to_owned() }), "{bad:?}");
        }
    }

    #[test]
    fn what_the_runtime_lacks_is_left_out_of_all_and_refused_by_name() {
        let available = CapabilitySet::ALL.difference(CapabilitySet::from_iter([SysResource]));
        let add = |text: &str| resolve(CapabilitySet::docker(), &[text.to_owned()], &[], available);

        assert_eq!(add("ALL"), Ok(available));
        assert_eq!(add("SYS_RESOURCE"), Err(Error::Unavailable { name: "CAP_SYS_RESOURCE" }));
    }

    #[test]
    fn status_needs_both_permitted_and_bounding() {
        let both = "Name:\tx\nCapInh:\t0\nCapPrm:\t000001fffeffffff\nCapEff:\t0\nCapBnd:\t00000000000000ff\n";

        assert_eq!(CapabilitySet::of_status(both), Ok(CapabilitySet::from_bits(0xff)));
        assert_eq!(CapabilitySet::of_status("CapPrm:\tff\n"), Err(Error::Status));
    }
}
