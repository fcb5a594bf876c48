//! `ctl logout`

use crate::args::Logout;
use crate::error::{Error, Result};
use crate::registries::{self, Registries};
use crate::render;

/// Forgets the credentials for a registry.
pub async fn run(args: &Logout) -> Result<u8> {
    let host = registries::registry(args.server.as_deref())?;
    let registries = Registries::load()?;
    let was_there = registries.keychain()?.remove(&host).await.map_err(|error| Error::of(&error))?;
    match was_there {
        true => render::line(format!("Removed the login credentials for {host}"))?,
        false => render::line(format!("Not logged in to {host}"))?,
    }
    Ok(0)
}
