//! The nouns of Strata: digests, references, platforms, ids, sizes, mounts, and the JSON documents of OCI images.
//! Pure values: nothing here reads a file, a clock or a random number.

mod descriptor;
mod digest;
mod id;
mod image;
mod invalid;
mod label;
mod manifest;
mod mount;
mod platform;
mod port;
mod reference;
mod size;

pub use descriptor::{Descriptor, media_type};
pub use digest::Digest;
pub use id::{
    ContainerId, ContainerName, LayerId, LeaseId, NetworkId, NetworkName, SecretId, SecretName, SnapshotKey, VolumeName,
};
pub use image::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use invalid::Invalid;
pub use label::LabelCondition;
pub use manifest::{Index, IndexEntry, Manifest};
pub use mount::{Mount, MountKind};
pub use platform::Platform;
pub use port::{Port, PortBinding, PortRange, Protocol};
pub use reference::Reference;
pub use size::ByteSize;
