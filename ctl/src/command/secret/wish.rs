//! `--secret` of `run` and `create`, podman's form, and what `inspect` shows of it.

use serde_json::{Value, json};
use strata_proto::runtime::v1::{self as pb, container_secret::Form};

use crate::error::{Error, Result};

/// The secrets that flags give a container.
pub fn of_container(flags: &[String]) -> Result<Vec<pb::ContainerSecret>> {
    flags.iter().map(|flag| parse(flag)).collect()
}

/// "NAME[,type=mount|env][,target=…][,uid=…][,gid=…][,mode=…]"; the name may be "source=NAME" too.
fn parse(flag: &str) -> Result<pb::ContainerSecret> {
    let wrong = |why: String| {
        let error = Error::usage(format!("invalid --secret {flag:?}: {why}"));
        error.hint("it is written as NAME,target=PATH or NAME,type=env,target=VARIABLE")
    };
    let (mut name, mut kind, mut target) = ("", "", "");
    let mut file = pb::SecretFile::default();
    let mut of_file = None;
    for (index, field) in flag.split(',').enumerate() {
        let Some((key, value)) = field.split_once('=') else {
            if index > 0 {
                return Err(wrong(format!("{field:?} has no value")));
            }
            name = field;
            continue;
        };
        let number = || value.parse::<u32>().map_err(|_| wrong(format!("{key}={value} is no id")));
        match key {
            "source" | "src" | "id" => name = value,
            "type" if !kind.is_empty() => return Err(wrong("it has more than one type".to_owned())),
            "type" if matches!(value, "mount" | "env") => kind = value,
            "type" => return Err(wrong(format!("the type {value:?} is neither \"mount\" nor \"env\""))),
            "target" | "dst" | "destination" => target = value,
            "uid" => file.uid = number()?,
            "gid" => file.gid = number()?,
            "mode" => {
                let mode = u32::from_str_radix(value, 8);
                file.mode = Some(mode.map_err(|_| wrong(format!("the mode {value:?} is no octal number")))?);
            }
            _ => return Err(wrong(format!("the key {key:?} is not known"))),
        }
        if matches!(key, "uid" | "gid" | "mode") {
            of_file = Some(key);
        }
    }
    if name.is_empty() {
        return Err(wrong("the name is missing".to_owned()));
    }
    let form = match (kind, of_file) {
        ("env", Some(key)) => return Err(wrong(format!("{key} is for files, and a variable is wanted"))),
        ("env", None) => Form::Variable(target.to_owned()),
        _ => Form::File(pb::SecretFile { target: target.to_owned(), ..file }),
    };
    Ok(pb::ContainerSecret { secret: name.to_owned(), form: Some(form) })
}

/// A secret of a container: which, and where it is there.
pub fn inspected(secret: &pb::ContainerSecret) -> Value {
    match &secret.form {
        Some(Form::Variable(name)) => json!({ "Name": secret.secret, "Type": "env", "Target": name }),
        Some(Form::File(pb::SecretFile { target, uid, gid, mode })) => {
            json!({ "Name": secret.secret, "Type": "mount", "Target": target, "UID": uid, "GID": gid, "Mode": mode })
        }
        None => json!({ "Name": secret.secret }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_podman_reads_them() {
        let file = |target: &str, uid, gid, mode| Form::File(pb::SecretFile { target: target.into(), uid, gid, mode });
        for (flag, form) in [
            ("db", file("", 0, 0, None)),
            ("db,type=mount", file("", 0, 0, None)),
            ("source=db,target=key", file("key", 0, 0, None)),
            ("db,target=/etc/key,uid=1,gid=2,mode=0400", file("/etc/key", 1, 2, Some(0o400))),
            ("db,type=env", Form::Variable(String::new())),
            ("type=env,source=db,target=TOKEN", Form::Variable("TOKEN".into())),
        ] {
            let parsed = parse(flag).unwrap();
            assert_eq!((parsed.secret.as_str(), parsed.form), ("db", Some(form)), "{flag}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (flag, why) in [
            ("", "the name is missing"),
            ("type=env", "the name is missing"),
            ("db,env", "\"env\" has no value"),
            ("db,type=file", "the type \"file\" is neither"),
            ("db,type=env,type=mount", "more than one type"),
            ("db,type=env,mode=400", "mode is for files"),
            ("db,uid=root", "uid=root is no id"),
            ("db,mode=9", "is no octal number"),
            ("db,colour=red", "the key \"colour\" is not known"),
        ] {
            let error = parse(flag).expect_err(flag);
            assert!(error.message.contains(why), "{flag}: {}", error.message);
        }
    }
}
