//! Where images are pulled from and pushed to: Debian's `docker-registry`, and new images for it in each round.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use strata_tests::DockerRegistry;

use crate::{
    Outcome,
    layout::{self, Layers},
    room,
};

/// Layers of the image that has many.
const MANY: u64 = 10;

/// The registry, and what its images are made of.
pub(crate) struct Hub {
    directory: PathBuf,
    registry: DockerRegistry,
    one: Layers,
    many: Layers,
    double: Layers,
}

impl Hub {
    /// Starts it, and compresses the layers.
    pub(crate) fn start(directory: &Path) -> Outcome<Self> {
        let base = strata_tests::target().join("images/debian-python.tar");
        if !base.exists() {
            return Err(format!("{} is not there: `make python-base` makes it", base.display()).into());
        }
        eprintln!("compressing layers");
        let double = directory.join("double.tar");
        fs::create_dir_all(directory)?;
        layout::double(&base, &double)?;
        let hub = Self {
            directory: directory.to_owned(),
            registry: DockerRegistry::open(),
            one: Layers::split(&base, 1, &directory.join("one"))?,
            many: Layers::split(&base, MANY, &directory.join("many"))?,
            double: Layers::split(&double, 1, &directory.join("double"))?,
        };
        fs::remove_file(double)?;
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

    /// What is pushed.
    pub(crate) fn pushed(&self) -> String {
        self.registry.image("bench/pushed:latest")
    }

    /// Replaces both by images that nobody has seen.
    pub(crate) fn renew(&self, mark: &str) -> Outcome<()> {
        for (layers, name) in [(&self.one, self.one()), (&self.many, self.many())] {
            let layout = self.fresh("layout")?;
            layers.write(&layout, "new", mark)?;
            let mut copy = Command::new("skopeo");
            copy.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
            copy.arg(format!("oci:{}:new", layout.display())).arg(format!("docker://{name}"));
            room::finish(copy)?;
        }
        Ok(())
    }

    /// The compressed layers of the image of one, or of many, as they are in the registry but for their marks.
    pub(crate) fn layers(&self, of: &str) -> Vec<PathBuf> {
        let number = if of == self.many() { MANY } else { 1 };
        let name = if of == self.many() { "many" } else { "one" };
        (1..=number).map(|index| self.directory.join(name).join(format!("layer-{index}.tar.gz"))).collect()
    }

    /// Writes an archive with a larger image that nobody has seen, in one compressed layer.
    pub(crate) fn write_double(&self, to: &Path, name: &str, mark: &str) -> Outcome<()> {
        let layout = self.fresh("layout")?;
        self.double.write(&layout, name, mark)?;
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
