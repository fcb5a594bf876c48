//! Volumes: what outlives containers, whose it is, and what an image puts into it.

use strata_tests::{Context, House, Tar};

/// Runs the guest with these flags, several things in one go.
#[track_caller]
fn run(house: &House, flags: &[&str], words: &str) -> strata_tests::Output {
    let words: Vec<&str> = words.split(' ').collect();
    house.guest_with(flags, &[&["then"], words.as_slice()].concat())
}

/// An image with content and a VOLUME.
fn with_content(house: &House) {
    let context = Context::new(
        "FROM guest\n\
         COPY --chown=1000:50 there /data/sub/file\n\
         RUN [\"/guest\", \"then\", \"link\", \"/etc/passwd\", \"/data/link\", \"+\", \"chmod\", \"2750\", \"/data/sub\", \"+\", \
         \"chmod\", \"711\", \"/data\", \"+\", \"chown\", \"7\", \"8\", \"/data\"]\n\
         VOLUME /data\n",
    );
    context.write("there", "of the image");
    house.build(&context, "filled").ok();
}

#[test]
fn a_volume_outlives_its_containers() {
    let house = House::with_guest();

    assert_eq!(house.ctl(&["volume", "create", "data"]).ok().text(), "data");
    run(&house, &["-v", "data:/d"], "write /d/file one").ok();
    assert_eq!(run(&house, &["-v", "data:/elsewhere:ro"], "read /elsewhere/file").ok().text(), "one");
    run(&house, &["-v", "data:/d:ro"], "write /d/file two").code(99);
    run(&house, &["-v", "unasked:/d"], "write /d/file made").ok();
    house.crash("runtime");

    assert_eq!(
        run(&house, &["-v", "data:/d", "-v", "unasked:/u"], "read /d/file + read /u/file").ok().text(),
        "onemade"
    );
    let listed = house.ctl(&["volume", "ls"]).ok();
    assert_eq!(listed.stdout, "DRIVER   VOLUME NAME\nlocal    data\nlocal    unasked\n");
    assert_eq!(house.ctl(&["volume", "rm", "data", "unasked"]).ok().stdout, "data\nunasked\n");
    assert_eq!(house.ctl(&["volume", "ls", "-q"]).ok().stdout, "");
}

#[test]
fn a_volume_in_use_is_kept_and_its_container_named() {
    let house = House::with_guest();
    house.ctl(&["create", "--name", "holder", "-v", "data:/d", "guest", "/guest", "noop"]).ok();

    house.ctl(&["volume", "rm", "data"]).code(1).complains(&["volume data is in use by container holder", "ctl rm"]);
    house.ctl(&["volume", "rm", "-f", "data"]).code(1).complains(&["holder"]);
    house.ctl(&["rm", "-v", "holder"]).ok();
    assert_eq!(house.ctl(&["volume", "rm", "data"]).ok().text(), "data", "a name was given: rm -v leaves it");
    house.ctl(&["volume", "rm", "data"]).code(1).complains(&["no such volume: data"]);
    house.ctl(&["volume", "rm", "-f", "data"]).ok();
    house.ctl(&["volume", "inspect", "data"]).code(1).complains(&["no such volume: data"]);
}

#[test]
fn volumes_without_a_name_go_with_their_container_if_that_is_asked_for() {
    let house = House::with_guest();
    with_content(&house);
    let volumes = || house.ctl(&["volume", "ls", "-q", "-f", "dangling=false"]).ok().stdout.lines().count();
    let all = || house.ctl(&["volume", "ls", "-q"]).ok().stdout.lines().count();

    house.ctl(&["run", "--rm", "-v", "/extra", "filled", "/guest", "write", "/extra/file", "x"]).ok();
    assert_eq!(all(), 0, "--rm takes them along");
    house.ctl(&["create", "--name", "one", "-v", "/extra", "filled", "/guest", "noop"]).ok();
    assert_eq!((volumes(), all()), (2, 2), "one of the image, one of the flag");
    house.ctl(&["rm", "-v", "one"]).ok();
    assert_eq!(all(), 0);
    house.ctl(&["create", "--name", "two", "filled", "/guest", "noop"]).ok();
    house.ctl(&["rm", "two"]).ok();
    assert_eq!((volumes(), all()), (0, 1), "it stays, as in Docker");
    let pruned = house.ctl(&["volume", "prune", "-f"]).ok();
    assert!(pruned.stdout.starts_with("Deleted Volumes:\n") && pruned.stdout.contains("Total reclaimed space:"));
    assert_eq!(all(), 0);
    house.ctl(&["create", "--name", "three", "no-such-image-here", "/guest"]).fails();
    house.ctl(&["run", "--rm", "filled", "/no-such-program"]).code(127);
    assert_eq!(all(), 0, "a container that could not be started leaves none");
}

#[test]
fn an_empty_volume_gets_what_the_image_has() {
    let house = House::with_guest();
    with_content(&house);
    let expected = "/data: directory 711 7:8\n/data/link: link to /etc/passwd 777 0:0\n/data/sub: directory 2750 1000:50\n\
                    /data/sub/file: file of 12 644 1000:50\n";
    let stat = ["stat", "/data", "/data/link", "/data/sub", "/data/sub/file"];
    let show = |flags: &[&str]| {
        let words = [&["run", "--rm"], flags, &["filled", "/guest"], &stat].concat();
        house.ctl(&words).ok().stdout
    };

    assert_eq!(show(&[]), expected, "the volume of the image");
    assert_eq!(show(&["-v", "named:/data"]), expected);
    house.ctl(&["run", "--rm", "-v", "named:/data", "filled", "/guest", "write", "/data/sub/file", "changed"]).ok();
    let kept = house.ctl(&["run", "--rm", "-v", "named:/data", "filled", "/guest", "read", "/data/sub/file"]).ok();
    assert_eq!(kept.text(), "changed", "only an empty one is filled");
    let ls = ["guest", "/guest", "ls", "/x"];
    let bare = house.ctl(&["run", "--rm", "-v", "bare:/data:nocopy", "filled", "/guest", "ls", "/data"]).ok();
    assert_eq!(bare.stdout, "");
    assert_eq!(house.ctl(&[&["run", "--rm", "-v", "bare:/x"], ls.as_slice()].concat()).ok().stdout, "");
    // What is made, and never runs, has it for others: a data container.
    house.ctl(&["create", "--name", "source", "filled", "/guest", "noop"]).ok();
    let from = house.ctl(&["run", "--rm", "--volumes-from", "source:ro", "guest", "/guest", "read", "/data/sub/file"]);
    assert_eq!(from.ok().text(), "of the image");
    let words = ["run", "--rm", "--volumes-from", "source:ro", "guest", "/guest", "write", "/data/new", "x"];
    house.ctl(&words).code(99);
}

#[test]
fn attributes_and_hard_links_of_the_image_come_along() {
    let house = House::with_guest();
    let tar = Tar::of_guest().file("data/one", 0o644, b"x").hard_link("data/two", "data/one");
    let tar = tar.attribute("user.kept", b"yes").file("data/marked", 0o644, b"");
    house.ctl(&["import", tar.write(house.path("linked.tar")).to_str().unwrap(), "linked"]).ok();

    house.ctl(&["run", "--rm", "-v", "data:/data", "linked", "/guest", "noop"]).ok();

    let path = house.ctl(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).ok().text().to_owned();
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(format!("{path}/{name}")).unwrap());
    assert_eq!(inode("one"), inode("two"));
    let mut value = [0; 8];
    let read = rustix::fs::getxattr(format!("{path}/marked"), "user.kept", &mut value[..]).unwrap();
    assert_eq!(&value[..read], b"yes");
}

#[test]
fn volumes_are_shown_as_docker_shows_them() {
    let house = House::with_guest();
    house.ctl(&["volume", "create", "--label", "env=test", "--label", "bare", "data"]).ok();
    let bind = ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/srv", "bound"];
    house.ctl(&bind).ok();

    let shown = house.ctl(&["volume", "inspect", "data", "bound"]).ok().json();
    assert_eq!(shown[0]["Name"], "data");
    assert_eq!(shown[0]["Driver"], "local");
    assert_eq!(shown[0]["Scope"], "local");
    assert_eq!(shown[0]["Labels"], serde_json::json!({ "env": "test", "bare": "" }));
    assert!(shown[0]["Options"].is_null() && shown[1]["Labels"].is_null());
    assert_eq!(shown[1]["Options"]["device"], "/srv");
    assert!(shown[0]["Mountpoint"].as_str().unwrap().ends_with("/runtime/volumes/data/_data"));
    for (filter, expected) in [
        ("name=dat", "data\n"),
        ("label=env=test", "data\n"),
        ("label=env=live", ""),
        ("driver=local", "bound\ndata\n"),
        ("dangling=true", "bound\ndata\n"),
    ] {
        assert_eq!(house.ctl(&["volume", "ls", "-q", "-f", filter]).ok().stdout, expected, "{filter}");
    }
    let format = "{{.Name}} {{.Driver}} {{.Labels}}";
    assert!(house.ctl(&["volume", "ls", "--format", format]).ok().stdout.contains("data local bare=,env=test\n"));
    let unnamed = house.ctl(&["volume", "create"]).ok();
    assert_eq!(unnamed.text().len(), 64);
    for (args, code, words) in [
        (&["create", "-d", "nfs", "x"][..], 1, &["no volume driver \"nfs\"", "local"][..]),
        (&["create", "../x"], 1, &["invalid volume name \"../x\""]),
        (&["create", "-o", "type=tmpfs", "x"], 1, &["needs a device"]),
        (&["create", "-o", "colour=red", "x"], 1, &["--opt: invalid option \"colour\""]),
        (&["create", "-o", "device=/opt", "-o", "type=bind", "bound"], 1, &["bound with other options"]),
        (&["ls", "-f", "colour=red"], 125, &["colour=red", "dangling"]),
        (&["update", "x"], 125, &["not available yet"]),
    ] {
        house.ctl(&[&["volume"], args].concat()).code(code).complains(words);
    }
}

#[test]
fn containers_show_their_mounts_as_docker_does() {
    let house = House::with_guest();
    let host = house.path("host");
    let host = host.to_str().unwrap();
    let bind = format!("{host}:/host:ro,z");
    house
        .ctl(&["create", "--name", "box", "-v", &bind, "-v", "data:/data", "-v", "/anon", "guest", "/guest", "noop"])
        .ok();

    let mounts = house.ctl(&["inspect", "box"]).ok().json()[0]["Mounts"].clone();

    let source = |name: &str| format!("{}/runtime/volumes/{name}/_data", house.root().display());
    assert_eq!(
        mounts[0],
        serde_json::json!({
            "Type": "bind", "Source": host, "Destination": "/host", "Mode": "ro,z", "RW": false, "Propagation": "rprivate",
        })
    );
    assert_eq!(
        mounts[1],
        serde_json::json!({
            "Type": "volume", "Name": "data", "Source": source("data"), "Destination": "/data", "Driver": "local",
            "Mode": "z", "RW": true, "Propagation": "",
        })
    );
    let name = mounts[2]["Name"].as_str().unwrap();
    assert!(name.len() == 64 && mounts[2]["Source"] == source(name) && mounts[2]["Mode"] == "");
    let shown = house.ctl(&["ps", "-a", "--no-trunc", "--format", "{{.Mounts}} {{.LocalVolumes}}"]).ok();
    assert_eq!(shown.text(), format!("{host},data,{name} 2"));
    house.ctl(&["rm", "-v", "box"]).ok();
}

#[test]
fn a_volume_goes_out_and_comes_in_as_an_archive() {
    let house = House::with_guest();
    run(&house, &["-v", "data:/d"], "write /d/file one + mkdir /d/sub + chown 5 6 /d/sub").ok();

    house.ctl(&["volume", "export", "data", "-o", "data.tar"]).ok();
    assert_eq!(house.ctl(&["volume", "import", "copy", "data.tar"]).ok().text(), "copy");
    let there = run(&house, &["-v", "copy:/c"], "read /c/file + stat /c/sub").ok();
    assert_eq!(there.stdout, "one/c/sub: directory 755 5:6\n");
    let archive = std::fs::read(house.path("data.tar")).unwrap();
    house.ctl_with(&["volume", "import", "copy"], &archive).code(1).complains(&["copy is not empty", "--replace"]);
    house.ctl_with(&["volume", "import", "--replace", "copy", "-"], &archive).ok();
    house.ctl_with(&["volume", "import", "new"], b"no archive").code(1).complains(&["standard input", "archive"]);
    assert_eq!(house.ctl(&["volume", "ls", "-q"]).ok().stdout, "copy\ndata\n", "nothing half made");
    house.ctl(&["volume", "export", "nobody"]).code(1).complains(&["no such volume"]);
}

#[test]
fn a_volume_of_a_directory_of_the_host_is_that_directory() {
    let house = House::with_guest();
    let host = house.path("host");
    std::fs::create_dir(&host).unwrap();
    let device = format!("device={}", host.display());
    house.ctl(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "data"]).ok();

    run(&house, &["-v", "data:/d"], "write /d/file x").ok();

    assert_eq!(std::fs::read_to_string(host.join("file")).unwrap(), "x");
    house.ctl(&["volume", "rm", "data"]).ok();
    assert!(host.join("file").exists(), "only the volume goes");
    house.ctl(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such/dir", "lost"]).ok();
    run(&house, &["-v", "lost:/d"], "noop").code(125).complains(&["/no/such/dir"]);
}

/// A crash while an image fills a volume leaves it empty or whole; what was half made is gone when the service is back.
#[test]
fn a_volume_is_filled_as_a_whole_or_not_at_all() {
    const FILES: usize = 300;
    let house = House::with_guest();
    let mut tar = Tar::of_guest();
    for number in 0..FILES {
        tar = tar.file(&format!("data/file{number}"), 0o644, &[7; 5000]);
    }
    house.ctl(&["import", tar.write(house.path("many.tar")).to_str().unwrap(), "many"]).ok();
    house.ctl(&["volume", "ls"]).ok();
    let volumes = house.root().join("runtime/volumes");

    for round in 0..10_u64 {
        let volume = format!("data{round}:/data");
        let running = house.ctl_running(&["create", "-v", &volume, "-v", "/other", "many", "/guest", "noop"]);
        std::thread::sleep(std::time::Duration::from_millis(round * 6));
        house.crash("runtime");
        running.finish();

        house.ctl(&["ps", "-aq"]).ok();
        if let Ok(files) = std::fs::read_dir(volumes.join(format!("data{round}/_data"))) {
            let count = files.count();
            assert!([0, FILES].contains(&count), "round {round}: {count} files");
        }
        strata_tests::eventually("nothing is half made", std::time::Duration::from_secs(10), || {
            let names = std::fs::read_dir(&volumes).unwrap().flatten().map(|entry| entry.file_name());
            names.into_iter().all(|name| !name.to_string_lossy().starts_with('.'))
                && !volumes.join(format!("data{round}/new")).exists()
        });
    }
    // What the last crash left half made is removed behind: until then it is among the containers.
    let containers = || house.ctl(&["ps", "-aq"]).ok().stdout.lines().count();
    let unnamed = || house.ctl(&["volume", "ls", "-q"]).ok().stdout.lines().filter(|name| name.len() == 64).count();
    strata_tests::eventually("each has one volume without a name", std::time::Duration::from_secs(10), || {
        unnamed() == containers()
    });
}

/// A database keeps what it has when its container is replaced; a simple writer stands for it.
#[test]
fn a_replaced_container_finds_what_the_former_one_wrote() {
    let house = House::with_guest();
    let start = |name: &str, text: &str| {
        let words = ["run", "-d", "--name", name, "-v", "state:/var/lib/app", "guest", "/guest", "then", "append"];
        house.ctl(&[words.as_slice(), &["/var/lib/app/log", text, "+", "sleep", "60"]].concat()).ok();
    };
    let log = || run(&house, &["-v", "state:/s:ro"], "read /s/log").stdout;
    start("first", "one,");
    strata_tests::eventually("it has written", std::time::Duration::from_secs(20), || log() == "one,");

    house.ctl(&["rm", "-fv", "first"]).ok();
    house.ctl(&["volume", "prune", "-f"]).ok();
    start("second", "two,");

    strata_tests::eventually("the next one goes on", std::time::Duration::from_secs(20), || log() == "one,two,");
    house.ctl(&["rm", "-f", "second"]).ok();
}

/// Memory that containers share while one of them runs. The host has it mounted for as long, and no longer.
#[test]
fn a_volume_of_memory_is_shared_by_containers_that_run_and_gone_with_the_last() {
    let house = House::with_guest();
    let options = ["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=1777,noexec"];
    house.ctl(&[&["volume", "create"][..], &options, &["memory"]].concat()).ok();
    let mounted = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("/volumes/memory/_data");
    let start = |name: &str| {
        house.ctl(&["run", "-d", "--name", name, "-v", "memory:/shared", "guest", "/guest", "sleep", "600"]).ok();
    };
    let exec = |name: &str, words: &[&str]| house.ctl(&[&["exec", name, "/guest"], words].concat());
    assert!(!mounted());

    start("one");
    exec("one", &["write", "/shared/file", "kept"]).ok();
    start("two");
    assert_eq!(exec("two", &["read", "/shared/file"]).ok().text(), "kept");
    assert!(mounted());
    exec("two", &["fill", "/shared/large", "2000000"]).fails();
    let mounts = exec("two", &["read", "/proc/self/mountinfo"]).ok();
    let line = mounts.stdout.lines().find(|line| line.contains(" /shared ")).unwrap().to_owned();
    assert!(line.contains("noexec") && line.contains("size=1024k"), "{line}");
    house.ctl(&["volume", "rm", "memory"]).code(1).complains(&["in use"]);
    house.crash("runtime");
    house.ctl(&["rm", "-f", "one"]).ok();
    assert_eq!(exec("two", &["read", "/shared/file"]).ok().text(), "kept", "it goes with the last one");
    house.ctl(&["rm", "-f", "two"]).ok();
    assert!(!mounted());
    start("three");
    exec("three", &["read", "/shared/file"]).fails();
    house.ctl(&["volume", "export", "memory", "-o", "/dev/null"]).code(1).complains(&["type tmpfs"]);
    house.ctl(&["container", "unmount", "three", "/shared"]).ok();
    assert!(!mounted());
    house.ctl(&["rm", "-f", "three"]).ok();
    house.ctl(&["volume", "rm", "memory"]).ok();
}

#[test]
fn a_volume_that_cannot_be_mounted_says_what_is_missing() {
    let house = House::with_guest();
    let create = |name: &str, options: &str| {
        let options: Vec<&str> = options.split(' ').flat_map(|option| ["-o", option]).collect();
        house.ctl(&[&["volume", "create"], &options[..], &[name]].concat())
    };
    create("x", "type=tmpfs").code(1).complains(&["a volume of type tmpfs needs a device"]);
    create("away", "type=nosuchfs device=:/export o=addr=192.0.2.1").ok();
    create("odd", "type=tmpfs device=tmpfs o=colour=red").ok();
    let run = |name: &str| {
        let volume = format!("{name}:/mnt");
        house.guest_with(&["-v", &volume], &["noop"]).code(125)
    };

    run("away").complains(&["volume away", "nosuchfs of \":/export\"", "modprobe nosuchfs"]);
    run("odd").complains(&["volume odd", "it does not take these options"]);

    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "", "nothing stays of what did not start");
    house.ctl(&["volume", "rm", "away", "odd"]).ok();
}
