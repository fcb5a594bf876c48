//! `ctl context inspect` and `ls`

use serde_json::{Map, Value, json};

use crate::args::{ContextInspect, ContextLs};
use crate::contexts::{self, Contexts, Named};
use crate::error::Result;
use crate::platform::Choice;
use crate::render;
use crate::render::list::{self, Row};

/// Prints one array of contexts, with Docker's names where it has them.
pub fn inspect(args: &ContextInspect, choice: &Choice) -> Result<u8> {
    let all = Contexts::load()?;
    let names = if args.names.is_empty() { vec![choice.context()?] } else { args.names.clone() };
    let (mut found, mut code) = (Vec::new(), 0);
    for name in &names {
        let named = if name == contexts::DEFAULT { Ok(Named::on_demand()) } else { all.find(name).cloned() };
        match named {
            Ok(named) => found.push(value(name, &named)?),
            Err(error) => {
                error.print();
                code = 1;
            }
        }
    }
    list::inspected(args.format.as_ref(), found)?;
    Ok(code)
}

fn value(name: &str, named: &Named) -> Result<Value> {
    let endpoint = |host: &str| json!({ "Host": host, "SkipTLSVerify": false });
    let files = [("ca", &named.tls_ca), ("cert", &named.tls_cert), ("key", &named.tls_key)];
    let tls: Map<String, Value> =
        files.into_iter().filter_map(|(key, path)| Some((key.to_owned(), json!(path.as_ref()?)))).collect();
    Ok(json!({
        "Name": name,
        "Metadata": { "Description": named.description },
        "Endpoints": {
            "store": endpoint(&named.store),
            "builder": endpoint(&named.builder),
            "runtime": endpoint(&named.runtime),
        },
        "TLSMaterial": tls,
        "Storage": { "MetadataPath": contexts::file()?, "TLSPath": contexts::tls_directory(name)? },
    }))
}

/// Lists contexts by name, the default first.
pub fn ls(args: &ContextLs, choice: &Choice) -> Result<u8> {
    let all = Contexts::load()?;
    let current = choice.context()?;
    let on_demand = || "on demand".to_owned();
    let default = Named {
        description: "This host".to_owned(),
        store: on_demand(),
        builder: on_demand(),
        runtime: on_demand(),
        ..Named::default()
    };
    let default = (contexts::DEFAULT.to_owned(), default);
    let contexts: Vec<(String, Named)> = std::iter::once(default).chain(all.contexts).collect();
    if args.quiet {
        return contexts.iter().try_for_each(|(name, _)| render::line(name)).map(|()| 0);
    }
    let row = |(name, named): (String, Named)| {
        let error = if name == contexts::DEFAULT {
            String::new()
        } else {
            named.check().err().map_or_else(String::new, |e| e.message)
        };
        let is_current = name == current;
        let shown = if is_current { format!("{name} *") } else { name.clone() };
        let Named { description, store, builder, runtime, .. } = named;
        let fields = json!({
            "Name": name, "Current": is_current, "Description": description, "Store": store, "Builder": builder,
            "Runtime": runtime, "DockerEndpoint": runtime, "Error": error,
        });
        Row { cells: vec![shown, description, store, builder, runtime, error], fields }
    };
    let head = ["NAME", "DESCRIPTION", "STORE", "BUILDER", "RUNTIME", "ERROR"];
    list::print(&args.format, &head, contexts.into_iter().map(row).collect())?;
    Ok(0)
}
