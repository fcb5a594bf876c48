//! What the protos promise, over both transports: each body takes a node and does not know how it is reached.

#[macro_use]
mod node;
mod access;
mod archives;
mod blobs;
mod builds;
mod cache;
mod certificates;
mod containers;
mod contents;
mod doors;
mod entries;
mod faults;
mod floods;
mod images;
mod leases;
mod lives;
mod manifests;
mod mounts;
mod names;
mod networks;
mod paths;
mod pauses;
mod ports;
mod processes;
mod python;
mod registries;
mod services;
mod snapshots;
mod stats;
mod streams;
mod transfers;
mod trees;
mod updates;
mod volumes;
mod waits;
