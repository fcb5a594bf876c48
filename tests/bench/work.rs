//! What every engine is given: one image, and two build contexts whose Dockerfiles need nothing else, no network either.

use std::{
    fs,
    path::{Path, PathBuf},
};

use strata_tests::Tar;

use crate::{Outcome, archive, contexts, hub::Hub, layout};

/// Steps of the build that runs programs.
pub(crate) const STEPS: usize = 20;
const DIRECTORIES: usize = 20;
const FILES: usize = 50;
/// Bytes of the image that is only removed.
const REMOVED: u64 = 500_000_000;
/// The file that changes, as the container sees it.
pub(crate) const CHANGED: &str = "/app/d07/f07";

/// The image and the contexts.
pub(crate) struct Work {
    dir: PathBuf,
    homes: PathBuf,
    hub: Option<Hub>,
}

impl Work {
    /// Writes them below a directory.
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let work = Self { dir: dir.to_owned(), homes: dir.to_owned(), hub: None };
        Tar::of_guest().write(work.image());
        fs::create_dir_all(work.steps())?;
        fs::write(work.steps().join("Dockerfile"), contexts::run_steps(STEPS))?;
        for directory in 0..DIRECTORIES {
            let path = work.files().join(format!("d{directory:02}"));
            fs::create_dir_all(&path)?;
            for file in 0..FILES {
                fs::write(path.join(format!("f{file:02}")), content(directory * FILES + file))?;
            }
        }
        fs::write(work.files().join("Dockerfile"), "FROM guest\nCOPY . /app\nCMD [\"/guest\", \"noop\"]\n")?;
        Ok(work)
    }

    /// The same for engines whose directories are elsewhere, and with a registry if there is one.
    pub(crate) fn of_images(&self, homes: &Path, hub: Option<Hub>) -> Self {
        Self { dir: self.dir.clone(), homes: homes.to_owned(), hub }
    }

    /// A registry.
    pub(crate) fn hub(&self) -> Option<&Hub> {
        self.hub.as_ref()
    }

    /// A directory for the registry's images.
    pub(crate) fn hub_directory(&self) -> PathBuf {
        self.dir.join("hub")
    }

    /// The image, as a root file system tar.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join("guest.tar")
    }

    /// The context of the 20 RUN steps.
    pub(crate) fn steps(&self) -> PathBuf {
        self.dir.join("steps")
    }

    /// The context of the 1,000 files.
    pub(crate) fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// The context of the 100,000 files.
    pub(crate) fn many(&self) -> PathBuf {
        self.dir.join("many")
    }

    /// The context of the 10,000 files.
    pub(crate) fn ten(&self) -> PathBuf {
        self.dir.join("ten")
    }

    /// The context of the graph.
    pub(crate) fn graph(&self) -> PathBuf {
        self.dir.join("graph")
    }

    /// The context of 500 MB.
    pub(crate) fn large(&self) -> PathBuf {
        self.dir.join("large")
    }

    /// The context of so many steps.
    pub(crate) fn chain(&self, length: usize) -> PathBuf {
        self.dir.join(format!("chain{length}"))
    }

    /// A directory for an engine.
    pub(crate) fn home(&self, name: &str) -> Outcome<PathBuf> {
        let home = self.homes.join(name);
        fs::create_dir_all(&home)?;
        Ok(home)
    }

    /// The archive of a large image.
    pub(crate) fn archive(&self) -> PathBuf {
        self.dir.join("large.tar")
    }

    /// Where an engine saves an image.
    pub(crate) fn saved(&self, engine: &str) -> PathBuf {
        self.homes.join(format!("saved-by-{engine}.tar"))
    }

    /// Writes the archive of a large image that nobody has seen yet: whoever has its layer from before has it easy.
    pub(crate) fn renew_archive(&self, name: &str, round: u32) -> Outcome<()> {
        let base = strata_tests::target().join("images/debian-bookworm.tar");
        if !base.exists() {
            return Err(format!("{} is not there: `make base` makes it", base.display()).into());
        }
        archive::write(&self.archive(), &base, name, &format!("round {round}"))
    }

    /// The same for an image of 500 MB.
    pub(crate) fn renew_larger_archive(&self, name: &str, round: u32) -> Outcome<()> {
        let base = strata_tests::target().join("images/debian-python.tar");
        if !base.exists() {
            return Err(format!("{} is not there: `make python-base` makes it", base.display()).into());
        }
        let larger = self.dir.join("larger.tar");
        if !larger.exists() {
            layout::grown(&base, &larger, REMOVED)?;
        }
        archive::write(&self.archive(), &larger, name, &format!("round {round}"))
    }

    /// Gives one file a content that it never had; returns it.
    pub(crate) fn change(&self, round: u32) -> Outcome<String> {
        let text = format!("round {round}\n{}", String::from_utf8_lossy(&content(5000 + round as usize)));
        let inside = CHANGED.strip_prefix("/app/").ok_or("it lies below /app")?;
        fs::write(self.files().join(inside), &text)?;
        Ok(text)
    }
}

/// One to five KiB of text, different for each file.
pub(crate) fn content(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut text = vec![];
    while text.len() < 1024 + number % 5 * 1024 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend(format!("{state:016x}\n").bytes());
    }
    text
}
