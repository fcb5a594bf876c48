//! Where images are pulled from and pushed to: Debian's `docker-registry`, and new images for it in each round.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use strata_tests::{DockerRegistry, Wire};

use crate::{
    Outcome,
    layout::{self, Layers},
    room,
};

/// Layers of the image that has many.
const MANY: u64 = 10;
/// Bytes of the layer of the large image, not compressed.
const LARGE: u64 = 425_000_000;

/// The registry, and what its images are made of.
pub(crate) struct Hub {
    directory: PathBuf,
    registry: DockerRegistry,
    /// Counts what is pulled over it.
    wire: Wire,
    one: Layers,
    many: Layers,
    large: Layers,
}

impl Hub {
    /// Starts it, and compresses the layers.
    pub(crate) fn start(directory: &Path) -> Outcome<Self> {
        let base = strata_tests::target().join("images/debian-python.tar");
        if !base.exists() {
            return Err(format!("{} is not there: `make python-base` makes it", base.display()).into());
        }
        eprintln!("compressing layers");
        let large = directory.join("large.tar");
        fs::create_dir_all(directory)?;
        layout::grown(&base, &large, LARGE)?;
        let registry = DockerRegistry::open();
        let hub = Self {
            directory: directory.to_owned(),
            wire: registry.wire(),
            registry,
            one: Layers::split(&base, 1, &directory.join("one"))?,
            many: Layers::split(&base, MANY, &directory.join("many"))?,
            large: Layers::split(&large, 1, &directory.join("large"))?,
        };
        fs::remove_file(large)?;
        Ok(hub)
    }

    /// The image of one layer.
    pub(crate) fn one(&self) -> String {
        self.registry.image("bench/one:latest")
    }

    /// The image of ten.
    pub(crate) fn many(&self) -> String {
        self.registry.image("bench/many:latest")
    }

    /// The large image of one layer.
    pub(crate) fn large(&self) -> String {
        self.registry.image("bench/large:latest")
    }

    /// Two images of ten layers that share nine, over the wire that counts.
    pub(crate) fn shared(&self) -> [String; 2] {
        ["bench/first:latest", "bench/second:latest"].map(|name| self.wire.image(name))
    }

    /// What is pushed.
    pub(crate) fn pushed(&self) -> String {
        self.registry.image("bench/pushed:latest")
    }

    /// Replaces both by images that nobody has seen.
    pub(crate) fn renew(&self, mark: &str) -> Outcome<()> {
        self.replace(&self.one, &self.one(), |_| mark.to_owned())?;
        self.replace(&self.many, &self.many(), |_| mark.to_owned())
    }

    /// Replaces the large one.
    pub(crate) fn renew_large(&self, mark: &str) -> Outcome<()> {
        self.replace(&self.large, &self.large(), |_| mark.to_owned())
    }

    /// Replaces the two that share all layers but the last.
    pub(crate) fn renew_shared(&self, mark: &str) -> Outcome<()> {
        for name in ["first", "second"] {
            let image = self.registry.image(&format!("bench/{name}:latest"));
            let is_last = |index: usize| index as u64 == MANY - 1;
            let own = |index: usize| if is_last(index) { format!("{mark} {name}") } else { mark.to_owned() };
            self.replace(&self.many, &image, own)?;
        }
        Ok(())
    }

    fn replace(&self, layers: &Layers, name: &str, mark: impl Fn(usize) -> String) -> Outcome<()> {
        let layout = self.fresh("layout")?;
        layers.write(&layout, "new", mark)?;
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:new", layout.display())).arg(format!("docker://{name}"));
        room::finish(copy).map(drop)
    }

    /// Counts from now on.
    pub(crate) fn count(&self) {
        self.wire.mend();
    }

    /// What came over the wire since then, in per cent of the compressed layer that is not shared.
    pub(crate) fn counted(&self) -> Outcome<f64> {
        let layer = self.layers(&self.many()).pop().ok_or("there are ten layers")?;
        Ok(self.wire.carried() as f64 * 100.0 / layer.metadata()?.len() as f64)
    }

    /// The compressed layers of the image of one, or of many, as they are in the registry but for their marks.
    pub(crate) fn layers(&self, of: &str) -> Vec<PathBuf> {
        let number = if of == self.many() { MANY } else { 1 };
        let name = if of == self.many() { "many" } else { "one" };
        (1..=number).map(|index| self.directory.join(name).join(format!("layer-{index}.tar.gz"))).collect()
    }

    /// Writes an archive with the large image, which nobody has seen.
    pub(crate) fn write_large(&self, to: &Path, name: &str, mark: &str) -> Outcome<()> {
        let layout = self.fresh("layout")?;
        self.large.write(&layout, name, |_| mark.to_owned())?;
        layout::archive(&layout, to)
    }

    fn fresh(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.directory.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(path)
    }
}
