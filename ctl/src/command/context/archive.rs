//! `ctl context export` and `import`: one JSON document with the endpoints and the certificates.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::new_name;
use crate::args::{ContextExport, ContextImport};
use crate::contexts::{self, Contexts, Named};
use crate::error::{Error, Result};
use crate::{render, terminal};

/// Version of the document.
const VERSION: u32 = 1;
/// The longest document: certificates are a few KiB.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    version: u32,
    description: String,
    store: String,
    builder: String,
    runtime: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<Tls>,
}

/// PEM texts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    ca: String,
    cert: String,
    key: String,
}

/// Writes a context with its certificates.
pub fn export(args: &ContextExport) -> Result<u8> {
    if args.name == contexts::DEFAULT {
        return Err(Error::usage("the context \"default\" is this host: there is nothing in it to take along"));
    }
    let all = Contexts::load()?;
    let text = written(all.find(&args.name)?)?;
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.context", args.name)));
    if file == Path::new("-") {
        if terminal::is_output() {
            return Err(Error::usage("a context has keys in it: they are not shown on a terminal"));
        }
        return render::line(text).map(|()| 0);
    }
    // Keys are in it: only their owner reads it.
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let write = opened.and_then(|mut opened| writeln!(opened, "{text}"));
    write.map_err(|error| Error::new(format!("cannot write {}: {error}", file.display())))?;
    render::note(format!("Written file {:?}", file.display().to_string()));
    Ok(0)
}

fn written(named: &Named) -> Result<String> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).map_err(|error| Error::new(format!("cannot read {}: {error}", path.display())))
    };
    let tls = match (&named.tls_ca, &named.tls_cert, &named.tls_key) {
        (Some(ca), Some(cert), Some(key)) => Some(Tls { ca: read(ca)?, cert: read(cert)?, key: read(key)? }),
        _ => None,
    };
    let Named { description, store, builder, runtime, .. } = named.clone();
    let document = Document { version: VERSION, description, store, builder, runtime, tls };
    serde_json::to_string_pretty(&document).map_err(|error| Error::of(&error))
}

/// Takes a context in; its certificates go to the configuration directory.
pub fn import(args: &ContextImport) -> Result<u8> {
    let mut all = Contexts::load()?;
    new_name(&all, &args.name)?;
    let document = read(&args.file)?;
    let named = placed(&args.name, document)?;
    all.contexts.insert(args.name.clone(), named);
    all.save()?;
    render::line(&args.name)?;
    render::note(format!("Successfully imported context {:?}", args.name));
    Ok(0)
}

fn read(file: &Path) -> Result<Document> {
    let shown = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().take(MOST_BYTES).read_to_string(&mut text),
        false => fs::File::open(file).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)),
    };
    read.map_err(|error| Error::new(format!("cannot read {shown}: {error}")))?;
    let document: Document = serde_json::from_str(&text)
        .map_err(|error| Error::new(format!("{shown} is no context that `ctl context export` wrote: {error}")))?;
    if document.version != VERSION {
        let (found, known) = (document.version, VERSION);
        return Err(Error::new(format!("{shown} has version {found} of contexts, and this ctl reads version {known}")));
    }
    Ok(document)
}

/// The context with its certificates in files; nothing is written of one that cannot be.
fn placed(name: &str, document: Document) -> Result<Named> {
    let Document { description, store, builder, runtime, tls, .. } = document;
    let mut named = Named { description, store, builder, runtime, ..Named::default() };
    let directory = contexts::tls_directory(name)?;
    if tls.is_some() {
        let file = |name: &str| Some(directory.join(name));
        (named.tls_ca, named.tls_cert, named.tls_key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    }
    named.check()?;
    if let Some(tls) = &tls {
        for (file, text) in [("ca.pem", &tls.ca), ("cert.pem", &tls.cert), ("key.pem", &tls.key)] {
            contexts::write_whole(&directory.join(file), text.as_bytes())?;
        }
    }
    Ok(named)
}
