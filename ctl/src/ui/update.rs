//! What comes from the services to the view.

use strata_proto::{runtime::v1 as runtime, store::v1 as store};

/// What is listened to; each is lost and found again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The list of containers.
    Containers,
    /// The list of images.
    Images,
    /// The list of volumes.
    Volumes,
    /// The list of networks.
    Networks,
    /// What containers use.
    Stats,
    /// What happens in the runtime.
    RuntimeEvents,
    /// What happens in the store.
    StoreEvents,
}

impl Source {
    /// What is said of it when it is lost.
    pub fn words(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Images => "images",
            Self::Volumes => "volumes",
            Self::Networks => "networks",
            Self::Stats => "stats",
            Self::RuntimeEvents => "events of the runtime",
            Self::StoreEvents => "events of the store",
        }
    }
}

/// Something new.
#[derive(Debug)]
pub enum Update {
    /// All containers.
    Containers(Vec<runtime::Container>),
    /// All images.
    Images(Vec<store::Image>),
    /// All volumes.
    Volumes(Vec<runtime::Volume>),
    /// All networks.
    Networks(Vec<runtime::Network>),
    /// One look at what containers use.
    Stats(Vec<runtime::ContainerStats>),
    /// Something of what the lower pane follows; the number says which following it is of.
    Pane(u64, Content),
    /// An action is done: what came of it.
    Done(String),
    /// An action has failed: why.
    Failed(String),
    /// A source cannot be heard: why. It is tried again.
    Lost(Source, String),
    /// A source that was lost is heard again.
    Back(Source),
}

/// What the lower pane shows.
#[derive(Debug)]
pub enum Content {
    /// A log follows, from its last lines on.
    LogBegins,
    /// More of it.
    Log(Vec<runtime::ReadLogsResponse>),
    /// The container has ended.
    LogEnds,
    /// Lines in place of those before.
    Lines(Vec<String>),
    /// It cannot be had: why.
    Failed(String),
}

/// What the lower pane follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The log of a container in one run of it.
    Log {
        /// Id.
        id: String,
        /// When it was started, seconds and nanoseconds; none: never.
        run: Option<(i64, i32)>,
    },
    /// The processes of a container.
    Processes(String),
    /// What `ctl inspect` says of a container, by its id.
    Container(String),
    /// What `ctl inspect` says of an image, by its id.
    Image(String),
    /// What `ctl inspect` says of a volume, by its name.
    Volume(String),
    /// What `ctl inspect` says of a network, by its name.
    Network(String),
    /// The layers of an image, by its id.
    Layers(String),
}
