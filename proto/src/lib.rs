//! The language of the house: all that two services must agree on.
//!
//! The modules below are generated from `proto/strata/**.proto`. Only the `grpc`, `peers` and `platform`
//! modules of the services and of `ctl` mention them; everything further in uses `strata-types`.

#![allow(clippy::doc_lazy_continuation, clippy::large_enum_variant)]

mod label;
mod secret;

/// Nouns that all services share.
pub mod types {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("strata.types.v1");
    }
}

/// Who may do what: the audit log of every service, and why a caller is refused.
pub mod access {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("strata.access.v1");
    }
}

/// The store: blobs, layers, snapshots, images, leases, build cache.
pub mod store {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("strata.store.v1");
    }
}

/// The builder: Dockerfile to image.
pub mod builder {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("strata.builder.v1");
    }
}

/// The runtime: containers.
pub mod runtime {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("strata.runtime.v1");
    }
}

/// Every file descriptor of this crate, with comments and method options, as a serialised
/// `google.protobuf.FileDescriptorSet`: what reflection serves and `tests/house` reads.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Paths of all methods, ordered, and the numbers of their permissions.
const PERMISSIONS: &[(&str, i32)] = &include!(concat!(env!("OUT_DIR"), "/permissions.rs"));

/// What a caller must be allowed to do before the method runs: the option of its declaration. The path is that of HTTP/2,
/// "/strata.store.v1.BlobService/GetBlob", compared byte by byte; `None`: there is no such method.
pub fn permission(path: &str) -> Option<types::v1::Permission> {
    let at = PERMISSIONS.binary_search_by_key(&path, |(path, _)| path).ok()?;
    types::v1::Permission::try_from(PERMISSIONS[at].1).ok()
}

/// Every method and its permission, ordered by path.
pub fn methods() -> impl Iterator<Item = (&'static str, types::v1::Permission)> {
    PERMISSIONS.iter().filter_map(|&(path, number)| Some((path, types::v1::Permission::try_from(number).ok()?)))
}
