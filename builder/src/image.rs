//! The image in the making: its config, its layers, and one history entry per instruction.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use strata_types::{History, ImageConfig, Platform};

use crate::context::Blake3;
use crate::key::Key;
use crate::origin::Lazy;
use crate::peers::BaseImage;
use crate::step::ContextLayer;

/// PATH of images that start from nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage at one point.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The config so far.
    pub config: ImageConfig,
    /// Layers in the store, bottom first; without those of `lazy`.
    layers: Vec<String>,
    /// The image it starts from, where that was found at its registry.
    lazy: Option<Arc<Lazy>>,
    /// What the file system is made of: the key of the last step, or of the base.
    pub key: Blake3,
    /// CMD was set in this stage: a later ENTRYPOINT leaves it alone.
    pub has_own_cmd: bool,
    /// A layer was made by something that nobody ever did: nobody knows files like these.
    pub is_new: bool,
    /// The step that made the newest layer. `None`: no step did.
    pub step: Option<u32>,
    /// Entries of the history that came with the base.
    base_history: usize,
}

impl Draft {
    /// Nothing: `FROM scratch`.
    pub fn scratch(platform: &Platform) -> Self {
        let mut config = ImageConfig::empty(platform);
        config.config.working_dir = "/".to_owned();
        Self::new(config, Key::root("scratch").finish())
    }

    /// An image of the store. Of its config stays what means something to an image: other fields are of whoever made it.
    pub fn image(base: BaseImage) -> Self {
        Self { layers: base.layers, ..Self::base(base.config, &base.diff_ids) }
    }

    /// An image at its registry.
    pub fn lazy(lazy: Arc<Lazy>) -> Self {
        let base = Self::base(lazy.resolved.config.clone(), &lazy.resolved.diff_ids);
        Self { lazy: Some(lazy), ..base }
    }

    fn base(mut config: ImageConfig, diff_ids: &[String]) -> Self {
        config.created = None;
        config.extra.retain(|name, _| name == "os.version" || name == "os.features");
        config.config.extra.clear();
        Self::new(config, Key::root("image").list(diff_ids).finish())
    }

    fn new(config: ImageConfig, key: Blake3) -> Self {
        let base_history = config.history.len();
        let (layers, lazy) = (Vec::new(), None);
        Self { config, layers, lazy, key, has_own_cmd: false, is_new: false, step: None, base_history }
    }

    /// The image that it starts from, where that was found at its registry, and the layers above that.
    pub fn parts(&self) -> (Option<&Arc<Lazy>>, &[String]) {
        (self.lazy.as_ref(), &self.layers)
    }

    /// Its layers, bottom first. `None`: some are still at a registry.
    pub fn here(&self) -> Option<Vec<String>> {
        let below = match &self.lazy {
            Some(lazy) => lazy.here()?,
            None => &[],
        };
        Some([below, &self.layers].concat())
    }

    /// The files of a context come first: a layer that no instruction made.
    pub fn start_from(&mut self, context: ContextLayer) {
        self.layers.push(context.layer);
        self.key = Key::root("context").part(context.digest).finish();
        self.config.history.push(History {
            created: Some(Timestamp::now().to_string()),
            comment: Some("buildkit.exporter.image.v0".to_owned()),
            ..History::default()
        });
    }

    /// The next stage starts from this one.
    pub fn derive(&self) -> Self {
        Self { has_own_cmd: false, ..self.clone() }
    }

    /// Gives programs a PATH where the base has none.
    pub fn set_default_path(&mut self) {
        if self.config.config.env_get("PATH").is_none() {
            self.config.config.env_set("PATH", DEFAULT_PATH);
        }
    }

    /// Adds a layer and its history entry.
    pub fn push_layer(&mut self, layer: String, key: Blake3, created: Timestamp, created_by: String) {
        self.layers.push(layer);
        self.key = key;
        self.push_history(created_by, Some(created));
    }

    /// Adds a history entry without a layer.
    pub fn push_meta(&mut self, created_by: String) {
        self.push_history(created_by, None);
    }

    fn push_history(&mut self, created_by: String, made_layer: Option<Timestamp>) {
        self.config.history.push(History {
            created: made_layer.map(|at| at.to_string()),
            created_by: Some(created_by),
            comment: Some("buildkit.dockerfile.v0".to_owned()),
            empty_layer: made_layer.is_none(),
            ..History::default()
        });
    }

    /// The config of the finished image, for `platform` where one was asked for. An entry without a layer has the time of
    /// the layer before it, or of the first one made here where only the base's come before; no time is later than `epoch`.
    pub fn finish(
        &self,
        labels: &BTreeMap<String, String>,
        platform: Option<&Platform>,
        epoch: Option<Timestamp>,
    ) -> ImageConfig {
        let mut config = self.config.clone();
        config.config.labels.extend(labels.clone());
        if let Some(platform) = platform {
            let is_same = (&platform.os, &platform.architecture) == (&config.os, &config.architecture);
            if !is_same || platform.variant.is_some() {
                config.variant.clone_from(&platform.variant);
            }
            config.os.clone_from(&platform.os);
            config.architecture.clone_from(&platform.architecture);
        }
        fill_times(&mut config.history);
        if let Some(epoch) = epoch {
            for entry in &mut config.history[self.base_history..] {
                let is_earlier = |at: &String| at.parse::<Timestamp>().is_ok_and(|at| at <= epoch);
                if !entry.created.as_ref().is_some_and(is_earlier) {
                    entry.created = Some(epoch.to_string());
                }
            }
        }
        config.created = config.history.iter().rev().find_map(|entry| entry.created.clone());
        config
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

/// Gives entries without a time the one of what came before them. Where that is only what a base has, it is the time of
/// what comes next.
fn fill_times(history: &mut [History]) {
    let first_gap = history.iter().position(|entry| entry.created.is_none()).unwrap_or(history.len());
    let later = history[first_gap..].iter().find_map(|entry| entry.created.clone());
    let earlier = history[..first_gap].iter().rev().find_map(|entry| entry.created.clone());
    let mut time = later.or(earlier);
    for entry in &mut history[first_gap..] {
        match &entry.created {
            Some(at) => time = Some(at.clone()),
            None => entry.created.clone_from(&time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(before: &[Option<&str>]) -> Vec<String> {
        let entry = |at: &Option<&str>| History { created: at.map(str::to_owned), ..History::default() };
        let mut history: Vec<History> = before.iter().map(entry).collect();
        fill_times(&mut history);
        history.into_iter().map(|entry| entry.created.unwrap_or_default()).collect()
    }

    #[test]
    fn entries_without_a_layer_have_the_time_of_a_layer() {
        assert_eq!(
            times(&[Some("base"), None, Some("one"), None, Some("two"), None]),
            ["base", "one", "one", "one", "two", "two"]
        );
        assert_eq!(times(&[Some("base"), None]), ["base", "base"]);
        assert_eq!(times(&[None]), [""]);
    }

    #[test]
    fn no_time_is_later_than_the_epoch_and_those_of_the_base_stay() {
        let mut draft = Draft::scratch(&Platform::host());
        let at = |second| Timestamp::from_second(second).expect("a time");
        draft.push_layer("base".to_owned(), [0; 32], at(900), "base".to_owned());
        draft.base_history = 1;
        draft.push_meta("ENV".to_owned());
        draft.push_layer("new".to_owned(), [1; 32], at(1000), "RUN".to_owned());

        let config = draft.finish(&BTreeMap::new(), None, Some(at(50)));

        let times: Vec<_> = config.history.iter().map(|entry| entry.created.clone().expect("a time")).collect();
        assert_eq!(times, [at(900).to_string(), at(50).to_string(), at(50).to_string()]);
        assert_eq!(config.created, Some(at(50).to_string()));
    }
}
