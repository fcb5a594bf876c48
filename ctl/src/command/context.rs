//! `ctl context`

mod archive;
mod show;

use std::fs;
use std::path::PathBuf;

use crate::args::{Context, ContextCreate, ContextFlags, ContextRm, ContextUpdate};
use crate::contexts::{self, Contexts, Named};
use crate::error::{Error, Result};
use crate::platform::Choice;
use crate::render;

/// Does what is asked with contexts.
pub fn run(command: &Context, choice: &Choice) -> Result<u8> {
    match command {
        Context::Create(args) => create(args),
        Context::Export(args) => archive::export(args),
        Context::Import(args) => archive::import(args),
        Context::Inspect(args) => show::inspect(args, choice),
        Context::Ls(args) => show::ls(args, choice),
        Context::Rm(args) => rm(args, choice),
        Context::Show => render::line(choice.context()?).map(|()| 0),
        Context::Update(args) => update(args),
        Context::Use { name } => choose(name),
    }
}

fn create(args: &ContextCreate) -> Result<u8> {
    let mut all = Contexts::load()?;
    new_name(&all, &args.name)?;
    let base = match args.from.as_deref() {
        None => Named::default(),
        Some(contexts::DEFAULT) => Named::on_demand(),
        Some(from) => all.find(from)?.clone(),
    };
    let named = changed(base, &args.flags)?;
    all.contexts.insert(args.name.clone(), named);
    all.save()?;
    render::line(&args.name)?;
    render::note(format!("Successfully created context {:?}", args.name));
    Ok(0)
}

fn update(args: &ContextUpdate) -> Result<u8> {
    let mut all = Contexts::load()?;
    if args.name == contexts::DEFAULT {
        return Err(Error::usage("the context \"default\" is this host: it cannot be changed"));
    }
    let named = changed(all.find(&args.name)?.clone(), &args.flags)?;
    all.contexts.insert(args.name.clone(), named);
    all.save()?;
    render::line(&args.name)?;
    render::note(format!("Successfully updated context {:?}", args.name));
    Ok(0)
}

fn choose(name: &str) -> Result<u8> {
    let mut all = Contexts::load()?;
    if name != contexts::DEFAULT {
        all.find(name)?;
    }
    all.current = name.to_owned();
    all.save()?;
    render::line(name)?;
    if let Ok(chosen) = std::env::var("STRATA_CONTEXT")
        && chosen != name
    {
        render::note(format!("note: STRATA_CONTEXT={chosen} counts before it"));
    }
    Ok(0)
}

fn rm(args: &ContextRm, choice: &Choice) -> Result<u8> {
    let mut code = 0;
    for name in &args.names {
        match removed(name, args.force, choice) {
            Ok(()) => render::line(name)?,
            Err(error) => {
                error.print();
                code = 1;
            }
        }
    }
    Ok(code)
}

fn removed(name: &str, is_forced: bool, choice: &Choice) -> Result<()> {
    let mut all = Contexts::load()?;
    if name == contexts::DEFAULT {
        return Err(Error::usage("the context \"default\" is this host: it cannot be removed"));
    }
    if !all.contexts.contains_key(name) && is_forced {
        return Ok(());
    }
    all.find(name)?;
    if choice.context()? == name && !is_forced {
        let error = Error::new(format!("context {name:?} is in use"));
        return Err(error.hint("`ctl context use` chooses another, `ctl context rm -f` removes it all the same"));
    }
    all.contexts.remove(name);
    if all.current == name {
        all.current = contexts::DEFAULT.to_owned();
    }
    all.save()?;
    // What an import put there; nobody names it any more.
    match fs::remove_dir_all(contexts::tls_directory(name)?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::new(format!("the certificates of context {name:?} cannot be removed: {error}")))
        }
        _ => Ok(()),
    }
}

/// Refuses what is no name, and what is taken.
fn new_name(all: &Contexts, name: &str) -> Result<()> {
    if !contexts::is_name(name) {
        let rule = "letters, digits, \"_\", \".\" and \"-\", a letter or a digit first";
        return Err(Error::usage(format!("invalid context name {name:?}: {rule}")));
    }
    if name == contexts::DEFAULT || all.contexts.contains_key(name) {
        let error = Error::new(format!("there is a context {name:?} already"));
        return Err(error.hint("`ctl context update` changes it"));
    }
    Ok(())
}

/// A context with what flags say; what they do not say stays.
fn changed(base: Named, flags: &ContextFlags) -> Result<Named> {
    let docker = flags.docker.as_deref().map(docker).transpose()?.unwrap_or_default();
    let host = flags.host.as_ref().or(docker.host.as_ref());
    let at = host.map(|host| Named::at(host)).transpose()?;
    let one = |flag: &Option<String>, of_host: fn(&Named) -> &String, old: String| {
        flag.clone().or_else(|| at.as_ref().map(of_host).cloned()).unwrap_or(old)
    };
    let named = Named {
        description: flags.description.clone().unwrap_or(base.description),
        store: one(&flags.store, |at| &at.store, base.store),
        builder: one(&flags.builder, |at| &at.builder, base.builder),
        runtime: one(&flags.runtime, |at| &at.runtime, base.runtime),
        tls_ca: absolute(flags.tls_ca.as_ref().or(docker.ca.as_ref()))?.or(base.tls_ca),
        tls_cert: absolute(flags.tls_cert.as_ref().or(docker.cert.as_ref()))?.or(base.tls_cert),
        tls_key: absolute(flags.tls_key.as_ref().or(docker.key.as_ref()))?.or(base.tls_key),
    };
    named.check()?;
    Ok(named)
}

/// What `--docker` says.
#[derive(Debug, Default)]
struct Docker {
    host: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

fn docker(text: &str) -> Result<Docker> {
    let mut said = Docker::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key {
            "host" if !value.is_empty() => said.host = Some(value.to_owned()),
            "ca" => said.ca = Some(value.into()),
            "cert" => said.cert = Some(value.into()),
            "key" => said.key = Some(value.into()),
            _ => {
                let known = "host, ca, cert and key with a value are known";
                return Err(Error::usage(format!("invalid --docker {field:?}: {known}")));
            }
        }
    }
    Ok(said)
}

fn absolute(path: Option<&PathBuf>) -> Result<Option<PathBuf>> {
    let find = |path: &PathBuf| {
        let found = path.canonicalize();
        found.map_err(|error| Error::new(format!("cannot find {}: {error}", path.display())))
    };
    path.map(find).transpose()
}
