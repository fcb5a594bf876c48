//! The commands, a file each.

pub mod attach;
pub mod audit;
pub mod builder;
pub mod cache;
pub mod commit;
pub mod config;
pub mod container;
pub mod context;
pub mod copy;
pub mod cp;
pub mod df;
pub mod dial;
pub mod diff;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod explore;
pub mod export;
pub mod fixed;
pub mod health;
pub mod history;
pub mod images;
pub mod import;
pub mod info;
pub mod inspect;
pub mod isolation;
pub mod kill;
pub mod life;
pub mod load;
pub mod login;
pub mod logout;
pub mod logs;
pub mod man;
pub mod manifest;
pub mod network;
pub mod pause;
pub mod port;
pub mod prune;
pub mod ps;
pub mod pull;
pub mod push;
pub mod rename;
pub mod reset;
pub mod restart;
pub mod rm;
pub mod rmi;
pub mod run;
pub mod save;
pub mod search;
pub mod secret;
pub mod start;
pub mod stats;
pub mod stop;
pub mod tag;
pub mod top;
pub mod update;
pub mod verify;
pub mod version;
pub mod volume;
pub mod wait;

use std::path::Path;

use crate::error::{Error, Result};
use crate::{render, suggest};

/// Does something with each of several things, as Docker does: prints what came of each, tells what failed, goes on,
/// and fails at the end if one did.
async fn each<F>(names: &[String], mut act: impl FnMut(String) -> F) -> Result<u8>
where
    F: Future<Output = Result<String>>,
{
    let mut code = 0;
    for name in names {
        match act(name.clone()).await {
            Ok(text) => render::line(text)?,
            Err(error) => {
                suggest::complete(error).await.print();
                code = 1;
            }
        }
    }
    Ok(code)
}

/// What a service says of an archive, with the name that the archive has here.
fn of_archive(file: Option<&Path>, error: Error) -> Error {
    if !matches!(error.reason.as_str(), "FAULT_ARCHIVE_INVALID" | "FAULT_IMAGE_INVALID") {
        return error;
    }
    let name = file.filter(|file| *file != Path::new("-"));
    let name = name.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
    Error { message: format!("{name}: {}", error.message), ..error }
}

/// A reply lacks what its proto says is always there.
fn incomplete(what: &str) -> Error {
    Error::new(format!("the service answered without {what}")).hint("`ctl version` shows whether versions differ")
}
