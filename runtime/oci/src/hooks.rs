//! The hooks of a spec: checked, put in a plan as far as `strata-init` runs them, and those after start and delete kept
//! beside the container's state, because a later change of config.json does not count.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{Hook as SpecHook, Hooks as SpecHooks, Spec};
use serde::{Deserialize, Serialize};
use serde_json::json;
use strata_init::{
    Failure,
    plan::{self, Root},
    run_hooks, state_document,
};

use crate::{
    default_spec::OCI_VERSION,
    plan::{Error, PlanInputs},
};

/// Names of all kinds of hooks, in the order of a container's life.
pub const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The file beside the state that holds what runs later.
const FILE: &str = "hooks.json";

/// What hooks are told of their container besides what its spec says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub id: String,
    /// The absolute path of its bundle.
    pub bundle: PathBuf,
    /// Where hooks find a root that is no directory of the host: the place is in the container's mounts alone.
    pub root_at: Option<PathBuf>,
}

/// The hooks that run once the container has started or is gone. Empty lists cost no file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Later {
    /// The state document without status and process id.
    state: String,
    poststart: Vec<SpecHook>,
    poststop: Vec<SpecHook>,
}

/// Returns the hooks that `strata-init` runs; all six kinds are checked.
pub(crate) fn plan(spec: &Spec, inputs: &PlanInputs) -> Result<plan::Hooks, Error> {
    let kinds = spec.hooks().as_ref().map(kinds).unwrap_or_default();
    if kinds.iter().all(|hooks| hooks.is_empty()) {
        return Ok(plan::Hooks::default());
    }
    let Some(container) = &inputs.container else { return Err(Error::Unsupported { field: "hooks".to_owned() }) };
    let mut checked = Vec::with_capacity(KINDS.len());
    for (kind, hooks) in KINDS.iter().zip(kinds) {
        checked.push(check(kind, hooks)?);
    }
    let mut checked = checked.into_iter();
    let mut next = || checked.next().unwrap_or_default();
    let hooks = plan::Hooks {
        state: state(spec, container),
        root_at: None,
        prestart: next(),
        create_runtime: next(),
        create_container: next(),
        start_container: next(),
    };
    let before_root = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container];
    let root_at = match &inputs.root {
        _ if before_root.iter().all(|hooks| hooks.is_empty()) => None,
        Root::Bind { path } => Some(path.clone()),
        _ => container.root_at.clone(),
    };
    Ok(plan::Hooks { root_at, ..hooks })
}

impl Later {
    /// Returns what of a spec, which gave a plan, runs later.
    pub fn of(spec: &Spec, container: &Container) -> Self {
        let Some(hooks) = spec.hooks() else { return Self::default() };
        let [.., poststart, poststop] = kinds(hooks);
        if poststart.is_empty() && poststop.is_empty() {
            return Self::default();
        }
        Self { state: state(spec, container), poststart: poststart.to_vec(), poststop: poststop.to_vec() }
    }

    /// Writes it into the container's directory, if there is any.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        if self.poststart.is_empty() && self.poststop.is_empty() {
            return Ok(());
        }
        fs::write(directory.join(FILE), serde_json::to_vec(self)?)
    }

    /// Reads it from the container's directory.
    pub fn load(directory: &Path) -> io::Result<Self> {
        match fs::read(directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            bytes => Ok(serde_json::from_slice(&bytes?)?),
        }
    }

    /// Reads it and removes the file: what runs at the end of a container does so once.
    pub fn take(directory: &Path) -> io::Result<Self> {
        let later = Self::load(directory)?;
        match fs::remove_file(directory.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(later),
        }
    }

    /// Whether anything runs when it has started.
    pub fn has_poststart(&self) -> bool {
        !self.poststart.is_empty()
    }

    /// Runs the hooks of a container whose process `pid` was executed. On failure the container is to be destroyed.
    pub fn run_poststart(&self, pid: u32) -> Result<(), Failure> {
        let field = "hooks.poststart";
        run_hooks(field, &planned(&self.poststart), &state_document(&self.state, "running", pid))
    }

    /// Runs the hooks of a container that is gone; a failure is worth a warning and stops nothing.
    #[must_use]
    pub fn run_poststop(&self) -> Vec<Failure> {
        let state = state_document(&self.state, "stopped", 0);
        let all = planned(&self.poststop);
        // One by one, so that one that fails does not keep the next from running.
        let run = |(index, hook): (usize, &plan::Hook)| {
            let failure = run_hooks("hooks.poststop", std::slice::from_ref(hook), &state).err()?;
            Some(Failure { step: failure.step.replacen("[0]", &format!("[{index}]"), 1), ..failure })
        };
        all.iter().enumerate().filter_map(run).collect()
    }
}

/// Returns the lists in the order of [`KINDS`].
fn kinds(hooks: &SpecHooks) -> [&[SpecHook]; 6] {
    [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .map(|list| list.as_deref().unwrap_or_default())
}

fn state(spec: &Spec, container: &Container) -> String {
    let annotations = spec.annotations().clone().unwrap_or_default();
    let state = json!({
        "ociVersion": OCI_VERSION,
        "id": container.id,
        "bundle": container.bundle,
        "annotations": annotations,
    });
    state.to_string()
}

fn check(kind: &str, hooks: &[SpecHook]) -> Result<Vec<plan::Hook>, Error> {
    for (index, hook) in hooks.iter().enumerate() {
        let invalid = |field: &str, reason: String| {
            Err(Error::Invalid { field: format!("hooks.{kind}[{index}].{field}"), reason })
        };
        let path = hook.path();
        if !path.is_absolute() || path.as_os_str().as_encoded_bytes().contains(&0) {
            return invalid("path", format!("{} is not an absolute path", path.display()));
        }
        if let Some(place) = hook.args().iter().flatten().position(|text| text.contains('\0')) {
            return invalid(&format!("args[{place}]"), "it has a NUL byte".to_owned());
        }
        let is_entry = |text: &String| !text.starts_with('=') && text.contains('=') && !text.contains('\0');
        if let Some((place, text)) = hook.env().iter().flatten().enumerate().find(|(_, text)| !is_entry(text)) {
            return invalid(&format!("env[{place}]"), format!("{text:?} is not of the form NAME=value"));
        }
        if hook.timeout().is_some_and(|seconds| !(1..=i64::from(u32::MAX)).contains(&seconds)) {
            return invalid("timeout", "it is not a number of seconds greater than zero".to_owned());
        }
    }
    Ok(planned(hooks))
}

fn planned(hooks: &[SpecHook]) -> Vec<plan::Hook> {
    let planned = |hook: &SpecHook| plan::Hook {
        path: hook.path().clone(),
        args: hook.args().iter().flatten().map(Into::into).collect(),
        env: hook.env().iter().flatten().map(Into::into).collect(),
        timeout_seconds: hook.timeout().and_then(|seconds| u32::try_from(seconds).ok()),
    };
    hooks.iter().map(planned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn spec(hooks: &Value) -> Spec {
        let spec = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0}},
            "linux": {"namespaces": [{"type": "mount"}]},
            "annotations": {"a": "\"b\""},
            "hooks": hooks,
        });
        serde_json::from_value(spec).unwrap()
    }

    fn inputs() -> PlanInputs {
        let container = Container { id: "x".to_owned(), bundle: "/b".into(), root_at: None };
        PlanInputs {
            container: Some(container),
            root: Root::Bind { path: "/b/rootfs".into() },
            ..PlanInputs::default()
        }
    }

    fn planned_hooks(hooks: &Value) -> Result<plan::Hooks, String> {
        crate::plan::plan(&spec(hooks), &inputs()).map(|plan| plan.hooks).map_err(|error| error.to_string())
    }

    #[test]
    fn a_hook_that_cannot_be_run_is_refused_by_field_whatever_its_kind() {
        for kind in KINDS {
            for (hook, error) in [
                (json!({"path": "bin/x"}), "[1].path: bin/x is not an absolute path"),
                (json!({"path": ""}), "[1].path:  is not an absolute path"),
                (json!({"path": "/x\0"}), "[1].path: /x\0 is not an absolute path"),
                (json!({"path": "/x", "args": ["a", "\0"]}), "[1].args[1]: it has a NUL byte"),
                (json!({"path": "/x", "env": ["A=", "B"]}), "[1].env[1]: \"B\" is not of the form NAME=value"),
                (json!({"path": "/x", "env": ["=x"]}), "[1].env[0]: \"=x\" is not of the form NAME=value"),
                (json!({"path": "/x", "timeout": 0}), "[1].timeout: it is not a number of seconds greater than zero"),
                (json!({"path": "/x", "timeout": -1}), "[1].timeout: it is not a number of seconds greater than zero"),
            ] {
                let hooks = json!({kind: [{"path": "/fine"}, hook]});

                assert_eq!(planned_hooks(&hooks).unwrap_err(), format!("hooks.{kind}{error}"));
            }
        }
    }

    #[test]
    fn each_kind_is_run_at_its_own_time() {
        let hooks: serde_json::Map<String, Value> =
            KINDS.iter().map(|kind| ((*kind).to_owned(), json!([{"path": format!("/{kind}")}]))).collect();
        let hooks = Value::Object(hooks);

        let planned = planned_hooks(&hooks).unwrap();
        let later = Later::of(&spec(&hooks), &inputs().container.unwrap());

        let paths = |hooks: &[plan::Hook]| hooks.iter().map(|hook| hook.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&planned.prestart), [Path::new("/prestart")]);
        assert_eq!(paths(&planned.create_runtime), [Path::new("/createRuntime")]);
        assert_eq!(paths(&planned.create_container), [Path::new("/createContainer")]);
        assert_eq!(paths(&planned.start_container), [Path::new("/startContainer")]);
        assert_eq!(later.poststart[0].path(), Path::new("/poststart"));
        assert_eq!(later.poststop[0].path(), Path::new("/poststop"));
        let state: Value = serde_json::from_str(&state_document(&planned.state, "creating", 5)).unwrap();
        let expected = json!({"ociVersion": OCI_VERSION, "id": "x", "status": "creating", "pid": 5, "bundle": "/b",
            "annotations": {"a": "\"b\""}});
        assert_eq!(state, expected);
    }

    #[test]
    fn the_root_is_put_where_the_bundle_has_it_only_for_hooks_that_run_before_it_is_entered() {
        for kind in KINDS {
            let planned = planned_hooks(&json!({kind: [{"path": "/x"}]})).unwrap();

            let expected = KINDS[..3].contains(&kind).then(|| PathBuf::from("/b/rootfs"));
            assert_eq!(planned.root_at, expected, "{kind}");
        }
        assert_eq!(planned_hooks(&json!({"prestart": []})).unwrap(), plan::Hooks::default());
    }

    #[test]
    fn a_root_of_layers_is_put_where_the_caller_says() {
        for (kind, expected) in [("createContainer", Some("/b/rootfs".into())), ("poststart", None)] {
            let container = Container { root_at: Some("/b/rootfs".into()), ..Container::default() };
            let inputs = PlanInputs { container: Some(container), root: Root::default(), ..PlanInputs::default() };

            let planned = plan(&spec(&json!({kind: [{"path": "/x"}]})), &inputs).unwrap();

            assert_eq!(planned.root_at, expected, "{kind}");
        }
    }

    #[test]
    fn what_runs_later_survives_in_the_containers_directory() {
        let directory = tempfile::tempdir().unwrap();
        let hooks = json!({"poststop": [{"path": "/x", "args": ["x"], "env": ["A=1"], "timeout": 3}]});
        let later = Later::of(&spec(&hooks), &inputs().container.unwrap());
        assert_eq!(Later::load(directory.path()).unwrap(), Later::default());

        Later::default().save(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        later.save(directory.path()).unwrap();

        assert_eq!(Later::load(directory.path()).unwrap(), later);
        assert_eq!(Later::take(directory.path()).unwrap(), later);
        assert_eq!(Later::take(directory.path()).unwrap(), Later::default());
    }

    /// Spec: runtime.md, Lifecycle: a poststop hook that fails does not keep the remaining ones from running
    #[test]
    fn every_poststop_hook_runs_though_others_fail() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let touch = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo > {}", out.display())]});
        let hooks = json!({"poststop": [touch, {"path": "/bin/false"}, {"path": "/nonexistent"}]});

        let failures = Later::of(&spec(&hooks), &inputs().container.unwrap()).run_poststop();

        let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert_eq!(failures[0], "cannot run hooks.poststop[1] /bin/false: it ended with status 1");
        assert!(failures[1].starts_with("cannot run hooks.poststop[2] /nonexistent: "), "{failures:?}");
        assert!(out.exists());
    }
}
