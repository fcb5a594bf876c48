//! The Container Device Interface: vendors describe in spec files what a container needs to use a device, containers name
//! the device, `vendor.com/class=name`. `registry` finds the files, `document` reads one, `check` refuses what it may not
//! say, `apply` makes its edits to an OCI spec. Files are read anew each time: drivers come while this service runs.

use std::{io, path::PathBuf};

mod apply;
mod check;
mod document;
mod name;
mod registry;

pub use apply::{Nodes, apply};
pub use name::DeviceName;
pub use registry::{Device, Problem, Registry};

/// Why a container cannot have its devices.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No spec file describes the device.
    #[error("no CDI spec file describes device {name}; {known}{}", listed(.problems))]
    Unknown {
        /// The device.
        name: DeviceName,
        /// What there is instead, or where was looked.
        known: String,
        /// Why files do not count.
        problems: Vec<Problem>,
    },
    /// A spec file asks for something of this host that is not there.
    #[error("CDI spec {}, {field}: cannot use {} of this host", spec.display(), path.display())]
    Host {
        /// The spec file.
        spec: PathBuf,
        /// The field in it.
        field: String,
        /// The file of the host.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A spec file takes a file of this host for a device that it is not.
    #[error("CDI spec {}, {field}: {} of this host {problem}", spec.display(), path.display())]
    Node {
        /// The spec file.
        spec: PathBuf,
        /// The field in it.
        field: String,
        /// The file of the host.
        path: PathBuf,
        /// What it is instead.
        problem: String,
    },
    /// The types of the runtime spec refused a value.
    #[error("CDI spec {}, {field}: the runtime spec has no place for it", spec.display())]
    Spec {
        /// The spec file.
        spec: PathBuf,
        /// The field in it.
        field: String,
        /// Why not.
        source: oci_spec::OciSpecError,
    },
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("; {problem}")).collect()
}
