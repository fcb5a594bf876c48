//! `ctl image`: Docker's group. What has a name of its own at the top is that command.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};

use super::{Build, Command, Explore, Format, ImageCopy, Inspect, InspectKind, Load, Pull, Push, Save, format};

/// `ctl image`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Image {
    /// Build an image from a Dockerfile
    Build(Box<Build>),
    /// Copy an image to the store of another context, file by file: what is there does not move
    Cp(ImageCopy),
    /// Show what each layer of an image added, changed and removed, and what the image wastes
    Explore(Explore),
    /// Show the history of an image
    History(History),
    /// Make an image from a root file system tar
    Import(Import),
    /// Show details of images as JSON
    Inspect(ImageInspect),
    /// Load images from an archive
    Load(Load),
    /// List images
    #[command(alias = "list")]
    Ls(Images),
    /// Remove images that nothing uses
    Prune(ImagePrune),
    /// Fetch an image from its registry
    Pull(Pull),
    /// Send an image to its registry
    Push(Push),
    /// Remove images
    #[command(alias = "remove")]
    Rm(Rmi),
    /// Save images as an archive
    Save(Save),
    /// Give an image a further name
    Tag(Tag),
}

impl Image {
    /// The command at the top that it stands for, where there is one.
    pub fn canonical(self) -> Command {
        match self {
            Self::Build(args) => Command::Build(args),
            Self::History(args) => Command::History(args),
            Self::Import(args) => Command::Import(args),
            Self::Inspect(ImageInspect { format, platform, images }) => {
                let kind = Some(InspectKind::Image);
                Command::Inspect(Inspect { format, size: false, platform, kind, names: images })
            }
            Self::Load(args) => Command::Load(args),
            Self::Ls(args) => Command::Images(args),
            Self::Pull(args) => Command::Pull(args),
            Self::Push(args) => Command::Push(args),
            Self::Rm(args) => Command::Rmi(args),
            Self::Save(args) => Command::Save(args),
            Self::Tag(args) => Command::Tag(args),
            Self::Cp(_) | Self::Explore(_) | Self::Prune(_) => Command::Image(self),
        }
    }
}

// `ctl image inspect`
#[derive(Debug, Args)]
pub struct ImageInspect {
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Platform, where an image has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// The images
    #[arg(required = true)]
    pub images: Vec<String>,
}

// `ctl image prune`
#[derive(Debug, Args)]
pub struct ImagePrune {
    /// All images that no container uses, not only those without a name
    #[arg(short, long)]
    pub all: bool,
    /// Only what is so: "until=24h", "label=env=test", "label!=keep"
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

// `ctl images`
#[derive(Debug, Args)]
pub struct Images {
    /// Only images of this repository or name; "*" and "?" stand for any letters
    pub reference: Option<String>,
    /// Taken as Docker takes it, and of no effect: nothing stands between images
    #[arg(short, long, hide = true)]
    pub all: bool,
    /// Only these: "reference=PATTERN", "dangling=true", "label=KEY[=VALUE]", "before=IMAGE", "since=IMAGE",
    /// "until=24h"
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Print image ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Show ids in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Show the layers of each image, which images share them, and what is only its own
    #[arg(long, conflicts_with_all = ["quiet", "digests"])]
    pub tree: bool,
    /// Format of the output: "table", "json", "raw", or a template for each, in columns behind "table"
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::of_images)]
    pub format: Format,
}

// `ctl import`
#[derive(Debug, Args)]
pub struct Import {
    /// The tar (plain, gzip, bzip2, xz or zstd); "-" is standard input
    pub file: PathBuf,
    /// Name of the image
    pub name: Option<String>,
    /// Instruction for its config: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or
    /// WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Comment for the history
    #[arg(short, long)]
    pub message: Option<String>,
    /// What it is for, "linux/arm64" [default: this host]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
}

// `ctl history`
#[derive(Debug, Args)]
pub struct History {
    /// The image
    pub image: String,
    /// Show everything in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Sizes and times for people; "--human=false": bytes, and RFC 3339
    #[arg(short = 'H', long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", value_name = "true|false")]
    pub human: bool,
    /// Platform, where the image has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print image ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

// `ctl rmi`
#[derive(Debug, Args)]
pub struct Rmi {
    /// Remove images with several names, or that stopped containers use
    #[arg(short, long)]
    pub force: bool,
    /// Taken as Docker takes it, and of no effect: images without a name go by themselves, with no other image
    #[arg(long, hide = true)]
    no_prune: bool,
    /// Remove only what images have for these platforms, several times or with commas; the name and the rest stay
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// The images
    #[arg(required = true)]
    pub images: Vec<String>,
}

// `ctl tag`
#[derive(Debug, Args)]
pub struct Tag {
    /// The image
    pub source: String,
    /// The name to give
    pub target: String,
}
