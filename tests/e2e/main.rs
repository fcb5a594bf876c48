//! What a person does with `ctl`, from the outside: services, kernel and all.
//!
//! Each test has a house of its own, which fails the test when something is left behind at its end.

mod archives;
mod archives_added;
mod bases;
mod build;
mod builder;
mod caches;
mod canaries;
mod containers;
mod contexts;
mod copies;
mod crashes;
mod devices;
mod dockerfiles;
mod entitlements;
mod explore;
mod exports;
mod faults;
mod formats;
mod hosts;
mod images;
mod isolation;
mod language;
mod limits;
mod manifests;
mod misbehaviour;
mod mounts;
mod networks;
mod outputs;
mod platforms;
mod poisoning;
mod progress;
mod prompts;
mod races;
mod registries;
mod repositories;
mod rootless;
mod run;
mod services;
mod sources;
mod ssh;
mod terminals;
mod together;
mod transfers;
