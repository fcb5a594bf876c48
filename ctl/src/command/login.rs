//! `ctl login`: tries credentials at their registry, then keeps them where Docker keeps its own.

use std::io::{BufRead, Read, Write};

use strata_proto::store::v1 as pb;
use strata_registry::{Credentials, Host, Secret};

use crate::args::Login;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::registries::{self, Registries};
use crate::{render, terminal};

/// The longest password that is read.
const MOST: u64 = 64 << 10;

/// Logs in.
pub async fn run(platform: &Platform, args: &Login) -> Result<u8> {
    let host = registries::registry(args.server.as_deref())?;
    let registries = Registries::load()?;
    let keychain = registries.keychain()?;
    if args.password.is_some() {
        render::note("warning: a password on the command line can be read by others; use --password-stdin");
    }
    if args.username.is_none() && args.password.is_none() && !args.password_stdin {
        let known = keychain.get(&host).await.map_err(|error| Error::of(&error))?;
        if let Some(known) = known {
            render::note(format!("trying the credentials that are kept for {host}"));
            match check(platform, &host, &known).await {
                Ok(_) => return succeeded(),
                Err(error) if terminal::is_input() && error.reason == "FAULT_REGISTRY_UNAUTHORIZED" => {
                    render::note(&error.message);
                }
                Err(error) => return Err(error),
            }
        }
    }
    let given = ask(args, &host).await?;
    let keep = check(platform, &host, &given).await?;
    let is_plain = keychain.put(&host, &keep).await.map_err(|error| Error::of(&error))?;
    if is_plain {
        let path = keychain.path().display();
        render::note(format!(
            "warning: {path} keeps the credentials in the clear; a credential helper (credsStore) would not"
        ));
    }
    succeeded()
}

fn succeeded() -> Result<u8> {
    render::line("Login Succeeded")?;
    Ok(0)
}

/// Tries credentials; answers with what to keep.
async fn check(platform: &Platform, host: &Host, credentials: &Credentials) -> Result<Credentials> {
    let request = pb::CheckLoginRequest { credentials: Some(registries::message(host, credentials)) };
    let reply = platform.registry().await?.check_login(request).await?.into_inner();
    reply.credentials.and_then(registries::credentials).ok_or_else(|| super::incomplete("credentials"))
}

/// User and password from the flags, from standard input, or from whoever sits at the terminal.
async fn ask(args: &Login, host: &Host) -> Result<Credentials> {
    let given = args.password.as_ref().map(|password| password.reveal().to_owned());
    if args.password_stdin {
        let username = args.username.clone().ok_or_else(|| Error::usage("--password-stdin needs --username"))?;
        let password = tokio::task::spawn_blocking(piped).await.map_err(|error| Error::of(&error))??;
        return credentials(username, password);
    }
    if (args.username.is_none() || given.is_none()) && !terminal::is_input() {
        let error = Error::usage("standard input is no terminal to ask for user and password");
        return Err(error.hint("`ctl login -u USER --password-stdin` reads the password from standard input"));
    }
    let username = match &args.username {
        Some(username) => username.clone(),
        None => prompt(&format!("Username for {host}: ")).await?,
    };
    let password = match given {
        Some(password) => password,
        None => {
            // Given back on every way out, Ctrl-C included.
            let silence = terminal::Silent::enter()?;
            let password = prompt("Password: ").await;
            drop(silence);
            // The line break that was typed was not shown.
            render::note("");
            password?
        }
    };
    credentials(username, password)
}

fn credentials(username: String, password: String) -> Result<Credentials> {
    if username.is_empty() || password.is_empty() {
        return Err(Error::usage("user and password must not be empty"));
    }
    if username.contains(':') {
        return Err(Error::usage("a user name cannot contain \":\""));
    }
    Ok(Credentials::Password { username, password: Secret::new(password) })
}

/// The password on standard input, without the line break at its end.
fn piped() -> Result<String> {
    let failed = |error| Error::new(format!("cannot read the password from standard input: {error}"));
    let mut password = String::new();
    std::io::stdin().lock().take(MOST).read_to_string(&mut password).map_err(failed)?;
    let end = password.trim_end_matches('\n').trim_end_matches('\r').len();
    password.truncate(end);
    Ok(password)
}

/// Asks at the terminal.
async fn prompt(question: &str) -> Result<String> {
    let failed = |error| Error::new(format!("cannot ask at the terminal: {error}"));
    let mut stderr = std::io::stderr();
    stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).map_err(failed)?;
    let read = || {
        let mut line = String::new();
        std::io::stdin().lock().take(MOST).read_line(&mut line).map(|_| line)
    };
    let line = tokio::task::spawn_blocking(read).await.map_err(|error| Error::of(&error))?.map_err(failed)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
