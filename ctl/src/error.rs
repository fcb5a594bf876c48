//! Failures as people see them: one sentence, what helps, and the exit code that Docker users expect.

use strata_rpc::fault;
use tonic::Code;

use crate::render;

/// Exit code of usage errors and of Strata's own failures in `run`.
pub const STRATA_FAILED: u8 = 125;

/// The reason where a service does not have the method that was called: it is of another version.
pub const NO_METHOD: &str = "FAULT_NO_METHOD";

/// A failed command.
#[derive(Debug)]
pub struct Error {
    /// One sentence.
    pub message: String,
    /// The Dockerfile line with a caret. Empty: none.
    pub excerpt: String,
    /// What to do next, one line each.
    pub hints: Vec<String>,
    /// Exit code of `ctl`.
    pub code: u8,
    /// Reason of the service that refused. Empty: none.
    pub reason: String,
    /// Kind and name of what is missing or in the way: "container", "web".
    pub resource: Option<Box<(String, String)>>,
}

/// Result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        let (excerpt, hints, reason) = (String::new(), Vec::new(), String::new());
        Self { message: message.into(), excerpt, hints, code: 1, reason, resource: None }
    }

    /// An end that needs no words.
    pub fn silent(code: u8) -> Self {
        Self::new("").with_code(code)
    }

    /// A mistake in how the command was called.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: STRATA_FAILED, ..Self::new(message) }
    }

    /// An error with its causes, on one line.
    pub fn of(error: &dyn std::error::Error) -> Self {
        Self::new(said_once(&fault::chain(error)))
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds what to do next, before all else.
    pub fn hint_first(mut self, hint: impl Into<String>) -> Self {
        self.hints.insert(0, hint.into());
        self
    }

    /// Kind and name of what is not there, when that is what the error says.
    pub fn missing(&self) -> Option<(&str, &str)> {
        let (kind, name) = self.resource.as_deref()?;
        self.reason.ends_with("_NOT_FOUND").then_some((kind, name))
    }

    /// The image that it is about. Empty: none, or not said.
    pub fn image(&self) -> &str {
        self.resource.as_deref().filter(|(kind, _)| kind == "image").map_or("", |(_, name)| name)
    }

    /// Sets the exit code.
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// In `run` and `exec`: what is Strata's own fault is 125, what the container's start says is kept.
    pub fn in_run(self) -> Self {
        if self.code == 1 { self.with_code(STRATA_FAILED) } else { self }
    }

    /// Prints it to standard error.
    pub fn print(&self) {
        let text = if self.excerpt.is_empty() { &self.message } else { &self.excerpt };
        if !text.is_empty() {
            render::note(format!("ctl: {text}"));
        }
        for hint in &self.hints {
            render::note(format!("hint: {hint}"));
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let mut reason = fault::reason_of(&status).unwrap_or_default();
        if status.code() == Code::Unimplemented && reason.is_empty() {
            NO_METHOD.clone_into(&mut reason);
        }
        let facts = fault::metadata_of(&status);
        let message = match (status.code(), status.message()) {
            (_, text) if fault::is_lost(&status) => format!("the service went away or cannot be reached: {text}"),
            (Code::Unimplemented, text) => format!("not available: {text}"),
            (code, "") => format!("the service failed with {code:?}"),
            (_, text) => text.to_owned(),
        };
        // People know the flag of a limit.
        let message = match facts.get("field") {
            Some(field) => message.replacen(field.as_str(), flag_of(field), 1),
            None => message,
        };
        let mut error = Self::new(said_once(&message));
        error.excerpt = facts.get("excerpt").cloned().unwrap_or_default();
        if let Some(code) = facts.get("exit_code").and_then(|code| code.parse().ok())
            && reason == "FAULT_START_FAILED"
        {
            // 126 and 127 are the program's; Docker's `run` says 125 for the rest, though the container has 128.
            error.code = if matches!(code, 126 | 127) { code } else { STRATA_FAILED };
        }
        // What another service refused has a reason of its own.
        let why = facts.get("reason").filter(|_| reason == "FAULT_PEER_REFUSED").unwrap_or(&reason);
        error.resource = fault::resource_of(&status).map(Box::new);
        let kind = error.resource.as_deref().map_or("", |(kind, _)| kind);
        error.hints.extend(hint(why, kind).map(ToOwned::to_owned));
        error.reason = reason;
        error
    }
}

/// Services name the field that is wrong; people know the flag. What is said twice in a row is said once.
fn said_once(message: &str) -> String {
    let mut parts: Vec<&str> = message.split(": ").collect();
    parts.dedup();
    let says_again =
        |pair: &[&str]| pair[0].starts_with("invalid ") && !pair[0].contains('"') && pair[1].starts_with("invalid ");
    while let Some(at) = parts.windows(2).position(says_again) {
        parts.remove(at);
    }
    // Which of the mounts it is shows from what is said about it.
    if parts.len() > 1 && (parts[0].starts_with("spec.mounts[") || parts[0].starts_with("spec.secrets[")) {
        parts.remove(0);
    }
    if let Some(first) = parts.first_mut() {
        *first = flag_of(first);
    }
    parts.join(": ")
}

fn flag_of(field: &str) -> &str {
    match field {
        "limits.blkio_weight" | "spec.limits.blkio_weight" => "--blkio-weight",
        "limits.cpu_period_us" | "spec.limits.cpu_period_us" => "--cpu-period",
        "limits.cpu_quota_us" | "spec.limits.cpu_quota_us" => "--cpu-quota",
        "limits.cpu_shares" | "spec.limits.cpu_shares" => "--cpu-shares",
        "limits.cpuset_cpus" | "spec.limits.cpuset_cpus" => "--cpuset-cpus",
        "limits.cpuset_mems" | "spec.limits.cpuset_mems" => "--cpuset-mems",
        "limits.memory_bytes" | "spec.limits.memory_bytes" => "--memory",
        "limits.memory_reservation_bytes" | "spec.limits.memory_reservation_bytes" => "--memory-reservation",
        "limits.memory_swap_bytes" | "spec.limits.memory_swap_bytes" => "--memory-swap",
        "limits.nano_cpus" | "spec.limits.nano_cpus" => "--cpus",
        "limits.pids" | "spec.limits.pids" => "--pids-limit",
        "cpu_realtime_period_us" | "fixed_limits.cpu_realtime_period_us" => "--cpu-rt-period",
        "cpu_realtime_runtime_us"
        | "fixed_limits.cpu_realtime_runtime_us"
        | "spec.fixed_limits.cpu_realtime_runtime_us" => "--cpu-rt-runtime",
        "restart_policy" | "spec.restart_policy" => "--restart",
        "signal" => "--signal",
        "spec.cap_add" => "--cap-add",
        "spec.cap_drop" => "--cap-drop",
        "spec.cdi_devices" => "--device",
        "spec.exposed_ports" => "--expose",
        "spec.hostname" => "--hostname",
        "spec.name" => "--name",
        "spec.port_bindings" => "--publish",
        "spec.stop_signal" => "--stop-signal",
        "spec.user" => "--user",
        "options" => "--opt",
        "labels" => "--label",
        other => other,
    }
}

fn hint(reason: &str, kind: &str) -> Option<&'static str> {
    match reason {
        "FAULT_IMAGE_NOT_FOUND" => {
            Some("`ctl images` lists what is there, `ctl pull` fetches an image, `ctl build` and `ctl import` make one")
        }
        "FAULT_CONTAINER_NOT_FOUND" => Some("`ctl ps -a` lists all containers"),
        "FAULT_NAME_TAKEN" if kind == "network" => {
            Some("`ctl network rm NAME` frees the name, another name goes as well")
        }
        "FAULT_NAME_TAKEN" if kind == "secret" => {
            Some("`ctl secret create --replace` puts another value in its place, another name goes as well")
        }
        "FAULT_NAME_TAKEN" if kind == "volume" => {
            Some("`ctl volume rm NAME` frees the name, another name goes as well")
        }
        "FAULT_NAME_TAKEN" => Some("`ctl rm NAME` frees the name, `--name` chooses another"),
        "FAULT_NETWORK_NOT_FOUND" => Some("`ctl network ls` lists networks, `ctl network create` makes one"),
        "FAULT_NETWORK_IN_USE" => Some("`ctl network disconnect` and `ctl rm` free a network"),
        "FAULT_RUNNING" => Some("`ctl stop` it first, or use `ctl rm -f`"),
        "FAULT_NOT_RUNNING" => Some("`ctl start` starts it"),
        "FAULT_PAUSED" => Some("`ctl unpause` lets it go on"),
        "FAULT_IMAGE_IN_USE" => Some("`ctl rmi -f` removes it all the same"),
        "FAULT_SECRET_NOT_FOUND" => Some("`ctl secret ls` lists secrets, `ctl secret create` makes one"),
        "FAULT_SECRET_IN_USE" => Some("`ctl rm` removes containers; those that do not run have their secrets too"),
        "FAULT_SECRET_UNFIT" => Some("as a file it can be anything: `--secret NAME`"),
        "FAULT_VOLUME_NOT_FOUND" => Some("`ctl volume ls` lists volumes"),
        "FAULT_VOLUME_IN_USE" => Some("`ctl rm` removes containers; those that do not run use their volumes too"),
        "FAULT_VOLUME_NOT_EMPTY" => Some("`ctl volume import --replace` puts the archive in place of what is there"),
        "FAULT_DISK_FULL" => Some("`ctl system prune` and `ctl builder prune` free what nothing uses"),
        "FAULT_CORRUPT" | "FAULT_DIGEST_MISMATCH" => Some("`ctl system verify` names everything that is damaged"),
        "FAULT_STEP_FAILED" => Some("the output of the step is above"),
        _ => None,
    }
}

impl From<strata_rpc::endpoint::Error> for Error {
    fn from(error: strata_rpc::endpoint::Error) -> Self {
        Self::of(&error)
    }
}

impl From<strata_rpc::spawn::Error> for Error {
    fn from(error: strata_rpc::spawn::Error) -> Self {
        let message = Self::of(&error);
        match message.message.contains("cannot find the service binary") {
            true => {
                message.hint("the services' binaries are beside ctl, or in the directory that STRATA_BIN_DIR names")
            }
            false => message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_things_once_and_name_flags() {
        for (message, expected) in [
            (r#"invalid reference: invalid reference "X": lower case"#, r#"invalid reference "X": lower case"#),
            (r#"no such thing: invalid target: invalid name "X""#, r#"no such thing: invalid name "X""#),
            ("cannot connect to /s: cannot connect to /s: denied", "cannot connect to /s: denied"),
            (r#"spec.cap_add: unknown capability "FOO""#, r#"--cap-add: unknown capability "FOO""#),
            ("invalid target: there is no stage", "invalid target: there is no stage"),
            ("spec.mounts[3].target: duplicate mount point /x", "duplicate mount point /x"),
        ] {
            assert_eq!(said_once(message), expected);
        }
    }
}
