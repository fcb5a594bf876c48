//! `ctl port`, and the flags of `ctl run` and `ctl create` that are about ports.

use clap::Args;

// `ctl port`
#[derive(Debug, Args)]
pub struct Port {
    /// The container
    pub container: String,
    /// Only the places where this port of the container is reached, "80", "53/udp"
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}

// Flags of `ctl run` and `ctl create` that are about ports.
#[derive(Debug, Args)]
pub struct ContainerPorts {
    /// Publish a port of the container on the host: "8080:80", "127.0.0.1::53/udp", "[::1]:8000-8002:80-82"
    #[arg(short, long, value_name = "[ADDRESS:][PORT:]PORT[/PROTOCOL]")]
    pub publish: Vec<String>,
    /// Publish all exposed ports, each on one that is free
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Expose a port, or several: "80", "8000-8010/udp"
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]")]
    pub expose: Vec<String>,
}
