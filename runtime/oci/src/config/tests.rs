//! What a config.json may be, and seeded mutations of one that is right.

use serde_json::{Value, json};

use super::*;
use crate::{
    default_spec::Defaults,
    plan::{PlanInputs, plan},
};

fn whole() -> Value {
    let mut spec = serde_json::to_value(Defaults::default().build().unwrap()).unwrap();
    spec["hooks"] = json!({"createRuntime": [{"path": "/bin/true", "args": ["a"], "env": ["A=1"], "timeout": 3}]});
    spec["annotations"] = json!({"a": "b"});
    spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    spec["linux"]["resources"] = json!({"memory": {"limit": 1 << 20}, "pids": {"limit": 5}, "cpu": {"quota": 1000}});
    // Compiling the filter again and again is no part of this.
    spec["linux"]["seccomp"] = Value::Null;
    spec
}

fn refused(text: &str) -> String {
    parse(text.as_bytes(), Path::new("/b")).expect_err(text).to_string()
}

fn with(pointer: &str, value: Value) -> String {
    let mut spec = whole();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[key] = value;
    spec.to_string()
}

/// Row 13 (CVE-2021-43784).
#[test]
fn row_13_cve_2021_43784_a_file_over_16_mib_is_not_read_and_a_field_of_70000_bytes_is_taken_or_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs::write(&path, vec![b' '; (16 << 20) + 1]).unwrap();
    let long = "x".repeat(70_000);

    let error = read(&path).unwrap_err().to_string();
    assert_eq!(error, format!("cannot read {}: it is over 16777216 bytes", path.display()));

    let spec = parse(with("/process/args", json!(["/bin/true", long])).as_bytes(), Path::new("/b")).unwrap();
    let inputs = PlanInputs { container: Some(crate::hooks::Container::default()), ..PlanInputs::default() };
    let planned = plan(&spec, &inputs).unwrap();
    assert_eq!(planned.process.args[1].len(), 70_000);
    assert_eq!(strata_init::plan::Plan::decode(&planned.encode()).unwrap(), planned);
    let spec = parse(with("/hostname", json!(long)).as_bytes(), Path::new("/b")).unwrap();
    assert!(plan(&spec, &inputs).unwrap_err().to_string().starts_with("hostname: "));
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();

    for path in [fifo, directory.path().to_owned(), "/dev/zero".into()] {
        assert!(read(&path).unwrap_err().to_string().ends_with("it is not a regular file"), "{}", path.display());
    }
    assert!(matches!(read(Path::new("/nonexistent")), Err(Error::Read { .. })));
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    for (pointer, value, field) in [
        ("/process", json!(7), "process: "),
        ("/process/args", json!("x"), "process.args: "),
        ("/process/args", json!(["a", 1]), "process.args[1]: "),
        ("/process/user/uid", json!(-1), "process.user.uid: "),
        ("/process/user/uid", json!(4_294_967_296_u64), "process.user.uid: "),
        ("/linux/resources/memory/limit", json!("1g"), "linux.resources.memory.limit: "),
        ("/linux/namespaces", json!([{"type": "moon"}]), "linux.namespaces[0].type: "),
        ("/hooks/createRuntime", json!([{}]), "hooks.createRuntime[0]: missing field `path`"),
        ("/hooks/createRuntime", json!({}), "hooks.createRuntime: "),
        ("/annotations", json!({"a": 1}), "annotations.a: "),
    ] {
        let error = refused(&with(pointer, value));

        assert!(error.starts_with(field), "{error}");
    }
    let mut spec = whole();
    spec["process"].as_object_mut().unwrap().remove("cwd");
    assert!(refused(&spec.to_string()).starts_with("process: missing field `cwd`"));
}

#[test]
fn unknown_fields_are_ignored() {
    let mut spec = whole();
    for pointer in ["", "/process", "/linux", "/linux/resources", "/hooks/createRuntime/0", "/root"] {
        spec.pointer_mut(pointer).unwrap()["org.example.future"] = json!({"x": [1, null]});
    }

    let expected = parse(whole().to_string().as_bytes(), Path::new("/b")).unwrap();
    assert_eq!(parse(spec.to_string().as_bytes(), Path::new("/b")).unwrap(), expected);
}

#[test]
fn every_truncation_is_an_error_and_none_a_panic() {
    let text = whole().to_string();

    for length in (0..text.len()).step_by(7) {
        let error = refused(&text[..length]);
        assert!(error.starts_with("config.json is not JSON: "), "{error}");
    }
    assert!(refused(&format!("{{\"x\":{}", "[".repeat(100_000))).starts_with("config.json is not JSON: "));
    assert!(refused(&format!("{text}x")).starts_with("config.json is not JSON: "));
    assert!(refused("[]").starts_with("config.json: "));
}

#[test]
fn the_root_is_a_directory_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    fs::create_dir(directory.path().join("rootfs")).unwrap();
    let root = |path: &str| {
        let spec: Spec = serde_json::from_value(json!({"ociVersion": "1.0.0", "root": {"path": path}})).unwrap();
        rootfs(&spec, directory.path()).map_err(|error| error.to_string())
    };

    assert_eq!(root("rootfs"), Ok(directory.path().join("rootfs")));
    assert!(root("file").unwrap_err().ends_with("file is not a directory"));
    assert!(root("none").unwrap_err().ends_with("none: no such file or directory"));
    assert!(root("").unwrap_err().starts_with("root.path: "));
}

/// A generator whose numbers are the same every time: splitmix64.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    /// Changes, removes or adds something at a random place of the tree.
    fn mutate(&mut self, value: &mut Value) {
        let goes_deeper = self.below(5) != 0;
        match value {
            Value::Object(map) if !map.is_empty() && goes_deeper => {
                let key = map.keys().nth(self.below(map.len())).cloned().unwrap();
                match self.below(8) {
                    0 => drop(map.remove(&key)),
                    _ => self.mutate(map.get_mut(&key).unwrap()),
                }
            }
            Value::Array(list) if !list.is_empty() && goes_deeper => {
                let index = self.below(list.len());
                match self.below(8) {
                    0 => drop(list.remove(index)),
                    1 => list.push(list[index].clone()),
                    _ => self.mutate(&mut list[index]),
                }
            }
            other => *other = self.hostile(),
        }
    }

    fn hostile(&mut self) -> Value {
        let all = [
            json!(null),
            json!(true),
            json!(-1),
            json!(0),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1e300),
            json!(""),
            json!("\0"),
            json!(".."),
            json!("../../x"),
            json!("/"),
            json!("a=b\nc"),
            json!("\u{ffff}é"),
            json!("x".repeat(70_000)),
            json!([]),
            json!({}),
            json!([[], {}, null]),
            json!({"type": "mount", "path": "/x"}),
        ];
        all[self.below(all.len())].clone()
    }
}

/// Row 13: whatever is changed, there is a plan that survives its own encoding, or an error that names something.
#[test]
fn row_13_a_mutated_spec_gives_a_plan_or_an_error_and_never_a_panic() {
    let inputs = PlanInputs { container: Some(crate::hooks::Container::default()), ..PlanInputs::default() };
    let whole = whole();
    let (mut plans, mut errors) = (0, 0);
    for seed in 0..4000 {
        let mut random = Seeded(seed);
        let mut spec = whole.clone();
        for _ in 0..=random.below(3) {
            random.mutate(&mut spec);
        }
        let parsed = parse(spec.to_string().as_bytes(), Path::new("/b")).map_err(|error| error.to_string());
        match parsed.and_then(|spec| plan(&spec, &inputs).map_err(|error| error.to_string())) {
            Ok(planned) => {
                plans += 1;
                if seed % 16 == 0 {
                    assert_eq!(
                        strata_init::plan::Plan::decode(&planned.encode()).as_ref(),
                        Ok(&planned),
                        "seed {seed}"
                    );
                }
            }
            Err(error) => {
                errors += 1;
                assert!(error.contains(": ") || error.ends_with(" is not supported"), "seed {seed}: {error}");
            }
        }
    }
    assert!(plans > 100 && errors > 100, "{plans} plans, {errors} errors: the mutations are worth nothing");
}
