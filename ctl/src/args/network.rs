//! `ctl network`, and the flags of `ctl run` that are about networks.

use clap::{ArgAction, Args, Subcommand};

use super::{Format, format};

/// `ctl network`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Network {
    /// Connect a container to a network
    Connect(NetworkConnect),
    /// Create a network
    Create(NetworkCreate),
    /// Disconnect a container from a network
    Disconnect(NetworkDisconnect),
    /// Show details of networks as JSON
    Inspect(NetworkInspect),
    /// List networks
    #[command(alias = "list")]
    Ls(NetworkLs),
    /// Remove networks that no container uses
    Prune(NetworkPrune),
    /// Remove networks
    #[command(alias = "remove")]
    Rm(NetworkRm),
}

// `ctl network connect`
#[derive(Debug, Args)]
pub struct NetworkConnect {
    /// A further name that others find the container by
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// The IPv4 address to have
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// The IPv6 address to have
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// An address that only neighbours know
    #[arg(long, value_name = "ADDRESS")]
    pub link_local_ip: Vec<String>,
    /// Of several networks the one with the highest is the way out
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_hyphen_values = true)]
    pub gw_priority: i32,
    /// The network
    pub network: String,
    /// The container
    pub container: String,
}

// `ctl network create`
#[derive(Debug, Args)]
pub struct NetworkCreate {
    /// Taken as Docker takes it, and of no effect: every container may be attached
    #[arg(long, hide = true)]
    pub attachable: bool,
    /// An address that somebody else has, "printer=172.20.0.9": no container gets it
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub aux_address: Vec<String>,
    /// What packets go through: "bridge", or an interface of the host with "macvlan" or "ipvlan"
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// The host's address in a subnet
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Vec<String>,
    /// Nothing leaves the network and nothing comes in
    #[arg(long)]
    pub internal: bool,
    /// Part of a subnet that containers get their addresses from
    #[arg(long, value_name = "SUBNET")]
    pub ip_range: Vec<String>,
    /// IPv4 addresses; "--ipv4=false": none
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    pub ipv4: bool,
    /// IPv6 addresses too
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub ipv6: bool,
    /// Add a label
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Option of the driver: com.docker.network.bridge.name, .enable_icc, .enable_ip_masquerade, .host_binding_ipv4,
    /// com.docker.network.driver.mtu; parent, macvlan_mode, ipvlan_mode, ipvlan_flag
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Addresses, "172.20.0.0/16"
    #[arg(long, value_name = "SUBNET")]
    pub subnet: Vec<String>,
    /// Its name
    pub name: String,
}

// `ctl network disconnect`
#[derive(Debug, Args)]
pub struct NetworkDisconnect {
    /// Succeed when it is not connected
    #[arg(short, long)]
    pub force: bool,
    /// The network
    pub network: String,
    /// The container
    pub container: String,
}

// `ctl network inspect`
#[derive(Debug, Args)]
pub struct NetworkInspect {
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The networks
    #[arg(required = true)]
    pub networks: Vec<String>,
}

// `ctl network ls`
#[derive(Debug, Args)]
pub struct NetworkLs {
    /// Only these: "name=TEXT", "id=TEXT", "driver=NAME", "label=KEY[=VALUE]", "type=custom|builtin"
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Format of the output: "table", "json", "raw", or a template for each, in columns behind "table"
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::of_networks)]
    pub format: Format,
    /// Show ids in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
}

// `ctl network prune`
#[derive(Debug, Args)]
pub struct NetworkPrune {
    /// Only what is so: "until=24h", "label=env=test", "label!=keep"
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

// `ctl network rm`
#[derive(Debug, Args)]
pub struct NetworkRm {
    /// Succeed when there is no such network
    #[arg(short, long)]
    pub force: bool,
    /// The networks
    #[arg(required = true)]
    pub networks: Vec<String>,
}

// Flags of `ctl run` and `ctl create` that are about networks.
#[derive(Debug, Args)]
pub struct ContainerNetwork {
    /// Network: "bridge", "host", "none", a name, "container:NAME" (that of a container), or "name=NAME,alias=…,ip=…,ip6=…,mac-address=…,gw-priority=…"
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// A further name that others in the network find the container by
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// The IPv4 address to have
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// The IPv6 address to have
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// An address that only neighbours know
    #[arg(long, value_name = "ADDRESS")]
    pub link_local_ip: Vec<String>,
    /// The hardware address to have
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// NIS domain name
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Server that names are asked of
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Option of resolv.conf
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Domain that names without a dot are looked for in; ".": none
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Docker's, and refused: containers of one network know each other's names
    #[arg(long, value_name = "CONTAINER[:ALIAS]", hide = true)]
    pub link: Vec<String>,
    /// A name in /etc/hosts, "db:10.0.0.1"; "host-gateway" is the host
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
}
