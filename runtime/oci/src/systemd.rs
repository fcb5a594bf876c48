//! systemd as the maker of cgroups: a scope is started, changed and stopped by messages of D-Bus. A client of our own
//! that knows these few: the libraries for all of D-Bus (zbus, rustbus) bring executors, threads or procedural macros
//! and more code than the rest of this engine. `wire` has the bytes, `bus` the connection, `name` the names of units,
//! `annotation` what a spec asks of a unit.

use std::io;

use serde::{Deserialize, Serialize};

mod annotation;
mod bus;
mod name;
mod wire;

pub use annotation::properties as asked_properties;
pub use name::Place;
pub use wire::Value;

use bus::Bus;
use wire::{Reader, Writer};

/// Whose systemd it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// The host's.
    System,
    /// That of the user who calls.
    User,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if *self == Self::System { "systemd" } else { "the user's systemd" })
    }
}

/// Why systemd did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is not of the form `slice:prefix:name`.
    #[error("linux.cgroupsPath: {path:?}: {reason}")]
    Name {
        /// As given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An annotation gives no property.
    #[error("annotations.{name}: {reason}")]
    Annotation {
        /// Its key.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers.
    #[error("--systemd-cgroup: {owner} cannot be reached ({tried}){hint}", hint = hint(*.owner))]
    Unreachable {
        /// Whose.
        owner: Owner,
        /// Every address and why not.
        tried: String,
    },
    /// The connection broke.
    #[error("cannot {action} systemd")]
    Io {
        /// The verb.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The other side does not speak D-Bus as we know it.
    #[error("cannot talk to systemd: {reason}")]
    Protocol {
        /// What is wrong.
        reason: &'static str,
    },
    /// systemd said no.
    #[error("systemd refuses {call}: {text} ({name})")]
    Refused {
        /// The method.
        call: String,
        /// The error's name.
        name: String,
        /// Its words.
        text: String,
    },
    /// A job ended badly.
    #[error("systemd could not {verb} {unit}: the job is {result}")]
    Job {
        /// What it was to do.
        verb: &'static str,
        /// The unit.
        unit: String,
        /// As systemd names it: `failed`, `timeout`, `canceled` …
        result: String,
    },
}

fn hint(owner: Owner) -> &'static str {
    match owner {
        Owner::System => "; without systemd, leave out --systemd-cgroup",
        Owner::User => {
            "; a user needs a login or `loginctl enable-linger`, and XDG_RUNTIME_DIR or DBUS_SESSION_BUS_ADDRESS in \
             the environment"
        }
    }
}

impl Error {
    fn is(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.strip_prefix("org.freedesktop.") == Some(expected))
    }
}

/// A property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// As `MemoryMax`.
    pub name: String,
    /// Of the type that systemd expects.
    pub value: Value,
    /// Whether it is left out where this systemd is too old to know it.
    pub is_optional: bool,
}

impl Property {
    /// A property that must be known.
    pub fn required(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value, is_optional: false }
    }

    /// A property that only repeats what is written to the cgroup in any case.
    pub fn optional(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value, is_optional: true }
    }
}

/// A connection to a systemd.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
}

impl Manager {
    /// Connects.
    pub fn connect(owner: Owner) -> Result<Self, Error> {
        Bus::connect(owner).map(|bus| Self { bus })
    }

    /// Returns the cgroup that all of its units are below; empty: the root.
    pub fn control_group(&mut self) -> Result<String, Error> {
        let mut body = Writer::default();
        body.value(&text("org.freedesktop.systemd1.Manager")).value(&text("ControlGroup"));
        let reply = self.bus.call_systemd("org.freedesktop.DBus.Properties", "Get", "ss", body)?;
        let mut reader = Reader::new(&reply.body);
        match (reply.signature.as_str(), reader.signature()?.as_str()) {
            ("v", "s") => Ok(reader.text()?.trim_end_matches('/').to_owned()),
            _ => Err(Error::Protocol { reason: "its cgroup is no text" }),
        }
    }

    /// Starts a transient unit, which must not exist, and waits until it is there.
    pub fn start(&mut self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        let start = |manager: &mut Self, properties: &[&Property]| {
            let mut body = Writer::default();
            body.value(&text(unit)).value(&text("fail"));
            body.named(properties.iter().map(|one| (one.name.as_str(), &one.value)));
            // No auxiliary units.
            body.value(&Value::List("(sa(sv))".to_owned(), Vec::new()));
            manager.bus.call_manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
        };
        let reply = match without_unknown(self, properties, start) {
            // One that failed earlier is still known by its name.
            Err(error) if error.is("systemd1.UnitExists") => {
                self.reset_failed(unit);
                without_unknown(self, properties, start)?
            }
            reply => reply?,
        };
        self.finish("start", unit, &reply.body)
    }

    /// Changes properties until the unit ends.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        if properties.is_empty() {
            return Ok(());
        }
        let set = |manager: &mut Self, properties: &[&Property]| {
            let mut body = Writer::default();
            body.value(&text(unit)).value(&Value::Bool(true));
            body.named(properties.iter().map(|one| (one.name.as_str(), &one.value)));
            manager.bus.call_manager("SetUnitProperties", "sba(sv)", body)
        };
        without_unknown(self, properties, set).map(drop)
    }

    /// Stops a unit and waits until it is gone, which it may be already.
    pub fn stop(&mut self, unit: &str) -> Result<(), Error> {
        let mut body = Writer::default();
        body.value(&text(unit)).value(&text("replace"));
        match self.bus.call_manager("StopUnit", "ss", body) {
            Ok(reply) => self.finish("stop", unit, &reply.body)?,
            Err(error) if error.is("systemd1.NoSuchUnit") => return Ok(()),
            Err(error) => return Err(error),
        }
        self.reset_failed(unit);
        Ok(())
    }

    /// Forgets that a unit failed; of one that did not, there is nothing to forget.
    pub fn reset_failed(&mut self, unit: &str) {
        let mut body = Writer::default();
        body.value(&text(unit));
        let _ = self.bus.call_manager("ResetFailedUnit", "s", body);
    }

    /// Moves a process into a unit: across cgroups that the caller may not write to.
    pub fn attach(&mut self, unit: &str, pid: u32) -> Result<(), Error> {
        let mut body = Writer::default();
        body.value(&text(unit)).value(&text("")).value(&Value::List("u".to_owned(), vec![Value::U32(pid)]));
        self.bus.call_manager("AttachProcessesToUnit", "ssau", body).map(drop)
    }

    fn finish(&mut self, verb: &'static str, unit: &str, reply: &[u8]) -> Result<(), Error> {
        let job = Reader::new(reply).text()?;
        match self.bus.wait_for_job(&job)?.as_str() {
            "done" => Ok(()),
            result => Err(Error::Job { verb, unit: unit.to_owned(), result: result.to_owned() }),
        }
    }
}

/// Calls again without a property that this systemd does not know, as long as it is one that can be left out.
fn without_unknown(
    manager: &mut Manager,
    properties: &[Property],
    call: impl Fn(&mut Manager, &[&Property]) -> Result<wire::Message, Error>,
) -> Result<wire::Message, Error> {
    let mut list: Vec<&Property> = properties.iter().collect();
    loop {
        let error = match call(manager, &list) {
            Err(error) if error.is("DBus.Error.PropertyReadOnly") => error,
            result => return result,
        };
        // "Cannot set property AllowedCPUs, or unknown property."
        let Error::Refused { text, .. } = &error else { return Err(error) };
        let named = |one: &&Property| one.is_optional && text.split([' ', ',']).any(|word| word == one.name);
        match list.iter().position(named) {
            Some(place) => drop(list.remove(place)),
            None => return Err(error),
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[cfg(test)]
mod tests;
