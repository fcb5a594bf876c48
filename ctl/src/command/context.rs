//! `ctl context`

use strata_rpc::Endpoint;

use crate::args::{Context, ContextCreate};
use crate::contexts::{self, Contexts, Named};
use crate::error::{Error, Result};
use crate::render::{self, table};

/// Creates, chooses or lists contexts.
pub fn run(command: &Context, chosen: Option<&str>) -> Result<u8> {
    let mut all = Contexts::load()?;
    match command {
        Context::Create(args) => {
            create(&mut all, args)?;
            all.save()?;
            render::line(&args.name)?;
        }
        Context::Use { name } => {
            if name != contexts::DEFAULT {
                all.find(name)?;
            }
            all.current = name.clone();
            all.save()?;
            render::line(name)?;
        }
        Context::Ls => list(&all, chosen.unwrap_or(&all.current))?,
    }
    Ok(0)
}

fn create(all: &mut Contexts, args: &ContextCreate) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if args.name.is_empty() || !args.name.chars().all(is_plain) {
        return Err(Error::usage(format!(
            "invalid context name {:?}: letters, digits, \"_\", \".\" and \"-\"",
            args.name
        )));
    }
    if args.name == contexts::DEFAULT || all.contexts.contains_key(&args.name) {
        return Err(Error::new(format!("there is a context {:?} already", args.name)));
    }
    let endpoints = [("--store", &args.store), ("--builder", &args.builder), ("--runtime", &args.runtime)];
    for (flag, text) in endpoints {
        let endpoint = Endpoint::parse(text).map_err(|error| Error::usage(format!("{flag}: {error}")))?;
        let has_tls = args.tls_ca.is_some() && args.tls_cert.is_some() && args.tls_key.is_some();
        if matches!(endpoint, Endpoint::Tcp { .. }) && !has_tls {
            let error = Error::usage(format!("{flag} {text}: a TCP endpoint needs --tls-ca, --tls-cert and --tls-key"));
            return Err(error.hint("`ctl tls init` makes the certificates"));
        }
    }
    let absolute = |path: &Option<std::path::PathBuf>| match path {
        None => Ok(None),
        Some(path) => match path.canonicalize() {
            Ok(path) => Ok(Some(path)),
            Err(error) => Err(Error::new(format!("cannot find {}: {error}", path.display()))),
        },
    };
    let named = Named {
        store: args.store.clone(),
        builder: args.builder.clone(),
        runtime: args.runtime.clone(),
        tls_ca: absolute(&args.tls_ca)?,
        tls_cert: absolute(&args.tls_cert)?,
        tls_key: absolute(&args.tls_key)?,
    };
    all.contexts.insert(args.name.clone(), named);
    Ok(())
}

fn list(all: &Contexts, current: &str) -> Result<()> {
    let mut rows = vec![["NAME", "STORE", "BUILDER", "RUNTIME"].map(str::to_owned).to_vec()];
    let mark = |name: &str| if name == current { format!("{name} *") } else { name.to_owned() };
    let on_demand = "on demand".to_owned();
    rows.push(vec![mark(contexts::DEFAULT), on_demand.clone(), on_demand.clone(), on_demand]);
    for (name, named) in &all.contexts {
        rows.push(vec![mark(name), named.store.clone(), named.builder.clone(), named.runtime.clone()]);
    }
    table::print(&rows)
}
