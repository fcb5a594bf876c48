//! Documents of the runtime spec as typed values, with what the types lack put right: names that they spell
//! otherwise or do not know. The ordinary document is read once; only one that is refused is looked at again.

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Error, Value};

use crate::capabilities;

/// The crate's names of scheduler flags that differ from the specification's.
const SCHEDULER_FLAGS: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// Reads `config.json`; returns warnings beside it.
pub fn spec(bytes: &[u8]) -> Result<(Spec, Vec<String>), Error> {
    read(bytes, |document| document.get_mut("process"))
}

/// Reads the process of `exec --process`; returns warnings beside it.
pub fn process(bytes: &[u8]) -> Result<(Process, Vec<String>), Error> {
    read(bytes, |document| Some(document))
}

fn read<T: DeserializeOwned>(
    bytes: &[u8],
    process: impl FnOnce(&mut Value) -> Option<&mut Value>,
) -> Result<(T, Vec<String>), Error> {
    let error = match serde_json::from_slice(bytes) {
        Ok(document) => return Ok((document, Vec::new())),
        Err(error) => error,
    };
    // What is still refused is reported as it was first: with line and column.
    let Ok(mut document) = serde_json::from_slice::<Value>(bytes) else { return Err(error) };
    let warnings = process(&mut document).map(put_right).unwrap_or_default();
    // As text again: the types are compiled for one kind of reader.
    serde_json::from_slice(document.to_string().as_bytes()).map(|document| (document, warnings)).map_err(|_| error)
}

/// Renames what the types spell otherwise, and takes out capabilities that no kernel has.
fn put_right(process: &mut Value) -> Vec<String> {
    if let Some(flags) = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut) {
        for flag in flags {
            if let Some((_, name)) = SCHEDULER_FLAGS.iter().find(|(name, _)| *name == flag) {
                *flag = Value::from(*name);
            }
        }
    }
    let mut warnings = Vec::new();
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for (set, names) in sets.into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            let is_known = name.as_str().is_none_or(|name| capabilities::parse(name).is_ok());
            if !is_known {
                warnings.push(format!("process.capabilities.{set}: {name} is no capability and is ignored"));
            }
            is_known
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Capability, LinuxSchedulerFlag};
    use serde_json::json;

    use super::*;

    fn with(process: Value) -> Result<(Process, Vec<String>), Error> {
        let mut document = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}});
        document.as_object_mut().unwrap().extend(process.as_object().unwrap().clone());
        super::process(document.to_string().as_bytes())
    }

    #[test]
    fn unknown_capabilities_are_left_out_with_a_warning() {
        let (process, warnings) = with(json!({"capabilities": {"bounding": ["CAP_CHOWN", "CAP_FUTURE"]}})).unwrap();

        let bounding = process.capabilities().as_ref().unwrap().bounding().clone().unwrap();
        assert_eq!(bounding.into_iter().collect::<Vec<_>>(), [Capability::Chown]);
        assert_eq!(warnings, ["process.capabilities.bounding: \"CAP_FUTURE\" is no capability and is ignored"]);
    }

    #[test]
    fn scheduler_flags_have_the_names_of_the_specification() {
        let flags = ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"];
        let (process, warnings) = with(json!({"scheduler": {"policy": "SCHED_OTHER", "flags": flags}})).unwrap();

        let read = process.scheduler().as_ref().unwrap().flags().clone().unwrap();
        use LinuxSchedulerFlag::*;
        assert_eq!(read, [SchedResetOnFork, SchedFlagDLOverrun, SchedFlagReclaim]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn what_has_no_meaning_is_an_error_with_its_place() {
        let error = with(json!({"rlimits": [{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]})).unwrap_err().to_string();

        assert!(error.contains("RLIMIT_NOPE") && error.contains("line 1"), "{error}");
        assert!(spec(b"{\"process\": {\"capa").is_err());
    }
}
