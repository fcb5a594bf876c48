//! The language of the house: all that two services must agree on.
//!
//! The modules below are generated from `proto/strata/**.proto`. Only the `grpc`, `peers` and `platform`
//! modules of the services and of `ctl` mention them; everything further in uses `strata-types`.

#![allow(clippy::doc_lazy_continuation, clippy::large_enum_variant)]

mod secret;

/// Nouns that all services share.
pub mod types {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("strata.types.v1");
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
