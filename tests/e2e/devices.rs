//! Devices of the Container Device Interface: `RUN --device`, `ctl run --device`.

use std::{fs, path::Path};

use strata_tests::{Context, House, Output, Steps, Went};

use super::mounts::{printed, run};

/// A house whose runtime looks for spec files in its directory `cdi`, and whose builder may give devices.
fn house() -> House {
    let house = House::with_guest();
    assert_eq!(house.stop().len(), 0);
    let directory = house.path("cdi");
    fs::create_dir_all(&directory).unwrap();
    house.configure_runtime(&format!("[networks]\ndefault = \"none\"\n[cdi]\nspec_dirs = [{directory:?}]\n"));
    fs::write(house.root().join("etc/builder.toml"), "insecure_entitlements = [\"device\"]\n").unwrap();
    house
}

fn describe(house: &House, name: &str, text: &str) {
    fs::write(house.path("cdi").join(name), text).unwrap();
}

/// A device with a variable, as `test.com/thing=NAME`.
fn variable(house: &House, name: &str, annotations: &str) {
    let text = format!(
        "cdiVersion: 0.6.0\nkind: test.com/thing\ndevices:\n- name: {name}\n  annotations: {{{annotations}}}\n  \
         containerEdits:\n    env: [THING={name}]\n"
    );
    describe(house, &format!("{name}.yaml"), &text);
}

fn build(house: &House, rest: &str, flags: &[&str]) -> Output {
    let context = Context::new(&format!("FROM guest\n{rest}"));
    house.ctl(&[&["build", "--progress", "plain", "-t", "app"], flags, &[context.arg()]].concat())
}

/// The numbers of /dev/kmsg, which no container may open by itself, under a name that no program knows.
fn node(path: &Path) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), makedev(1, 11)).unwrap();
}

#[test]
fn a_step_gets_what_the_spec_of_its_device_says() {
    let house = house();
    node(&house.path("node"));
    fs::create_dir(house.path("driver")).unwrap();
    fs::write(house.path("driver/lib"), "driver").unwrap();
    let at = |name: &str| house.path(name).display().to_string();
    let text = format!(
        r#"{{
          "cdiVersion": "0.7.0",
          "kind": "test.com/thing",
          "containerEdits": {{"env": ["OF_ALL=yes"], "additionalGids": [50]}},
          "devices": [
            {{"name": "one", "containerEdits": {{
              "env": ["OF_ONE=yes"],
              "deviceNodes": [
                {{"path": "/dev/nothing", "hostPath": "/dev/null", "fileMode": 384, "uid": 1000, "gid": 50}},
                {{"path": "/dev/messages", "hostPath": {node:?}, "permissions": "w"}}
              ],
              "mounts": [{{"hostPath": {driver:?}, "containerPath": "/opt/driver", "options": ["ro", "bind"]}}]
            }}}},
            {{"name": "two", "containerEdits": {{"env": ["OF_TWO=yes"]}}}}
          ]
        }}"#,
        node = at("node"),
        driver = at("driver"),
    );
    describe(&house, "thing.json", &text);
    let words = "env + id + stat /dev/nothing + write /dev/nothing x + append /dev/messages  + read /opt/driver/lib";
    let step = run("--device=test.com/thing=one,required", words);

    let output = build(&house, &step, &["--allow", "device"]).ok();

    let printed = printed(&output);
    assert!(printed.contains("OF_ALL=yes\n") && printed.contains("OF_ONE=yes\n"), "{printed}");
    assert!(!printed.contains("OF_TWO"), "{printed}");
    assert!(printed.contains("uid 0 gid 0 groups 0,50\n") || printed.contains("uid 0 gid 0 groups 50\n"), "{printed}");
    assert!(printed.contains("/dev/nothing: character device 600 1000:50\n"), "{printed}");
    assert!(printed.ends_with("driver\n"), "{printed}");
    let left = house.ctl(&["run", "--rm", "app", "/guest", "then", "ls", "/", "+", "ls", "/dev", "+", "env"]).ok();
    assert!(!["opt\n", "nothing\n", "OF_"].iter().any(|name| left.stdout.contains(name)), "{left:?}");
    // What the spec does not give stays forbidden.
    let refused = run("--device=test.com/thing=one", "read /dev/messages");
    build(&house, &refused, &["--allow", "device"]).fails().complains(&["exit code: 99"]);
}

#[test]
fn the_key_of_a_step_has_the_names_of_its_devices_and_not_what_they_are() {
    let house = house();
    variable(&house, "one", "");
    variable(&house, "two", "");
    let went = |device: &str| {
        Steps::of(&build(&house, &run(&format!("--device={device}"), "env"), &["--allow", "device"]).ok()).went("RUN")
    };

    assert_eq!([went("test.com/thing=one"), went("test.com/thing=one")], [Went::Done, Went::Cached]);
    // The first of its kind.
    assert_eq!([went("test.com/thing"), went("test.com/thing=two")], [Went::Cached, Went::Done]);
    assert_eq!([went("test.com/other"), went("test.com/thing=*")], [Went::Done, Went::Done]);
    let text = fs::read_to_string(house.path("cdi/one.yaml")).unwrap().replace("THING=one", "THING=another");
    describe(&house, "one.yaml", &text);
    assert_eq!(went("test.com/thing=one"), Went::Cached);
}

#[test]
fn devices_need_the_leave_of_service_and_request() {
    let house = house();
    variable(&house, "one", "");
    variable(&house, "open", "org.mobyproject.buildkit.device.autoallow: true");
    let step = run("--device=test.com/thing=one", "env");
    let refused = ["Dockerfile:2:5", "device test.com/thing=one is not allowed by", "^"];

    build(&house, &step, &[]).fails().complains(&refused).complains(&["--allow device=test.com/thing=one"]);
    build(&house, &step, &["--allow", "device=test.com/thing=open"]).fails().complains(&refused);
    for flag in ["device", "device=test.com/thing=one", "network.host,device=test.com/thing"] {
        assert!(
            printed(&build(&house, &step, &["--no-cache", "--allow", flag]).ok()).contains("THING=one\n"),
            "{flag}"
        );
    }
    let aliased = run("--device=nvidia.com/gpu=0,required", "env");
    let flags = ["--no-cache", "--allow", "device=test.com/thing=one,alias=nvidia.com/gpu=0"];
    let output = build(&house, &aliased, &flags).ok();
    assert!(printed(&output).contains("THING=one\n"), "{output:?}");
    assert!(printed(&build(&house, &run("--device=test.com/thing=open", "env"), &[]).ok()).contains("THING=open\n"));
    // A trigger asks too.
    let base = Context::new("FROM guest\nONBUILD RUN --device=test.com/thing=one [\"/guest\", \"noop\"]\n");
    house.build(&base, "base").ok();
    house.build(&Context::new("FROM base\n"), "app").fails().complains(&["test.com/thing=one is not allowed"]);

    assert_eq!(house.stop().len(), 0);
    fs::write(house.root().join("etc/builder.toml"), "").unwrap();
    build(&house, &step, &["--allow", "device"]).fails().complains(&refused).complains(&["insecure_entitlements"]);
    assert_eq!(house.stop().len(), 0);
    fs::write(house.root().join("etc/builder.toml"), "auto_allowed_devices = [\"test.com/thing\"]\n").unwrap();
    build(&house, &step, &[]).ok();
    build(&house, &step, &["--allow", "device=a,b"]).fails().complains(&["alias=NAME"]);
}

#[test]
fn a_device_that_is_not_there_is_left_out_unless_it_is_required() {
    let house = house();
    let optional = run("--device=test.com/thing=one", "env");
    let required = run("--device=test.com/thing=one,required", "env");

    let output = build(&house, &optional, &[]).ok();
    assert!(!printed(&output).contains("THING"), "{output:?}");
    output.complains(&["device \"test.com/thing=one\" is not there", "without it"]);
    let words = ["Dockerfile:2:5", "device \"test.com/thing=one\" is required and is not there", "^"];
    build(&house, &required, &[]).fails().complains(&words).complains(&["spec_dirs"]);
    variable(&house, "two", "");
    build(&house, &required, &[]).fails().complains(&words).complains(&["the runtime has test.com/thing=two"]);
    // Nothing runs before that is known.
    let late = format!("{}{required}", run("", "noop"));
    let output = build(&house, &late, &["--no-cache"]).fails().complains(&["Dockerfile:3:5"]);
    assert!(!output.stderr.contains("noop"), "{output:?}");
    variable(&house, "one", "");
    assert!(printed(&build(&house, &required, &["--allow", "device"]).ok()).contains("THING=one\n"));
    let output = build(&house, &optional, &["--no-cache", "--allow", "device"]).ok();
    assert!(printed(&output).contains("THING=one\n"), "{output:?}");
}

#[test]
fn a_spec_file_that_is_malformed_is_named_with_its_field() {
    let house = house();
    variable(&house, "two", "");
    let required = run("--device=test.com/thing=one,required", "env");
    for (name, text, said) in [
        ("a.json", "{\"cdiVersion\": \"0.6.0\"}", "a.json: missing field `kind`"),
        (
            "b.yaml",
            "cdiVersion: 0.6.0\nkind: test.com/thing\ndevices: [{name: one, colour: red}]\n",
            "b.yaml: devices[0]",
        ),
        (
            "c.yaml",
            "cdiVersion: 0.6.0\nkind: test.com/thing\ndevices: [{name: one, containerEdits: {env: [ONE]}}]\n",
            "c.yaml: devices[0].containerEdits.env[0]: \"ONE\" is not NAME=VALUE",
        ),
    ] {
        describe(&house, name, text);
        build(&house, &required, &[]).fails().complains(&["Dockerfile:2:5", "is required and is not there", said]);
        fs::remove_file(house.path("cdi").join(name)).unwrap();
    }
    // It takes no other with it.
    describe(&house, "a.json", "{");
    build(&house, &run("--device=test.com/thing=two,required", "env"), &["--allow", "device"]).ok();
}

#[test]
fn hooks_run_at_their_points_and_find_the_root() {
    let house = house();
    let at = house.path("");
    let hook = |point: &str, script: &str| {
        format!(
            "    - {{hookName: {point}, path: /bin/sh, args: [sh, -c, {script:?}], env: [\"PATH=/usr/bin:/bin\"]}}\n"
        )
    };
    let bundle = "b=$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/'); ";
    let describe_hooks = |hooks: String| {
        let head = "cdiVersion: 0.6.0\nkind: test.com/thing\ndevices:\n- name: one\n  containerEdits:\n    hooks:\n";
        describe(&house, "thing.yaml", &format!("{head}{hooks}"));
    };
    let tell = |name: &str| format!("cat > {}/{name}", at.display());
    describe_hooks(
        [
            hook("createRuntime", &tell("created")),
            hook("createContainer", &format!("{bundle} cd $b && ls rootfs config.json > {}/root", at.display())),
            hook("poststart", &tell("started")),
            hook("poststop", &tell("stopped")),
        ]
        .concat(),
    );

    let step = run("--device=test.com/thing=one", "noop");
    build(&house, &step, &["--allow", "device"]).ok();

    let read = |name: &str| fs::read_to_string(house.path(name)).unwrap_or_default();
    assert!(read("created").contains("\"status\":\"creating\""), "{}", read("created"));
    assert!(read("root").contains("config.json\n") && read("root").contains("guest\n"), "{}", read("root"));
    assert!(read("started").contains("\"status\":\"running\""), "{}", read("started"));
    strata_tests::eventually("the last hook ran", std::time::Duration::from_secs(10), || !read("stopped").is_empty());
    for point in ["createRuntime", "createContainer", "poststart"] {
        describe_hooks(hook(point, "echo no such driver >&2; exit 3"));
        let output = build(&house, &step, &["--no-cache", "--allow", "device"]).fails();
        output.complains(&["Dockerfile:2:", &format!("hooks.{point}[0]"), "no such driver"]);
    }
}

#[test]
fn hooks_find_the_annotations_of_their_container() {
    let house = house();
    let told = house.path("told");
    let script = format!("cat > {}", told.display());
    describe(
        &house,
        "thing.yaml",
        &format!(
            "cdiVersion: 0.6.0\nkind: test.com/thing\ndevices:\n- name: one\n  containerEdits:\n    hooks:\n    \
             - {{hookName: createRuntime, path: /bin/sh, args: [sh, -c, {script:?}], env: [\"PATH=/usr/bin:/bin\"]}}\n"
        ),
    );
    let flags = ["--device", "test.com/thing=one", "--annotation", "com.test/a=b=c", "--annotation", "com.test/empty"];
    let create = ["create", "--name", "kept", "--runtime", "strata", "--network", "none"];
    house.ctl(&[&create[..], &flags, &["guest", "/guest", "noop"]].concat()).ok();

    house.ctl(&["start", "-a", "kept"]).ok();

    let state: serde_json::Value = serde_json::from_slice(&fs::read(&told).unwrap()).unwrap();
    let annotations = serde_json::json!({"com.test/a": "b=c", "com.test/empty": ""});
    assert_eq!(state["annotations"], annotations);
    let host = house.ctl(&["inspect", "kept"]).ok().json()[0]["HostConfig"].clone();
    assert_eq!((&host["Annotations"], &host["Runtime"]), (&annotations, &"strata".into()));
    house.guest_with(&["--annotation", "=x"], &["noop"]).code(125).complains(&["invalid annotation \"=x\""]);
    house.guest_with(&["--runtime", "runc"], &["noop"]).code(125).complains(&["--runtime", "runc", "\"strata\""]);
    house.ctl(&["rm", "kept"]).ok();
}

#[test]
fn containers_get_devices_by_their_names() {
    let house = house();
    variable(&house, "one", "");

    let output = house.guest_with(&["--device", "test.com/thing=one"], &["env"]).ok();
    assert!(output.stdout.contains("THING=one\n"), "{output:?}");
    house.ctl(&["create", "--name", "kept", "--device", "test.com/thing=one", "guest", "/guest", "env"]).ok();
    let inspected = house.ctl(&["inspect", "kept"]).ok().json();
    assert_eq!(inspected[0]["HostConfig"]["DeviceRequests"][0]["DeviceIDs"][0], "test.com/thing=one");
    fs::remove_file(house.path("cdi/one.yaml")).unwrap();
    let output = house.ctl(&["start", "-a", "kept"]).fails();
    output.complains(&["test.com/thing=one", "there is none in"]);
    let output = house.guest_with(&["--device", "test.com/thing"], &["env"]).fails();
    output.complains(&["--device", "is not the name of a CDI device"]);
}

/// Row 36 (CVE-2024-0132): what a device brings is mounted where the image's links lead inside of its root, and nowhere else.
#[test]
fn row_36_targets_of_devices_that_are_links_stay_in_the_root() {
    let house = house();
    let sentinel = house.path("sentinel");
    fs::create_dir(&sentinel).unwrap();
    fs::write(sentinel.join("kept"), "").unwrap();
    fs::create_dir(house.path("driver")).unwrap();
    fs::write(house.path("driver/lib"), "driver").unwrap();
    let (place, driver) = (sentinel.display(), house.path("driver").display().to_string());
    let text = format!(
        "cdiVersion: 0.6.0\nkind: test.com/thing\ndevices:\n- name: one\n  containerEdits:\n    mounts:\n    \
         - {{hostPath: {driver}, containerPath: /opt/deep, options: [bind]}}\n    \
         - {{hostPath: {driver}/lib, containerPath: /up/kept, options: [bind, ro]}}\n    \
         deviceNodes: [{{path: /nodes/null, hostPath: /dev/null}}]\n"
    );
    describe(&house, "thing.yaml", &text);
    let links = format!("link {place} /opt + link ../../../..{place} /up + link {place} /nodes");
    let rest = format!(
        "{}{}",
        run("", &links),
        run(
            "--device=test.com/thing=one",
            "read /opt/deep/lib + write /opt/deep/new x + read /up/kept + stat /nodes/null"
        ),
    );

    let output = build(&house, &rest, &["--allow", "device"]).ok();

    assert!(printed(&output).contains("driverdriver"), "{output:?}");
    let names: Vec<_> = fs::read_dir(&sentinel).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!((names, fs::read_to_string(sentinel.join("kept")).unwrap()), (vec!["kept".into()], String::new()));
    assert!(house.path("driver/new").exists(), "what is mounted is what the spec names");
}
