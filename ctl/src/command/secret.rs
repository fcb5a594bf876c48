//! `ctl secret`: what containers are told and nobody else. A value passes through here on its way in, and is printed for who
//! asks for it by name and flag.

mod wish;

use std::io::{IsTerminal, Read};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use strata_proto::runtime::v1 as pb;

use crate::args::{Secret, SecretCreate, SecretInspect, SecretLs, SecretRm};
use crate::error::{Error, Result};
use crate::filter::{Filters, has_label};
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, time};
use crate::{input, suggest};

pub use wish::{inspected, of_container};

/// The most bytes of a value, as in Docker.
const MOST: u64 = 500 << 10;

/// Does what is asked for.
pub async fn run(platform: &Platform, args: &Secret) -> Result<u8> {
    match args {
        Secret::Create(args) => create(platform, args).await,
        Secret::Inspect(args) => inspect(platform, args).await,
        Secret::Ls(args) => ls(platform, args).await,
        Secret::Rm(args) => rm(platform, args).await,
    }
}

async fn create(platform: &Platform, args: &SecretCreate) -> Result<u8> {
    let request = pb::CreateSecretRequest {
        name: args.name.clone(),
        value: value(&args.source, args.env)?,
        labels: input::labels(&[], &args.label)?,
        replace: args.replace,
    };
    let reply = platform.secrets().await?.create_secret(request).await?.into_inner();
    let secret = reply.secret.ok_or_else(|| super::incomplete("a secret"))?;
    render::line(secret.id)?;
    Ok(0)
}

/// The value, from where the second word says.
fn value(source: &str, is_variable: bool) -> Result<Bytes> {
    let bytes = match source {
        name if is_variable => {
            let value = std::env::var_os(name).ok_or_else(|| {
                Error::usage(format!("there is no environment variable {name:?}"))
                    .hint("with --env the second word names a variable: `ctl secret create --env SECRET VARIABLE`")
            })?;
            std::os::unix::ffi::OsStringExt::into_vec(value)
        }
        "-" if std::io::stdin().is_terminal() => {
            let error = Error::usage("a secret is not typed where it can be read: standard input is a terminal");
            return Err(error.hint("a pipe or a file has it: `ctl secret create SECRET FILE`"));
        }
        "-" => read("standard input", std::io::stdin().lock())?,
        path => {
            let opened = std::fs::File::open(path);
            read(path, opened.map_err(|error| Error::new(format!("cannot open {path}: {error}")))?)?
        }
    };
    match bytes.len() as u64 {
        0 => Err(Error::usage("a secret must have a value: there is none")),
        length if length > MOST => Err(Error::usage(format!("a secret has at most {MOST} bytes"))),
        _ => Ok(bytes.into()),
    }
}

/// Not more than it takes to see that it is too much.
fn read(shown: &str, from: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::new(format!("cannot read {shown}: {error}")))?;
    Ok(bytes)
}

/// Every secret, by name.
pub async fn all(platform: &Platform) -> Result<Vec<pb::Secret>> {
    let mut client = platform.secrets().await?;
    let (mut secrets, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.list_secrets(pb::ListSecretsRequest { page_size: 1000, page_token }).await?.into_inner();
        secrets.extend(page.secrets);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(secrets);
        }
    }
}

/// Whether filters mean a secret.
fn takes(filters: &Filters, secret: &pb::Secret) -> bool {
    filters.any("id", |start| secret.id.starts_with(start))
        && filters.any("name", |text| secret.name.contains(text))
        && filters.of("label").all(|label| has_label(&secret.labels, label))
}

async fn ls(platform: &Platform, args: &SecretLs) -> Result<u8> {
    let filters = Filters::read(&args.filter, &["id", "label", "name"])?;
    let mut secrets = all(platform).await?;
    secrets.retain(|secret| takes(&filters, secret));
    if args.quiet {
        return secrets.iter().try_for_each(|secret| render::line(&secret.id)).map(|()| 0);
    }
    let now = Timestamp::now();
    let ago = |at: &Option<prost_types::Timestamp>| time::ago(at.as_ref().and_then(time::timestamp), now);
    let row = |secret: &pb::Secret| {
        let (created, updated) = (ago(&secret.created_at), ago(&secret.updated_at));
        let fields = json!({
            "ID": secret.id,
            "Name": secret.name,
            "Driver": "file",
            "CreatedAt": created,
            "UpdatedAt": updated,
            "Labels": secret.labels,
        });
        let cells = vec![secret.id.clone(), secret.name.clone(), "file".to_owned(), created, updated];
        Row { cells, fields }
    };
    let head = ["ID", "NAME", "DRIVER", "CREATED", "UPDATED"];
    list::print(&args.format, &head, secrets.iter().map(row).collect())?;
    Ok(0)
}

async fn inspect(platform: &Platform, args: &SecretInspect) -> Result<u8> {
    let (mut found, mut code) = (Vec::new(), 0);
    for name in &args.names {
        match details(platform, name, args.showsecret).await {
            Ok(details) => found.push(details),
            Err(error) => {
                suggest::complete(error).await.print();
                code = 1;
            }
        }
    }
    match args.pretty {
        true => found.iter().try_for_each(|details| render::text(&pretty(details)))?,
        false => list::inspected(args.format.as_ref(), found)?,
    }
    Ok(code)
}

/// A secret, by podman's names.
async fn details(platform: &Platform, name: &str, with_value: bool) -> Result<Value> {
    let mut client = platform.secrets().await?;
    let reply = client.get_secret(pb::GetSecretRequest { secret: name.to_owned() }).await?.into_inner();
    let secret = reply.secret.ok_or_else(|| super::incomplete("a secret"))?;
    let at = |at: &Option<prost_types::Timestamp>| at.as_ref().and_then(time::timestamp).map(|at| at.to_string());
    let mut details = json!({
        "ID": secret.id,
        "CreatedAt": at(&secret.created_at),
        "UpdatedAt": at(&secret.updated_at),
        "Spec": {
            "Name": secret.name,
            "Driver": { "Name": "file", "Options": {} },
            "Labels": secret.labels,
        },
    });
    if with_value {
        let request = pb::ReadSecretRequest { secret: secret.id };
        let value = client.read_secret(request).await?.into_inner().value;
        // The error would hold the bytes.
        let text = String::from_utf8(value.into()).map_err(|_| {
            let error = Error::new(format!("the value of secret {} is not text: it cannot be shown", secret.name));
            error.hint("a container has it as a file: `ctl run --secret NAME`")
        })?;
        details["SecretData"] = text.into();
    }
    Ok(details)
}

/// The lines of `--pretty`, podman's.
fn pretty(details: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        format!("ID:              {}", text(&details["ID"])),
        format!("Name:            {}", text(&details["Spec"]["Name"])),
        "Labels:".to_owned(),
    ];
    let labels = details["Spec"]["Labels"].as_object().into_iter().flatten();
    let mut labels: Vec<String> = labels.map(|(key, value)| format!(" - {key}={}", text(value))).collect();
    labels.sort();
    lines.extend(labels);
    lines.push(format!("Driver:          {}", text(&details["Spec"]["Driver"]["Name"])));
    lines.push(format!("Created at:      {}", text(&details["CreatedAt"])));
    lines.push(format!("Updated at:      {}", text(&details["UpdatedAt"])));
    if let Some(value) = details.get("SecretData") {
        lines.push(format!("Secret:          {}", text(value)));
    }
    lines.join("\n") + "\n"
}

async fn rm(platform: &Platform, args: &SecretRm) -> Result<u8> {
    let names = match args.all {
        true => all(platform).await?.into_iter().map(|secret| secret.name).collect(),
        false => args.names.clone(),
    };
    let client = platform.secrets().await?;
    super::each(&names, |name| {
        let mut client = client.clone();
        let allow_missing = args.ignore;
        async move {
            client.delete_secret(pb::DeleteSecretRequest { secret: name.clone(), allow_missing }).await?;
            Ok(name)
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_must_be_all_that_filters_say() {
        let secret = pb::Secret {
            id: "0123456789abcdef012345678".into(),
            name: "db-password".into(),
            labels: [("env".to_owned(), "test".to_owned())].into(),
            ..Default::default()
        };
        for (flags, expected) in [
            (&[][..], true),
            (&["name=pass"], true),
            (&["name=other", "name=db"], true),
            (&["id=0123"], true),
            (&["id=123"], false),
            (&["label=env=test", "name=db"], true),
            (&["label=env=live"], false),
        ] {
            let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
            let filters = Filters::read(&flags, &["id", "label", "name"]).unwrap();
            assert_eq!(takes(&filters, &secret), expected, "{flags:?}");
        }
    }

    #[test]
    fn people_read_lines_and_the_value_only_if_it_was_asked_for() {
        let mut details = json!({
            "ID": "01", "CreatedAt": "then", "UpdatedAt": "now",
            "Spec": { "Name": "db", "Driver": { "Name": "file" }, "Labels": { "b": "2", "a": "1" } },
        });
        let lines = pretty(&details);
        assert!(lines.contains("Name:            db\nLabels:\n - a=1\n - b=2\nDriver:          file\n"), "{lines}");
        assert!(!lines.contains("Secret:"));
        details["SecretData"] = "hunter2".into();
        assert!(pretty(&details).ends_with("Secret:          hunter2\n"));
    }

    #[test]
    fn a_value_comes_from_a_file_or_a_variable_and_has_a_limit() {
        let of = |env: bool, source: &str| value(source, env).map_err(|error| error.message);
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(of(false, path).unwrap_err().contains("must have a value"));
        std::fs::write(path, b"a\0\n").unwrap();
        assert_eq!(of(false, path).unwrap(), &b"a\0\n"[..]);
        std::fs::write(path, vec![b'x'; MOST as usize + 1]).unwrap();
        assert!(of(false, path).unwrap_err().contains("at most 512000 bytes"));
        assert_eq!(of(true, "PATH").unwrap(), std::env::var("PATH").unwrap().into_bytes());
        assert!(of(true, "NOT_SET_ANYWHERE_42").unwrap_err().contains("NOT_SET_ANYWHERE_42"));
        assert!(of(false, "/nonexistent/secret").unwrap_err().contains("/nonexistent/secret"));
    }
}
