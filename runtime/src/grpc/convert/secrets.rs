//! Secrets of containers, wire to domain and back. What they are called and where they are is settled when the container is
//! made: a secret may be asked for by its id.

use strata_proto::runtime::v1::{self as wire, container_secret::Form};

use super::{one_text, path};
use crate::{
    error::Error,
    spec::{DIRECTORY, MAX_SECRETS, SecretFile, SecretForm, SecretUse},
};

/// Permission bits of a file that nobody chose others for: Docker's.
const USUAL_MODE: u32 = 0o444;

/// Parses the secrets of a spec.
pub fn secrets(secrets: Vec<wire::ContainerSecret>) -> Result<Vec<SecretUse>, Error> {
    if secrets.len() > MAX_SECRETS {
        return Err(Error::argument("spec.secrets", format!("more than {MAX_SECRETS}")));
    }
    secrets.into_iter().enumerate().map(|(index, secret)| one(&format!("spec.secrets[{index}]"), secret)).collect()
}

fn one(field: &str, secret: wire::ContainerSecret) -> Result<SecretUse, Error> {
    if secret.secret.is_empty() {
        return Err(Error::argument(format!("{field}.secret"), "a secret is needed"));
    }
    let form = match secret.form {
        None => SecretForm::File(file(field, wire::SecretFile::default())?),
        Some(Form::File(wanted)) => SecretForm::File(file(field, wanted)?),
        Some(Form::Variable(name)) => {
            let field = format!("{field}.variable");
            one_text(&field, &name)?;
            match name.contains('=') {
                true => return Err(Error::argument(field, format!("{name:?} is no name of a variable"))),
                false => SecretForm::Variable(name),
            }
        }
    };
    Ok(SecretUse { secret: secret.secret, form })
}

fn file(field: &str, file: wire::SecretFile) -> Result<SecretFile, Error> {
    let at = |name: &str| format!("{field}.file.{name}");
    let target = match file.target.as_str() {
        "" => String::new(),
        absolute if absolute.starts_with('/') => path(&at("target"), absolute)?,
        relative => path(&at("target"), &format!("{DIRECTORY}/{relative}"))?,
    };
    // As of all that is mounted.
    if target == "/" || target == "/proc" || target.starts_with("/proc/") {
        return Err(Error::argument(at("target"), format!("{}: nothing can be mounted there", file.target)));
    }
    let mode = file.mode.unwrap_or(USUAL_MODE);
    match (1..=0o7777).contains(&mode) {
        true => Ok(SecretFile { target, uid: file.uid, gid: file.gid, mode }),
        false => Err(Error::argument(at("mode"), format!("{mode:o} are no permission bits with which it can be read"))),
    }
}

/// A secret of a container as the wire shows it.
pub fn wire_secret(secret: SecretUse) -> wire::ContainerSecret {
    let form = match secret.form {
        SecretForm::File(SecretFile { target, uid, gid, mode }) => {
            Form::File(wire::SecretFile { target, uid, gid, mode: Some(mode) })
        }
        SecretForm::Variable(name) => Form::Variable(name),
    };
    wire::ContainerSecret { secret: secret.secret, form: Some(form) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(form: Option<Form>) -> Result<SecretForm, String> {
        let parsed = secrets(vec![wire::ContainerSecret { secret: "s".into(), form }]);
        parsed.map(|mut all| all.remove(0).form).map_err(|error| error.to_string())
    }

    fn at(target: &str) -> Option<Form> {
        Some(Form::File(wire::SecretFile { target: target.into(), ..Default::default() }))
    }

    #[test]
    fn a_secret_is_a_file_unless_it_is_a_variable() {
        let file = |target: &str| SecretForm::File(SecretFile { target: target.into(), uid: 0, gid: 0, mode: 0o444 });
        assert_eq!(parse(None), Ok(file("")));
        assert_eq!(parse(at("a/b")), Ok(file("/run/secrets/a/b")));
        assert_eq!(parse(at("/etc//key")), Ok(file("/etc/key")));
        assert_eq!(parse(Some(Form::Variable("TOKEN".into()))), Ok(SecretForm::Variable("TOKEN".into())));
        let shown = wire_secret(SecretUse { secret: "s".into(), form: file("/etc/key") });
        assert_eq!(secrets(vec![shown.clone()]).map(|mut all| wire_secret(all.remove(0))).unwrap(), shown);
    }

    #[test]
    fn what_is_malformed_is_refused_by_its_field() {
        let mode = |mode| Some(Form::File(wire::SecretFile { mode: Some(mode), ..Default::default() }));
        for (form, field) in [
            (at("../x"), "spec.secrets[0].file.target"),
            (at("/"), "spec.secrets[0].file.target"),
            (at("/proc/self/x"), "spec.secrets[0].file.target"),
            (mode(0), "spec.secrets[0].file.mode"),
            (mode(0o10000), "spec.secrets[0].file.mode"),
            (Some(Form::Variable("A=B".into())), "spec.secrets[0].variable"),
            (Some(Form::Variable("A\0".into())), "spec.secrets[0].variable"),
        ] {
            let said = parse(form.clone()).unwrap_err();
            assert!(said.starts_with(&format!("{field}: ")), "{form:?}: {said}");
        }
        assert!(secrets(vec![wire::ContainerSecret::default()]).is_err());
        assert!(secrets(vec![wire::ContainerSecret::default(); MAX_SECRETS + 1]).is_err());
    }
}
