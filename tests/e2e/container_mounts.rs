//! What containers have mounted beside volumes: paths of the host, memory, images, parts of these; and that nothing in them
//! leads to the host.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use strata_tests::{Context, House, Output, Running, Swapper};

/// Mounts that one container of a race makes.
const ROUNDS_EACH: usize = 25;

/// Runs the guest with these flags, several things in one go.
#[track_caller]
fn run(house: &House, flags: &[&str], words: &str) -> Output {
    let words: Vec<&str> = words.split(' ').collect();
    house.guest_with(flags, &[&["then"], words.as_slice()].concat())
}

/// The options of a mount inside, from the line of mountinfo with its target.
fn options(output: &Output, target: &str) -> String {
    let line = output.stdout.lines().find(|line| line.split(' ').nth(4) == Some(target));
    line.unwrap_or_else(|| panic!("nothing at {target}: {output:?}")).to_owned()
}

/// A directory of the house with a file in it that nobody else has.
fn sentinel(house: &House) -> PathBuf {
    let sentinel = house.path("sentinel");
    fs::create_dir(&sentinel).unwrap();
    fs::write(sentinel.join("kept"), "of the host").unwrap();
    sentinel
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn memory_has_docker_s_options_and_is_empty() {
    let house = House::with_guest();

    let output =
        run(&house, &["--tmpfs", "/tmp", "--tmpfs", "/new:size=1m,mode=700,uid=1000,exec"], "stat /tmp /new + mounts")
            .ok();
    assert!(output.stdout.starts_with("/tmp: directory 1777 0:0\n/new: directory 700 1000:0\n"), "{output:?}");
    let tmp = options(&output, "/tmp");
    assert!(tmp.contains("nosuid,nodev,noexec"), "{tmp}");
    let new = options(&output, "/new");
    assert!(new.contains("nosuid,nodev") && !new.contains("noexec") && new.contains("size=1024k"), "{new}");
    let sized = ["--mount", "type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=1770", "--shm-size", "2m"];
    let output = run(&house, &sized, "stat /m + mounts + fill /m/file 2000000").code(99);
    assert!(output.stdout.starts_with("/m: directory 1770 0:0\n"), "{output:?}");
    assert!(options(&output, "/dev/shm").contains("size=2048k"));
    run(&house, &["--read-only", "--tmpfs", "/run"], "write /run/x y + read /run/x").ok();
    run(&house, &["--read-only", "--tmpfs", "/run:ro"], "write /run/x y").code(99);
    house
        .guest_with(&["--tmpfs", "/x:colour=red"], &["noop"])
        .code(125)
        .complains(&["invalid tmpfs option \"colour=red\""]);
}

#[test]
fn a_bind_must_be_there_unless_it_may_be_made() {
    let house = House::with_guest();
    let path = house.path("not/there");
    let bind = |more: &str| format!("type=bind,src={},dst=/b{more}", path.display());

    let refused = house.guest_with(&["--mount", &bind("")], &["noop"]).code(125);
    refused.complains(&["bind source path does not exist", path.to_str().unwrap()]);
    assert!(!path.exists() && house.ctl(&["ps", "-aq"]).ok().stdout.is_empty());
    run(&house, &["--mount", &bind(",bind-create-src")], "write /b/file x").ok();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "x");
    let output = run(&house, &["--mount", &bind(",readonly")], "read /b/file + mounts").ok();
    assert!(options(&output, "/b").contains(" ro,"), "{output:?}");
}

#[test]
fn an_image_is_mounted_read_only_and_in_part() {
    let house = House::with_guest();
    let context =
        Context::new("FROM guest\nCOPY there /opt/tool/file\nRUN [\"/guest\", \"link\", \"/etc\", \"/opt/link\"]\n");
    context.write("there", "of the image");
    house.build(&context, "tools").ok();

    let whole = "type=image,src=tools,dst=/t";
    assert_eq!(run(&house, &["--mount", whole], "read /t/opt/tool/file").ok().text(), "of the image");
    run(&house, &["--mount", whole], "write /t/x y").code(99);
    run(&house, &["--mount", "type=image,src=tools,dst=/t,readonly=false"], "write /t/x y").code(99);
    let part = "type=image,src=tools,dst=/t,image-subpath=opt/tool";
    assert_eq!(run(&house, &["--mount", part], "ls /t").ok().text(), "file");
    // A link in it is one of the image: to its own /etc.
    let link = "type=image,src=tools,dst=/t,image-subpath=opt/link";
    assert_eq!(run(&house, &["--mount", link], "ls /t").ok().stdout, "group\npasswd\n");
    run(&house, &["--mount", "type=image,src=tools,dst=/t,image-subpath=none"], "noop").code(125).complains(&["/none"]);
    run(&house, &["--mount", "type=image,src=no-such,dst=/t"], "noop").code(125).complains(&["no such image: no-such"]);
    house.ctl(&["create", "--name", "box", "--mount", whole, "guest", "/guest", "noop"]).ok();
    house.ctl(&["rmi", "tools"]).fails().complains(&["tools"]);
    let mounts = house.ctl(&["inspect", "box"]).ok().json()[0]["Mounts"].clone();
    assert_eq!((&mounts[0]["Type"], &mounts[0]["RW"]), (&"image".into(), &false.into()));
    house.ctl(&["start", "-a", "box"]).ok();
    house.ctl(&["rm", "box"]).ok();
    house.ctl(&["rmi", "tools"]).ok();
}

#[test]
fn a_part_of_a_volume_is_looked_up_inside_it() {
    let house = House::with_guest();
    let sentinel = sentinel(&house);
    let host = sentinel.to_str().unwrap();
    let made = format!(
        "mkdir /v/a/b + write /v/a/b/file deep + write /v/a/single one + link /a/b /v/inside + link {host} /v/out + \
         link ../../../../../../../..{host} /v/up + link /proc/self/root /v/magic"
    );
    run(&house, &["-v", "data:/v"], &made).ok();
    let part = |path: &str, more: &str| format!("src=data,dst=/p,volume-subpath={path}{more}");

    assert_eq!(run(&house, &["--mount", &part("a/b", "")], "read /p/file").ok().text(), "deep");
    assert_eq!(run(&house, &["--mount", &part("inside", "")], "read /p/file").ok().text(), "deep");
    assert_eq!(run(&house, &["--mount", &part("a/single", "")], "read /p").ok().text(), "one");
    run(&house, &["--mount", &part("a/b", ",ro")], "write /p/x y").code(99);
    run(&house, &["--mount", &part("a/b", "")], "write /p/x y").ok();
    for path in ["out", "up", "none", "magic"] {
        let refused = run(&house, &["--mount", &part(path, "")], "ls /p").code(125);
        refused.complains(&[&format!("/{path} for /p")]);
    }
    house.guest_with(&["--mount", &part("../x", "")], &["noop"]).code(125).complains(&["leads upwards"]);
    assert_eq!(names(&sentinel), ["kept"]);
}

#[test]
fn the_files_of_the_host_are_another_s_in_the_container() {
    let house = House::with_guest();
    let host = house.path("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("mine"), "x").unwrap();
    fs::write(host.join("other"), "x").unwrap();
    std::os::unix::fs::chown(host.join("other"), Some(7), Some(8)).unwrap();
    let bind = |more: &str| format!("type=bind,src={},dst=/b,{more}", host.display());

    let output = run(&house, &["--mount", &bind("as=1000:50")], "stat /b /b/mine /b/other").ok();
    let nobody = "/b/other: file of 1 644 65534:65534";
    assert!(output.stdout.starts_with("/b: directory 755 1000:50\n/b/mine: file of 1 644 1000:50\n"), "{output:?}");
    assert!(output.stdout.contains(nobody), "{output:?}");
    run(&house, &["-u", "1000:50", "--mount", &bind("as=1000:50")], "write /b/new y").ok();
    let new = fs::metadata(host.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0), "the owner of the directory has it on the host");
    let mapped =
        run(&house, &["--mount", &bind("idmap=uids=7-1000-1#0-0-1;gids=8-50-1#0-0-1")], "stat /b/mine /b/other").ok();
    assert_eq!(mapped.stdout, "/b/mine: file of 1 644 0:0\n/b/other: file of 1 644 1000:50\n");
    let now = fs::metadata(host.join("other")).unwrap();
    assert_eq!((now.uid(), now.gid()), (7, 8), "nothing changed on the disk");
}

/// Row 51: what root of a container writes to the host by such a mount is not root's where root is not in the map.
#[test]
fn row_51_root_of_a_container_is_not_root_on_a_mapped_mount() {
    let house = House::with_guest();
    let host = house.path("host");
    fs::create_dir(&host).unwrap();
    std::os::unix::fs::chown(&host, Some(1234), Some(1234)).unwrap();
    let bind = format!("type=bind,src={},dst=/b,as=0:0", host.display());

    run(&house, &["--mount", &bind], "write /b/tool x + chmod 4755 /b/tool").ok();

    let tool = fs::metadata(host.join("tool")).unwrap();
    assert_eq!((tool.uid(), tool.gid(), tool.mode() & 0o7777), (1234, 1234, 0o4755));
}

/// `ctl` in a mount namespace of its own, with the services that it starts; the script is given `$DIR`.
fn apart(house: &House, script: &str, args: &[&str]) -> Running {
    let mut command = house.command("unshare");
    let script = format!("set -e; mkdir -p $DIR; {script}; exec \"$@\"");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(strata_tests::binaries().join("ctl")).args(args).env("DIR", house.path("mounted"));
    Running::spawn(command)
}

#[test]
fn mounts_below_a_bind_come_along_stay_behind_or_stay_writable() {
    let house = House::with_guest();
    assert_eq!(house.stop().len(), 0);
    let mount = "mount -t tmpfs top $DIR; mkdir $DIR/sub; mount -t tmpfs below $DIR/sub; touch $DIR/sub/there";
    let bind = |more: &str| format!("type=bind,src={},dst=/b{more}", house.path("mounted").display());
    let first = bind("");
    let words = ["run", "--rm", "--mount", &first, "guest", "/guest", "ls", "/b/sub"];
    assert_eq!(apart(&house, mount, &words).finish().ok().text(), "there");

    assert_eq!(run(&house, &["--mount", &bind(",bind-recursive=disabled")], "ls /b/sub").ok().stdout, "");
    assert_eq!(run(&house, &["--mount", &bind(",bind-nonrecursive")], "ls /b/sub").ok().stdout, "");
    run(&house, &["--mount", &bind(",ro")], "write /b/sub/x y").code(99);
    run(&house, &["--mount", &bind(",ro,bind-recursive=readonly")], "write /b/sub/x y").code(99);
    run(&house, &["--mount", &bind(",ro,bind-recursive=writable")], "write /b/x y").code(99);
    run(&house, &["--mount", &bind(",ro,bind-recursive=writable")], "write /b/sub/x y + rm /b/sub/x").ok();
    let dir = house.path("mounted");
    run(&house, &["-v", &format!("{}:/b:ro", dir.display())], "write /b/sub/x y").code(99);
    let refused = run(&house, &["--mount", &bind(",bind-propagation=rshared")], "noop").code(125);
    refused.complains(&["no shared mount", dir.to_str().unwrap()]);
}

#[test]
fn mounts_travel_as_they_are_asked_to() {
    let house = House::with_guest();
    assert_eq!(house.stop().len(), 0);
    let mount = "mount -t tmpfs top $DIR; mount --make-shared $DIR; mkdir $DIR/sub";
    let dir = house.path("mounted").display().to_string();
    let start = |name: &str, mode: &str| {
        let volume = format!("{dir}:/b:{mode}");
        let words = ["run", "-d", "--name", name, "-v", &volume, "guest", "/guest", "await", "/b/sub/made"];
        words.map(str::to_owned)
    };
    let words = start("slave", "rslave");
    apart(&house, mount, &words.each_ref().map(String::as_str)).finish().ok();
    house.ctl(&start("private", "rprivate").each_ref().map(String::as_str)).ok();

    let runtime = house.services().iter().find(|trace| trace.program() == "strata-runtime").map(|trace| trace.pid);
    let mut enter = house.command("nsenter");
    let script = format!("mount -t tmpfs later {dir}/sub && touch {dir}/sub/made");
    enter.args(["--mount", "--target", &runtime.unwrap().to_string(), "sh", "-c", &script]);
    Running::spawn(enter).finish().ok();

    assert_eq!(house.ctl(&["wait", "slave"]).ok().text(), "0", "it sees what is mounted later");
    let mounts = house.ctl(&["exec", "private", "/guest", "ls", "/b/sub"]).ok();
    assert_eq!(mounts.stdout, "", "and the other one does not");
    let shown = house.ctl(&["inspect", "slave"]).ok().json()[0]["Mounts"][0].clone();
    assert_eq!((&shown["Propagation"], &shown["Mode"]), (&"rslave".into(), &"rslave".into()));
    house.ctl(&["rm", "-f", "slave", "private"]).ok();
}

#[test]
fn mistakes_name_the_key_the_value_and_the_next_step() {
    let house = House::with_guest();
    for (flags, words) in [
        (&["-v", "a/b:/x"][..], &["no name of a volume", "./"][..]),
        (&["-v", "data:/x:rshared"], &["not below volumes"]),
        (&["--mount", "type=bind,src=/x,dst=/y,bind-propagation=up"], &["bind-propagation=up", "rslave"]),
        (&["--mount", "src=a,dst=/x", "-v", "b:/x"], &["duplicate mount point: /x"]),
        (&["--mount", "type=volume,dst=/x,volume-driver=nfs"], &["volume driver \"nfs\"", "local"]),
        (&["--mount", "dst=/proc/sys"], &["/proc/sys", "nothing but a bind"]),
        (&["--mount", "type=bind,src=/,dst=/proc"], &["/proc"]),
        (&["--volumes-from", "nobody"], &["no such container: nobody"]),
        (&["--tmpfs", "x"], &["must be absolute"]),
    ] {
        house.guest_with(flags, &["noop"]).code(125).complains(words);
    }
    assert_eq!(house.ctl(&["volume", "ls", "-q"]).ok().stdout, "", "nothing half made");
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "");
}

/// Rows 2, 11 and 46 (CVE-2015-3629, CVE-2019-18837, CVE-2024-9341): targets that are links of the image to places outside.
#[test]
fn row_2_11_46_targets_that_are_links_stay_in_the_root() {
    let house = House::with_guest();
    let sentinel = sentinel(&house);
    let host = sentinel.to_str().unwrap();
    let context = Context::new(&format!(
        "FROM guest\nRUN [\"/guest\", \"then\", \"link\", \"{host}\", \"/absolute\", \"+\", \"link\", \
         \"../../../../../../..{host}\", \"/relative\", \"+\", \"link\", \"/absolute/deep\", \"/twice\"]\n"
    ));
    house.build(&context, "linked").ok();
    house.ctl(&["create", "--name", "from", "-v", "shared:/absolute/from", "linked", "/guest", "noop"]).ok();
    let bind = format!("{}:/twice/bind:ro", house.path("home").display());
    let flags = [
        "-v",
        "data:/absolute/volume",
        "-v",
        "/relative/unnamed",
        "--tmpfs",
        "/relative/memory",
        "-v",
        &bind,
        "--mount",
        "type=image,src=guest,dst=/absolute/image",
        "--mount",
        "src=data,dst=/absolute",
    ];
    for name in ["first", "again"] {
        let words = [&["run", "--name", name, "--volumes-from", "from"], &flags[..], &["linked", "/guest", "mounts"]];
        let output = house.ctl(&words.concat()).ok();

        for target in [format!("{host}/memory"), format!("{host}/unnamed"), host.to_owned()] {
            assert!(!options(&output, &target).is_empty());
        }
        assert_eq!(names(&sentinel), ["kept"]);
    }
    house.ctl(&["start", "-a", "first"]).ok();
    house.ctl(&["rm", "-fv", "first", "again", "from"]).ok();
    assert_eq!(names(&sentinel), ["kept"]);
}

/// Runs containers with these mounts while `sub` of a volume is exchanged with a link to the host; returns what those printed
/// that could be made.
fn race(mounts: impl Fn(usize) -> String, words: &str) -> Vec<String> {
    let rounds = std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000_usize);
    let house = House::with_guest();
    let sentinel = sentinel(&house);
    run(&house, &["-v", "data:/v"], "mkdir /v/sub + write /v/sub/inside x").ok();
    let volume = house.ctl(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).ok().text().to_owned();
    let link = Path::new(&volume).join("exchanged");
    symlink(&sentinel, &link).unwrap();
    let swapper = Swapper::new(Path::new(&volume).join("sub"), link);
    let mounts: Vec<String> = (0..ROUNDS_EACH).map(mounts).collect();
    let flags: Vec<&str> = mounts.iter().flat_map(|mount| ["--mount", mount]).collect();
    let (mut outputs, mut refused) = (vec![], 0);
    for _ in 0..rounds.div_ceil(ROUNDS_EACH) {
        let output = run(&house, &[&["-v", "data:/v"], flags.as_slice()].concat(), words);
        match output.code {
            0 => outputs.push(output.stdout),
            125 => refused += 1,
            _ => panic!("{output:?}"),
        }
    }
    assert!(swapper.count() > 0, "nothing was swapped");
    drop(swapper);
    assert_eq!(names(&sentinel), ["kept"]);
    assert!(outputs.len() + refused > 0);
    outputs
}

/// Rows 12 and 111 (CVE-2021-30465, CVE-2024-11218): a part of a volume that is swapped for a link to the host while it is
/// looked up.
#[test]
fn row_12_111_a_part_of_a_volume_that_is_swapped_is_never_the_host_s() {
    let outputs = race(|index| format!("src=data,dst=/p{index},volume-subpath=sub"), "ls /p0 + ls /p24");

    for output in outputs {
        assert_eq!(output, "inside\ninside\n");
    }
}

/// Rows 12 and 22 (CVE-2021-30465, CVE-2024-45310): mount points in a directory of a volume that is swapped.
#[test]
fn row_12_22_mount_points_in_a_swapped_directory_stay_inside() {
    let outputs = race(|index| format!("type=tmpfs,dst=/v/sub/m{index}"), "mounts");

    // Where the link leads is a place in the container's own root, or in the volume: all of them are in the container.
    for output in outputs {
        let made = output.lines().filter(|line| line.contains(" - tmpfs tmpfs ") && line.contains("/m")).count();
        assert!(made >= ROUNDS_EACH, "{output}");
    }
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains("/sentinel/"), "{host}");
}
