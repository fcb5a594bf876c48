//! A host of a test's own: a network namespace in which its services are root, and a world that it is connected to.
//! Interfaces, rules and routes that a test makes are in there, and go with it.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// Address of the host on its way out.
pub const HOST: &str = "203.0.113.1";
/// Address of the world.
pub const WORLD: &str = "203.0.113.9";
/// Address of the host on its way out.
pub const HOST6: &str = "2001:db8::1";
/// Address of the world.
pub const WORLD6: &str = "2001:db8::9";

/// Two network namespaces, connected. They are removed at the end.
pub struct OwnHost {
    host: String,
    world: String,
}

impl OwnHost {
    /// Makes them.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let tag = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let own = Self { host: format!("strata-host-{tag}"), world: format!("strata-world-{tag}") };
        let (host, world) = (&own.host, &own.world);
        for words in [
            format!("netns add {host}"),
            format!("netns add {world}"),
            // Ends of a pair with one number in two namespaces are to the kernel what has no other end: after net0 is set
            // up it would answer nobody by IPv6 for up to a second. linkwatch_urgent_event() in net/core/link_watch.c
            format!("-n {host} link add up0 index 100 type veth peer name net0 index 101 netns {world}"),
            format!("-n {host} link set lo up"),
            format!("-n {world} link set lo up"),
            format!("-n {host} addr add {HOST}/24 dev up0"),
            format!("-n {host} addr add {HOST6}/64 dev up0 nodad"),
            format!("-n {world} addr add {WORLD}/24 dev net0"),
            format!("-n {world} addr add {WORLD6}/64 dev net0 nodad"),
            format!("-n {host} link set up0 up"),
            format!("-n {world} link set net0 up"),
            format!("-n {host} route add default via {WORLD}"),
            format!("-n {host} -6 route add default via {WORLD6}"),
            // The world knows the way to every subnet: that nobody finds containers does not protect them.
            format!("-n {world} route add default via {HOST}"),
            format!("-n {world} -6 route add default via {HOST6}"),
        ] {
            ip(&words);
        }
        own
    }

    /// A path that stands for the host's namespace.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.host)
    }

    /// A path that stands for the world's namespace.
    pub fn world_path(&self) -> String {
        format!("/run/netns/{}", self.world)
    }

    /// A program in the world.
    pub fn in_world(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        enter(&self.world, program)
    }

    /// A program on the host.
    pub fn on_host(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        enter(&self.host, program)
    }

    /// Hardware address of the host on its way out.
    pub fn mac(&self) -> String {
        let output = ip(&format!("-n {} -o link show up0", self.host));
        let words: Vec<&str> = output.split_whitespace().collect();
        let place = words.iter().position(|word| *word == "link/ether").expect("it is one of Ethernet");
        words[place + 1].to_owned()
    }

    /// Names of the host's interfaces, without those that were there before.
    pub fn interfaces(&self) -> Vec<String> {
        let output = ip(&format!("-n {} -o link", self.host));
        let names = output.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
        names.filter(|name| !["lo", "up0", "ifb0", "ifb1"].contains(name)).map(str::to_owned).collect()
    }
}

impl Default for OwnHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for OwnHost {
    fn drop(&mut self) {
        for name in [&self.host, &self.world] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn enter(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
    command
}

/// Runs ip(8) and returns what it said.
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip speaks UTF-8")
}
