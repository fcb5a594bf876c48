//! Bytes that are in no message, log or record.

use bytes::Bytes;

/// A secret of the client. Unlike `Bytes`, it does not show what it holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Bytes);

impl Secret {
    /// Keeps bytes secret.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// What it is.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Hands it on.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Variables that only the process of a step knows.
#[derive(Clone, Default)]
pub struct SecretEnv(Vec<(String, String)>);

impl SecretEnv {
    /// Adds a variable.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Name and value each.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }
}

impl std::fmt::Debug for SecretEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} variables", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_shown() {
        let mut env = SecretEnv::default();
        env.push("TOKEN", "hunter2");

        assert!(!format!("{:?} {env:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
