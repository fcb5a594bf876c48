//! features.md and features-linux.md: what `features` lists a plan takes, and what it does not list a plan refuses.

use std::path::Path;

use serde_json::{Value, json};
use strata_init::plan::Plan;
use strata_oci::{
    config,
    default_spec::Defaults,
    hooks::Container,
    plan::{PlanInputs, plan},
};

/// Hooks of runtime-spec 1.3.
const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Options that features.md and runc name, and that are no file system's own.
const OPTIONS: &str = "async atime bind copy-symlink defaults dev diratime dirsync exec idmap iversion lazytime loud \
    mand noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow \
    private ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime \
    rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow \
    runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable";

/// Actions, operators and flags of config-linux.md, "Seccomp".
const ACTIONS: &str = "SCMP_ACT_KILL SCMP_ACT_KILL_PROCESS SCMP_ACT_KILL_THREAD SCMP_ACT_TRAP SCMP_ACT_ERRNO \
    SCMP_ACT_TRACE SCMP_ACT_ALLOW SCMP_ACT_LOG SCMP_ACT_NOTIFY";
const OPERATORS: &str = "SCMP_CMP_NE SCMP_CMP_LT SCMP_CMP_LE SCMP_CMP_EQ SCMP_CMP_GE SCMP_CMP_GT SCMP_CMP_MASKED_EQ";
const FLAGS: &str = "SECCOMP_FILTER_FLAG_TSYNC SECCOMP_FILTER_FLAG_LOG SECCOMP_FILTER_FLAG_SPEC_ALLOW \
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
const ARCHITECTURES: &str = "SCMP_ARCH_X86 SCMP_ARCH_X86_64 SCMP_ARCH_X32 SCMP_ARCH_ARM SCMP_ARCH_AARCH64 \
    SCMP_ARCH_MIPS SCMP_ARCH_MIPS64 SCMP_ARCH_MIPS64N32 SCMP_ARCH_MIPSEL SCMP_ARCH_MIPSEL64 SCMP_ARCH_MIPSEL64N32 \
    SCMP_ARCH_PPC SCMP_ARCH_PPC64 SCMP_ARCH_PPC64LE SCMP_ARCH_S390 SCMP_ARCH_S390X SCMP_ARCH_PARISC \
    SCMP_ARCH_PARISC64 SCMP_ARCH_RISCV64 SCMP_ARCH_LOONGARCH64 SCMP_ARCH_M68K SCMP_ARCH_SH SCMP_ARCH_SHEB";

fn document() -> Value {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_strata-oci")).arg("features").output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn listed(pointer: &str) -> Vec<String> {
    let document = document();
    let list = document.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("no {pointer}"));
    list.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The plan of a default spec, without the filter, with this change.
fn planned(change: impl FnOnce(&mut Value)) -> Result<Plan, String> {
    let mut spec = serde_json::to_value(Defaults::default().build().unwrap()).unwrap();
    spec["linux"].as_object_mut().unwrap().remove("seccomp");
    change(&mut spec);
    // Groups of resctrl are made before the plan, which names the files to join.
    let resctrl = vec!["/sys/fs/resctrl/c/tasks".into()];
    let inputs = PlanInputs { container: Some(Container::default()), resctrl, ..PlanInputs::default() };
    let spec = config::parse(spec.to_string().as_bytes(), Path::new("/b")).map_err(|error| error.to_string())?;
    plan(&spec, &inputs).map_err(|error| error.to_string())
}

/// Each of `all` gives a plan exactly if `pointer` of the document lists it.
fn check(pointer: &str, all: &[&str], planned: impl Fn(&str) -> Result<Plan, String>) {
    let listed = listed(pointer);
    for name in all {
        let outcome = planned(name).map(|_| ());
        assert_eq!(outcome.is_ok(), listed.iter().any(|one| one == name), "{pointer}: {name}: {outcome:?}");
    }
    for name in &listed {
        assert!(all.contains(&name.as_str()), "{pointer}: {name} is not of the specification");
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Spec: features.md, Hooks: those listed are supported, all others refused
#[test]
fn the_hooks_that_are_listed_are_those_that_are_planned() {
    check("/hooks", &HOOKS, |kind| {
        let planned = planned(|spec| spec["hooks"] = json!({kind: [{"path": "/bin/true"}]}))?;
        // The last two are kept by the command line.
        assert!(HOOKS[4..].contains(&kind) || planned.hooks != strata_init::plan::Hooks::default(), "{kind}");
        Ok(planned)
    });
}

/// Spec: features.md, Mount Options: those listed are recognised
#[test]
fn the_mount_options_that_are_listed_are_those_that_are_planned() {
    let listed = listed("/mountOptions");
    let mapping = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let mount = |kind: &str, option: &str| {
        let mut mount = json!({"destination": "/x", "type": kind, "source": "/tmp", "options": [option]});
        if matches!(option, "idmap" | "ridmap") {
            (mount["uidMappings"], mount["gidMappings"]) = (mapping.clone(), mapping.clone());
        }
        planned(|spec| spec["mounts"].as_array_mut().unwrap().push(mount))
    };
    for option in &listed {
        // Some are for binds only, some for new file systems only.
        let outcome = mount("bind", option).or_else(|_| mount("tmpfs", option));
        assert!(outcome.is_ok(), "{option}: {outcome:?}");
    }
    for option in words(OPTIONS).into_iter().filter(|option| !listed.iter().any(|one| one == option)) {
        assert!(mount("bind", option).is_err(), "{option} is taken and not listed");
    }
}

/// Spec: features-linux.md, Seccomp: actions, operators, architectures and flags that are listed are supported
#[test]
fn what_is_listed_of_seccomp_is_what_is_planned() {
    let base = |change: &dyn Fn(&mut Value)| {
        let mut seccomp = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}],
        });
        change(&mut seccomp);
        planned(|spec| spec["linux"]["seccomp"] = seccomp)
    };
    check("/linux/seccomp/actions", &words(ACTIONS), |action| {
        base(&|seccomp| {
            seccomp["syscalls"][0]["action"] = json!(action);
            if action == "SCMP_ACT_NOTIFY" {
                seccomp["listenerPath"] = json!("/run/listener");
            }
        })
    });
    check("/linux/seccomp/operators", &words(OPERATORS), |operator| {
        base(&|seccomp| seccomp["syscalls"][0]["args"] = json!([{"index": 0, "value": 1, "op": operator}]))
    });
    check("/linux/seccomp/archs", &words(ARCHITECTURES), |architecture| {
        base(&|seccomp| seccomp["architectures"] = json!([architecture]))
    });
    check("/linux/seccomp/knownFlags", &words(FLAGS), |flag| base(&|seccomp| seccomp["flags"] = json!([flag])));
}

/// Spec: features-linux.md, Namespaces: those listed are recognised
#[test]
fn namespaces_and_capabilities_that_are_listed_are_recognised() {
    let all = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
    check("/linux/namespaces", &all, |kind| {
        planned(|spec| {
            let mapping = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            spec["linux"]["namespaces"] = match kind {
                "mount" => json!([{"type": "mount"}]),
                kind => json!([{"type": "mount"}, {"type": kind}]),
            };
            spec["linux"]["sysctl"] = json!({});
            spec.as_object_mut().unwrap().remove("hostname");
            if kind == "user" {
                (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (mapping.clone(), mapping);
            }
        })
    });
    for name in listed("/linux/capabilities") {
        planned(|spec| spec["process"]["capabilities"] = json!({"bounding": [name]})).unwrap();
    }
}

/// Spec: features-linux.md: what is not enabled is refused, by the name of its field
#[test]
fn what_is_not_enabled_is_refused() {
    let document = document();
    let is_enabled = |pointer: &str| match document.pointer(pointer) {
        Some(Value::Bool(enabled)) => *enabled,
        Some(Value::Array(list)) => !list.is_empty(),
        _ => false,
    };
    let mapping = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    for (pointer, field, value) in [
        ("/linux/intelRdt/enabled", "/linux/intelRdt", json!({"closID": "x", "l3CacheSchema": "L3:0=f"})),
        ("/linux/memoryPolicy/modes", "/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"})),
        ("/linux/netDevices/enabled", "/linux/netDevices", json!({"eth9": {}})),
        ("/linux/selinux/enabled", "/process/selinuxLabel", json!("system_u:system_r:x_t:s0")),
        ("/linux/apparmor/enabled", "/process/apparmorProfile", json!("x")),
        (
            "/linux/mountExtensions/idmap/enabled",
            "/mounts",
            json!([{"destination": "/x", "type": "bind", "source": "/tmp", "options": ["rbind"],
                "uidMappings": mapping, "gidMappings": mapping}]),
        ),
    ] {
        let outcome = planned(|spec| {
            let (parent, key) = field.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[key] = value;
        });

        assert_eq!(outcome.is_ok(), is_enabled(pointer), "{pointer}: {:?}", outcome.err());
    }
}

/// Spec: features.md, Specification version: the least and the greatest are accepted
#[test]
fn both_ends_of_the_range_of_versions_are_accepted() {
    let document = document();
    for pointer in ["/ociVersionMin", "/ociVersionMax"] {
        planned(|spec| spec["ociVersion"] = document.pointer(pointer).unwrap().clone()).unwrap();
    }
    assert_eq!(document["ociVersionMax"], "1.3.0");
}

/// Spec: features.md, Unsafe annotations in `config.json`: those listed change what the engine does
#[test]
fn annotations_that_the_engine_acts_on_are_listed_and_its_own_are_texts() {
    let document = document();

    assert_eq!(listed("/potentiallyUnsafeConfigAnnotations"), ["org.systemd.property."]);
    let annotations = document["annotations"].as_object().unwrap();
    assert!(annotations.values().all(Value::is_string), "{annotations:?}");
    assert_eq!(annotations["dev.strata.oci.version"], env!("CARGO_PKG_VERSION"));
    for driver in ["systemd", "systemdUser"] {
        assert_eq!(document["linux"]["cgroup"][driver], true);
    }
}
