//! The image in the making: its config, its layers, and one history entry per instruction.

use jiff::Timestamp;
use strata_types::{History, ImageConfig};

use crate::context::Blake3;

/// PATH of images that start from nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage at one point.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The config so far.
    pub config: ImageConfig,
    /// Layers in the store, bottom first.
    pub layers: Vec<String>,
    /// What the file system is made of: the key of the last step, or of the base.
    pub key: Blake3,
    /// When the newest layer was made.
    pub created: Option<Timestamp>,
    /// CMD was set in this stage: a later ENTRYPOINT leaves it alone.
    pub has_own_cmd: bool,
}

impl Draft {
    /// Nothing: `FROM scratch`.
    pub fn scratch(platform: &strata_types::Platform) -> Self {
        let mut config = ImageConfig::empty(platform);
        config.config.env_set("PATH", DEFAULT_PATH);
        let key = crate::key::Key::root("scratch").finish();
        Self { config, layers: Vec::new(), key, created: None, has_own_cmd: false }
    }

    /// An image of the store.
    pub fn image(base: crate::peers::BaseImage) -> Self {
        let key = crate::key::Key::root("image").list(&base.diff_ids).finish();
        let created = base.config.created.as_deref().and_then(|at| at.parse().ok());
        Self { config: base.config, layers: base.layers, key, created, has_own_cmd: false }
    }

    /// The next stage starts from this one.
    pub fn derive(&self) -> Self {
        Self { has_own_cmd: false, ..self.clone() }
    }

    /// Adds a layer and its history entry.
    pub fn push_layer(&mut self, layer: String, key: Blake3, created: Timestamp, created_by: String) {
        self.layers.push(layer);
        self.key = key;
        self.created = Some(created);
        self.push_history(created_by, false);
    }

    /// Adds a history entry without a layer.
    pub fn push_meta(&mut self, created_by: String) {
        self.push_history(created_by, true);
    }

    fn push_history(&mut self, created_by: String, is_empty: bool) {
        self.config.history.push(History {
            created: self.created.map(|at| at.to_string()),
            created_by: Some(created_by),
            comment: Some("buildkit.dockerfile.v0".to_owned()),
            empty_layer: is_empty,
            ..History::default()
        });
    }

    /// The shell of shell-form instructions.
    pub fn shell(&self) -> Vec<String> {
        self.config.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }

    /// The working directory, absolute.
    pub fn working_directory(&self) -> String {
        match self.config.config.working_dir.as_str() {
            "" => "/".to_owned(),
            path => path.to_owned(),
        }
    }
}

/// A list of words as Go's `%q` prints it: `["python3" "app.py"]`.
pub fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}
