//! Secrets as callers see them, and as containers get them: read when a container is started, into a copy of its record that
//! is on its way to the monitor and to no disk. Who has one is known from the records of containers alone.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use strata_types::{ContainerId, SecretName};

use super::{Engine, blocking};
use crate::{
    container::Container,
    error::{Error, SecretError},
    record::Record,
    secret::{self, New, Secrets, Value},
    spec::{DIRECTORY, Mount, SecretForm, SecretUse, Source, Spec},
};

/// What a container is given of its secrets.
#[derive(Debug, Default)]
struct Revealed {
    mounts: Vec<Mount>,
    /// NAME=VALUE.
    variables: crate::spec::SecretEnv,
}

impl Engine {
    /// The secrets of this node.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// Containers that have a secret, whether they run or not, by id.
    pub fn users_of_secret(&self, name: &SecretName) -> Vec<Arc<Container>> {
        self.table().after("").filter(|container| container.has_secret(name)).cloned().collect()
    }

    /// The ids of the containers that have each secret that one has, by its name.
    pub fn users_of_secrets(&self) -> HashMap<String, Vec<ContainerId>> {
        let mut users: HashMap<String, Vec<ContainerId>> = HashMap::new();
        for container in self.table().after("") {
            for name in container.secrets() {
                users.entry(name).or_default().push(container.id.clone());
            }
        }
        users
    }

    /// Keeps a secret.
    pub async fn create_secret(&self, new: New) -> Result<secret::Record, Error> {
        let secrets = self.secrets.clone();
        blocking("keeping a secret", move || secrets.create(new)).await
    }

    /// Reads the value of a secret.
    pub async fn read_secret(&self, name: SecretName) -> Result<Value, Error> {
        let secrets = self.secrets.clone();
        blocking("reading a secret", move || secrets.value(&name)).await
    }

    /// Removes a secret that no container has.
    pub async fn delete_secret(self: &Arc<Self>, name: SecretName) -> Result<(), Error> {
        let engine = self.clone();
        blocking("removing a secret", move || {
            engine.secrets.remove(&name, || {
                let users = engine.users_of_secret(&name);
                let holders: Vec<_> = users.iter().map(|user| (user.id.to_string(), user.name().to_string())).collect();
                match holders.is_empty() {
                    true => Ok(()),
                    false => Err(SecretError::InUse { name: name.to_string(), holders }.into()),
                }
            })
        })
        .await
    }

    /// Chooses what a request leaves open: names of secrets, of their files and of their variables.
    pub(super) fn settle_secrets(&self, spec: &mut Spec) -> Result<(), Error> {
        let mut targets: BTreeSet<String> = spec.mounts.iter().map(|mount| mount.target.clone()).collect();
        let mut variables = BTreeSet::new();
        for (index, wanted) in spec.secrets.iter_mut().enumerate() {
            let name = self.secrets.find(&wanted.secret)?.name;
            wanted.secret = name.to_string();
            let duplicate = match &mut wanted.form {
                SecretForm::File(file) => {
                    if file.target.is_empty() {
                        file.target = format!("{DIRECTORY}/{name}");
                    }
                    (!targets.insert(file.target.clone())).then(|| format!("duplicate mount point {}", file.target))
                }
                SecretForm::Variable(variable) => {
                    if variable.is_empty() {
                        *variable = name.to_string();
                    }
                    (!variables.insert(variable.clone())).then(|| format!("duplicate variable {variable}"))
                }
            };
            if let Some(problem) = duplicate {
                return Err(Error::argument(format!("spec.secrets[{index}]"), problem));
            }
        }
        Ok(())
    }

    /// Looks whether a container can be given its secrets. It is among those that have them already: from here on none of
    /// them is removed.
    pub(super) async fn check_secrets(&self, record: &Record) -> Result<(), Error> {
        self.revealed(record.spec.secrets.clone()).await.map(drop)
    }

    /// Adds the values of its secrets to a copy of a record, for its start.
    pub(super) async fn reveal(&self, record: &mut Record) -> Result<(), Error> {
        let Revealed { mounts, variables } = self.revealed(record.spec.secrets.clone()).await?;
        record.spec.mounts.extend(mounts);
        record.spec.secret_env.0.extend(variables.0);
        Ok(())
    }

    /// Adds the values of those secrets that are variables, for a further process: it finds the files where they are.
    pub(super) async fn reveal_variables(&self, record: &mut Record) -> Result<(), Error> {
        let mut wanted = record.spec.secrets.clone();
        wanted.retain(|wanted| wanted.target().is_none());
        record.spec.secret_env.0.extend(self.revealed(wanted).await?.variables.0);
        Ok(())
    }

    async fn revealed(&self, wanted: Vec<SecretUse>) -> Result<Revealed, Error> {
        if wanted.is_empty() {
            return Ok(Revealed::default());
        }
        let secrets = self.secrets.clone();
        blocking("reading secrets", move || reveal_all(&secrets, wanted)).await
    }
}

fn reveal_all(secrets: &Secrets, wanted: Vec<SecretUse>) -> Result<Revealed, Error> {
    let mut revealed = Revealed::default();
    for SecretUse { secret, form } in wanted {
        let name = secrets.find(&secret)?.name;
        let value = secrets.value(&name)?;
        match form {
            SecretForm::File(file) => {
                let source = Source::Bytes { data: value.into_bytes(), mode: file.mode, owner: (file.uid, file.gid) };
                let mode = String::new();
                revealed.mounts.push(Mount { target: file.target, is_read_only: true, mode, source });
            }
            SecretForm::Variable(variable) => match value.into_text() {
                Ok(text) => revealed.variables.0.push(format!("{variable}={text}")),
                Err(problem) => return Err(SecretError::Unfit { name: secret, variable, problem }.into()),
            },
        }
    }
    Ok(revealed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use strata_rpc::events::Log;

    use super::*;
    use crate::{secret::Replace, spec::SecretFile};

    fn wish(secret: &str, form: SecretForm) -> SecretUse {
        SecretUse { secret: secret.into(), form }
    }

    #[test]
    fn a_container_gets_files_in_memory_and_variables_and_nothing_shows_them() {
        let root = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(root.path(), Log::default()).unwrap();
        for (name, value) in [("key", &b"hunter2"[..]), ("raw", b"\xff\xfe")] {
            let value = Value::new(value.to_vec()).unwrap();
            let name = SecretName::parse(name).unwrap();
            secrets.create(New { name, value, labels: BTreeMap::new(), replace: Replace::No }).unwrap();
        }
        let file = SecretForm::File(SecretFile { target: "/k".into(), uid: 1, gid: 2, mode: 0o440 });
        let variable = || SecretForm::Variable("TOKEN".into());

        let revealed = reveal_all(&secrets, vec![wish("key", file.clone()), wish("key", variable())]).unwrap();

        let shown = format!("{revealed:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
        assert_eq!(revealed.variables.0, ["TOKEN=hunter2"]);
        match &revealed.mounts[0].source {
            Source::Bytes { data, mode, owner } => {
                assert_eq!((data.as_slice(), *mode, *owner), (&b"hunter2"[..], 0o440, (1, 2)));
            }
            other => panic!("{other:?}"),
        }
        assert!(revealed.mounts[0].is_read_only);
        assert_eq!(reveal_all(&secrets, vec![wish("raw", file)]).unwrap().mounts.len(), 1);
        let said = reveal_all(&secrets, vec![wish("raw", variable())]).unwrap_err().to_string();
        assert!(said.contains("raw cannot be the variable TOKEN"), "{said}");
        assert!(reveal_all(&secrets, vec![wish("none", variable())]).is_err());
    }
}
