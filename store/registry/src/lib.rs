//! A client of OCI registries: the OCI distribution specification 1.1 and what Docker's registries do beyond it.
//!
//! [`Client::repository`] is the door. Everything fetched is verified by digest and size before it is said to be whole,
//! credentials go to the host they belong to and to no other, and nothing that a registry sends is kept in memory without
//! a bound. The library knows no store: it gives bytes to whoever reads a [`BlobReader`] and takes them from a
//! [`BlobSource`]. All operations may be cancelled by dropping them.
//!
//! ```text
//! repository  manifest, blob, upload, list, search, login: what one can do (retries, mirrors)
//! session     one request: authorization, redirects                        (auth/)
//! connections clients by host: certificates, proxies, how many at a time
//! ```

mod answer;
mod auth;
mod backoff;
mod blob;
mod config;
mod connections;
mod credentials;
mod endpoint;
mod error;
mod host;
mod list;
mod login;
mod manifest;
mod proxy;
mod repository;
mod search;
mod session;
mod upload;

pub use answer::Codes;
pub use blob::{BlobReader, Progress};
pub use config::{Compression, HostSettings, Location, ProxySettings, Registries, Scheme, Shared};
pub use credentials::{CredentialSource, Credentials, Error as CredentialsError, Given, Keychain, Secret};
pub use error::{Cause, Error, Item, Kind, Result, Subject};
pub use host::Host;
pub use list::{Referrer, TagPages};
pub use manifest::{Document, LARGEST_MANIFEST, Resolved, Target};
pub use repository::{Client, Repository};
pub use search::Found;
pub use upload::{BlobSource, GrowingSource, Pushed};
