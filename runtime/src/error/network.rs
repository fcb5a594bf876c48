//! Faults of networks.

use strata_net::Error;
use tonic::Code;

/// The code of a failure.
pub(super) fn code(error: &Error) -> Code {
    match error {
        Error::NotFound { .. } => Code::NotFound,
        Error::Ambiguous { .. } | Error::Argument { .. } => Code::InvalidArgument,
        Error::NameTaken { .. } => Code::AlreadyExists,
        Error::Predefined { .. }
        | Error::InUse { .. }
        | Error::Overlap { .. }
        | Error::AddressTaken { .. }
        | Error::NotInSubnet { .. }
        | Error::PortTaken { .. }
        | Error::NotOfHost { .. }
        | Error::PortOfRoot { .. }
        | Error::NoKernelModule { .. }
        | Error::InterfaceTaken { .. }
        | Error::ParentBusy { .. }
        | Error::ParentTaken { .. }
        | Error::NoCarrier { .. } => Code::FailedPrecondition,
        Error::NoSubnet {} | Error::NoAddress { .. } => Code::ResourceExhausted,
        Error::Kernel { .. } | Error::Record { .. } | Error::Io { .. } => Code::Internal,
    }
}

/// The reason of a failure.
pub(super) fn reason(error: &Error) -> &'static str {
    match error {
        Error::NotFound { .. } => "FAULT_NETWORK_NOT_FOUND",
        Error::Ambiguous { .. } => "FAULT_NETWORK_AMBIGUOUS",
        Error::Argument { .. } => "FAULT_INVALID_ARGUMENT",
        Error::NameTaken { .. } => "FAULT_NAME_TAKEN",
        Error::Predefined { .. } => "FAULT_NETWORK_PREDEFINED",
        Error::InUse { .. } => "FAULT_NETWORK_IN_USE",
        Error::Overlap { .. } => "FAULT_SUBNET_OVERLAPS",
        Error::NoSubnet {} => "FAULT_SUBNETS_EXHAUSTED",
        Error::AddressTaken { .. } | Error::NotInSubnet { .. } => "FAULT_ADDRESS_IN_USE",
        Error::NoAddress { .. } => "FAULT_ADDRESSES_EXHAUSTED",
        Error::PortTaken { .. } => "FAULT_PORT_IN_USE",
        Error::NotOfHost { .. } | Error::PortOfRoot { .. } => "FAULT_PORT_ADDRESS",
        Error::NoCarrier { .. } | Error::NoKernelModule { .. } => "FAULT_NETWORKS_UNAVAILABLE",
        Error::InterfaceTaken { .. } | Error::ParentBusy { .. } | Error::ParentTaken { .. } => "FAULT_INTERFACE_IN_USE",
        Error::Kernel { .. } | Error::Record { .. } | Error::Io { .. } => "FAULT_INTERNAL",
    }
}

/// What a program needs to know of a failure.
pub(super) fn metadata(error: &Error) -> Vec<(&'static str, String)> {
    match error {
        Error::NameTaken { holder, .. } => vec![("holder", holder.clone())],
        Error::InUse { holders, .. } => vec![("holders", holders.join(","))],
        Error::Overlap { subnet, holder, .. } => vec![("subnet", subnet.to_string()), ("holder", holder.clone())],
        Error::ParentTaken { holder, .. } => vec![("holder", holder.clone())],
        Error::AddressTaken { address, .. } | Error::NotInSubnet { address, .. } => {
            vec![("address", address.to_string())]
        }
        Error::PortTaken { ports, protocol, address, holder } => {
            vec![("port", format!("{ports}/{protocol}")), ("address", address.to_string()), ("holder", holder.clone())]
        }
        Error::NotOfHost { address } | Error::PortOfRoot { address, .. } => vec![("address", address.to_string())],
        _ => Vec::new(),
    }
}
