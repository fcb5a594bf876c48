//! What can be done with what is selected, in Docker's words.

use super::item::{Facts, Item, Tab};
use crate::command::ps;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `ctl start`
    Start,
    /// `ctl stop`
    Stop,
    /// `ctl restart`
    Restart,
    /// `ctl pause`
    Pause,
    /// `ctl unpause`
    Unpause,
    /// `ctl kill`
    Kill,
    /// `ctl rm`, `ctl rmi`, `ctl volume rm`, `ctl network rm`: as the kind of thing says
    Remove,
    /// `ctl container prune`, `ctl image prune`, `ctl volume prune`, `ctl network prune`
    Prune,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub verb: Verb,
    /// What kind of thing it is done with.
    pub tab: Tab,
    /// Id, reference or name, for the service. Empty: of all of the kind.
    pub target: String,
    /// What people call it.
    pub name: String,
    /// Also where it runs.
    pub force: bool,
}

impl Action {
    /// What is done with a selected thing.
    pub fn with(verb: Verb, tab: Tab, item: &Item) -> Self {
        let force = matches!(&item.facts, Facts::Container(container) if ps::is_up(container));
        Self { verb, tab, target: item.target.clone(), name: item.name.clone(), force }
    }

    /// What removes all that nothing uses.
    pub fn prune(tab: Tab) -> Self {
        Self { verb: Verb::Prune, tab, target: String::new(), name: String::new(), force: false }
    }

    /// What is said while it is done.
    pub fn doing(&self) -> String {
        let verb = match self.verb {
            Verb::Start => "Starting",
            Verb::Stop => "Stopping",
            Verb::Restart => "Restarting",
            Verb::Pause => "Pausing",
            Verb::Unpause => "Unpausing",
            Verb::Kill => "Killing",
            Verb::Remove => "Removing",
            Verb::Prune => return format!("Removing {} that nothing uses…", self.tab.word()),
        };
        format!("{verb} {}…", self.name)
    }

    /// What is asked before; none: it is done at once.
    pub fn question(&self, item: Option<&Item>) -> Option<Vec<String>> {
        let lines = match (self.verb, self.tab) {
            (Verb::Kill, _) => vec![
                format!("Kill container {}?", self.name),
                "Its processes end at once, without a chance to tidy up.".to_owned(),
            ],
            (Verb::Remove, Tab::Containers) => {
                let runs = if self.force { "It runs: it is killed first." } else { "It does not run." };
                vec![
                    format!("Remove container {}?", self.name),
                    runs.to_owned(),
                    "What it wrote and its log go; volumes stay.".to_owned(),
                ]
            }
            (Verb::Remove, Tab::Images) => {
                let others = item.map_or(0, |item| match &item.facts {
                    Facts::Image(image) => image.names.len().saturating_sub(1),
                    _ => 0,
                });
                let goes = match others {
                    0 => "The image goes, and layers that no other image has.".to_owned(),
                    1 => "Only this name goes: the image has another one.".to_owned(),
                    number => format!("Only this name goes: the image has {number} others."),
                };
                vec![format!("Remove image {}?", self.name), goes]
            }
            (Verb::Remove, Tab::Volumes) => {
                vec![format!("Remove volume {}?", self.name), "All files in it go.".to_owned()]
            }
            (Verb::Remove, Tab::Networks) => vec![format!("Remove network {}?", self.name)],
            (Verb::Prune, Tab::Containers) => vec![
                "Remove all stopped containers?".to_owned(),
                "What they wrote and their logs go; volumes stay.".to_owned(),
            ],
            (Verb::Prune, Tab::Images) => {
                vec!["Remove all images without a name?".to_owned(), "Those that containers use stay.".to_owned()]
            }
            (Verb::Prune, Tab::Volumes) => {
                vec![
                    "Remove all anonymous volumes that no container uses?".to_owned(),
                    "All files in them go.".to_owned(),
                ]
            }
            (Verb::Prune, Tab::Networks) => vec!["Remove all networks that no container uses?".to_owned()],
            _ => return None,
        };
        Some(lines)
    }
}

/// What the view cannot do itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A call to a service.
    Do(Action),
    /// A shell in a container, by id and name.
    Shell(String, String),
    /// The files of an image, by its reference.
    Explore(String),
}
