//! Images: import, list, tag, remove, look at.

use strata_tests::{House, Tar};

#[test]
fn an_imported_tar_is_listed_and_described() {
    let house = House::with_guest();

    let list = house.ctl(&["images"]).ok();
    let header = list.stdout.lines().next().unwrap();
    for column in ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"] {
        assert!(header.contains(column), "{column} in {list:?}");
    }
    let row: Vec<&str> = list.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[2].len()), ("guest", "latest", 12), "{list:?}");
    let shown = house.ctl(&["inspect", "guest"]).ok().json();
    assert!(shown[0]["Id"].as_str().unwrap().starts_with(&format!("sha256:{}", row[2])));
    assert_eq!(shown[0]["RootFS"]["Layers"].as_array().unwrap().len(), 1, "{shown:#}");
    assert_eq!((&shown[0]["Os"], &shown[0]["Architecture"]), (&"linux".into(), &"amd64".into()));
    let plain =
        house.ctl(&["image", "history", "--human=false", "--format", "{{.Size}} {{.CreatedSince}}", "guest"]).ok();
    let (size, at) = plain.text().lines().next().unwrap().split_once(' ').unwrap();
    assert!(size.parse::<u64>().is_ok() && at.contains('T') && at.ends_with('Z'), "{plain:?}");
    house.ctl(&["history", "-H=false", "guest"]).ok().says(&["CREATED AT"]);
    let history = house.ctl(&["history", "-H", "guest"]).ok();
    for column in ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"] {
        assert!(history.stdout.lines().next().unwrap().contains(column), "{history:?}");
    }
}

#[test]
fn every_compression_gives_the_same_image() {
    let house = House::start();
    let tar = Tar::of_guest().write(house.path("plain.tar"));
    let plain = house.ctl(&["import", tar.to_str().unwrap(), "plain"]).ok();
    let layers = |name: &str| house.ctl(&["inspect", name]).ok().json()[0]["RootFS"]["Layers"].clone();
    let expected = layers("plain");
    assert!(plain.stdout.contains("sha256:"), "{plain:?}");

    for program in ["gzip", "xz", "bzip2", "zstd"] {
        // Not every machine has every program; Python's standard library has three of the four formats.
        let packed = house.path(&format!("{program}.tar"));
        let script = format!(
            "import sys,gzip,lzma,bz2\nd=open(sys.argv[1],'rb').read()\nf={{'gzip':gzip.compress,'xz':lzma.compress,'bzip2':bz2.compress}}['{program}']\nopen(sys.argv[2],'wb').write(f(d))"
        );
        if program == "zstd" {
            std::fs::write(&packed, zstd::encode_all(std::fs::File::open(&tar).unwrap(), 3).unwrap()).unwrap();
        } else {
            let mut python = house.command("/usr/bin/python3");
            python.arg("-c").arg(script).arg(&tar).arg(&packed);
            strata_tests::Running::spawn(python).finish().ok();
        }
        house.ctl(&["import", packed.to_str().unwrap(), program]).ok();

        assert_eq!(layers(program), expected, "{program}");
        house.ctl(&["run", "--rm", program, "/guest", "noop"]).ok();
    }
}

#[test]
fn a_tar_on_standard_input_is_an_image_too() {
    let house = House::start();

    house.ctl_with(&["import", "-", "piped:1"], &Tar::of_guest().bytes()).ok();

    house.ctl(&["run", "--rm", "piped:1", "/guest", "noop"]).ok();
}

#[test]
fn a_tag_is_a_further_name_and_removing_one_keeps_the_others() {
    let house = House::with_guest();

    house.ctl(&["tag", "guest", "other:v2"]).ok();
    let ids = house.ctl(&["images", "-q"]).ok();
    let ids: Vec<&str> = ids.stdout.lines().collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    house.ctl(&["rmi", "guest"]).ok().says(&["Untagged: guest:latest"]);
    house.ctl(&["run", "--rm", "other:v2", "/guest", "noop"]).ok();
    house.ctl(&["run", "--rm", ids[0], "/guest", "noop"]).ok();
    house.ctl(&["rmi", "other:v2"]).ok().says(&["Untagged: other:v2", "Deleted: sha256:"]);
    house.ctl(&["run", "--rm", "other:v2", "/guest", "noop"]).code(125);
    house.ctl(&["tag", "no-such", "x"]).fails().complains(&["no-such"]);
    house.ctl(&["rmi", "no-such"]).fails().complains(&["no-such"]);
    house.ctl(&["import", "/etc/hostname", "Not A Name"]).fails();
    house.ctl(&["import", "/etc/passwd", "no:1"]).fails().complains(&["/etc/passwd: "]);
}

#[test]
fn the_image_group_is_the_same_commands() {
    let house = House::with_guest();
    let tar = Tar::of_guest().file("more", 0o644, b"more").write(house.path("more.tar"));

    let id = house.ctl(&["image", "import", tar.to_str().unwrap(), "more:1"]).ok().text().to_owned();
    house.ctl(&["image", "tag", "more:1", "more:2"]).ok();
    // Without the age, which changes from one second to the next.
    let columns = ["--format", "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Size}}"];
    let listed = |words: &[&str]| house.ctl(&[words, &columns].concat()).ok().stdout;
    assert_eq!(listed(&["image", "ls"]), listed(&["images"]));
    assert_eq!(house.ctl(&["image", "list", "-q", "more"]).ok().stdout.lines().count(), 2);
    assert_eq!(house.ctl(&["image", "inspect", "-f", "{{.Id}}", "more:1"]).ok().text(), id);
    assert_eq!(house.ctl(&["image", "history", "-q", "--no-trunc", "more:1"]).ok().text(), id);
    let saved = house.path("saved.tar");
    house.ctl(&["image", "save", "-o", saved.to_str().unwrap(), "more:1"]).ok();
    house.ctl(&["image", "rm", "more:1"]).ok().says(&["Untagged: more:1"]);
    house.ctl(&["image", "remove", "more:2"]).ok().says(&["Deleted: "]);
    house.ctl(&["image", "load", "-i", saved.to_str().unwrap()]).ok().says(&["Loaded image: more:1"]);
    house.ctl(&["image", "pull", "nowhere.invalid/x"]).fails();
    house.ctl(&["image", "push", "more:1"]).fails();
    house.ctl(&["image", "inspect", "none"]).fails().complains(&["none"]);
    house.ctl(&["import", tar.to_str().unwrap()]).ok();

    house.ctl(&["image", "prune", "-f"]).ok().says(&["Total reclaimed space"]);
    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout.lines().count(), 2, "what has a name stays");
    house.ctl(&["run", "--name", "user", "guest", "/guest", "noop"]).ok();
    house.ctl(&["image", "prune", "-af"]).ok().says(&["untagged: more:1"]);
    assert_eq!(house.ctl(&["image", "ls", "--format", "{{.Repository}}"]).ok().text(), "guest");
    house.ctl(&["rm", "user"]).ok();
}

#[test]
fn images_are_filtered_and_printed_by_templates() {
    let house = House::with_guest();
    let tar = Tar::of_guest().file("more", 0o644, b"more").write(house.path("more.tar"));
    let tar = tar.to_str().unwrap();
    house.ctl(&["import", "-c", "LABEL team=red", tar, "reg.example:5000/team/app:1"]).ok();
    house.ctl(&["tag", "reg.example:5000/team/app:1", "app:2"]).ok();
    let nameless = house.ctl(&["import", "-c", "LABEL team=", tar]).ok().text().to_owned();
    let names = |flags: &[&str]| {
        let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        let listed = house.ctl(&[&format, flags].concat()).ok();
        let mut lines: Vec<String> = listed.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let all = ["<none>:<none>", "app:2", "guest:latest", "reg.example:5000/team/app:1"];

    for (flags, expected) in [
        (&[][..], &all[..]),
        (&["-a"], &all),
        (&["app"], &["app:2"]),
        (&["*e*"], &["guest:latest"]),
        (&["--filter", "reference=reg.example:5000/*/*"], &["reg.example:5000/team/app:1"]),
        (&["-f", "reference=guest", "-f", "reference=app:*"], &["app:2", "guest:latest"]),
        (&["--filter", "dangling=true"], &["<none>:<none>"]),
        (&["--filter", "label=team"], &["<none>:<none>", "app:2", "reg.example:5000/team/app:1"]),
        (&["--filter", "label=team=red"], &["app:2", "reg.example:5000/team/app:1"]),
        (&["--filter", "label=none"], &[]),
        (&["--filter", "before=app:2"], &["guest:latest"]),
        (&["--filter", "since=guest", "--filter", "dangling=false"], &["app:2", "reg.example:5000/team/app:1"]),
        (&["--filter", "until=24h"], &[]),
    ] {
        assert_eq!(names(flags), expected, "{flags:?}");
    }
    let full = house.ctl(&["images", "--no-trunc", "--digests", "--filter", "dangling=true"]).ok();
    full.says(&[&nameless, "DIGEST"]);
    let table = house.ctl(&["images", "--format", "table {{.ID}}\t{{.CreatedSince}}", "guest"]).ok();
    assert!(table.stdout.starts_with("IMAGE ID ") && table.stdout.contains(" CREATED\n"), "{table:?}");
    house.ctl(&["images", "--format", "json", "guest"]).ok().says(&["\"Repository\":\"guest\""]);
    house.ctl(&["images", "--format", "{{.Repo}}"]).code(125).complains(&[".Repo", "Repository"]);
    house.ctl(&["images", "--filter", "size=3"]).code(125).complains(&["size=3", "dangling"]);
    house.ctl(&["images", "--filter", "before=none"]).fails().complains(&["none"]);
    house.ctl(&["images", "["]).code(125).complains(&["["]);
    house.ctl(&["history", "--format", "{{.Comment}}", "guest"]).ok().says(&["Imported from -"]);
    house.ctl(&["inspect", "-f", "{{json .Config.Labels}}", "app:2"]).ok().says(&["{\"team\":\"red\"}"]);
}

#[test]
fn an_import_is_changed_on_its_way() {
    let house = House::start();
    let tar = Tar::of_guest().write(house.path("guest.tar"));
    let tar = tar.to_str().unwrap();

    house
        .ctl(&[
            "import",
            "--change",
            "ENTRYPOINT [\"/guest\"]",
            "-c",
            "CMD [\"noop\"]",
            "-c",
            "ENV A=1",
            "-m",
            "from a tar",
            tar,
            "app:1",
        ])
        .ok();

    house.ctl(&["run", "--rm", "app:1"]).ok();
    let shown = house.ctl(&["inspect", "app:1"]).ok().json();
    assert_eq!((&shown[0]["Config"]["Env"][0], &shown[0]["Comment"]), (&"A=1".into(), &"from a tar".into()));
    house.ctl(&["import", "--platform", "linux/arm64", tar, "arm:1"]).ok();
    let shown = house.ctl(&["inspect", "arm:1"]).ok().json();
    assert_eq!((&shown[0]["Os"], &shown[0]["Architecture"]), (&"linux".into(), &"arm64".into()));
    house.ctl(&["import", "-c", "RUN true", tar, "bad:1"]).code(125).complains(&["RUN", "WORKDIR"]);
    house.ctl(&["import", "--platform", "a/b/c/d", tar, "bad:1"]).code(125).complains(&["--platform"]);
    let url = "http://example.invalid/root.tar";
    house.ctl(&["import", url, "bad:1"]).code(125).complains(&[url, "curl"]);
    house.ctl(&["inspect", "bad:1"]).fails();
}

#[test]
fn an_image_in_use_stays() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--name", "user", "guest", "/guest", "sleep", "60"]).ok();

    house.ctl(&["rmi", "guest"]).fails().complains(&["guest"]);

    house.ctl(&["rm", "-f", "user"]).ok();
    house.ctl(&["rmi", "guest"]).ok();
    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout, "");
}

#[test]
fn a_damaged_store_is_named_by_verify() {
    let house = House::with_guest();
    house.verify();
    house.stop();
    let layers = house.root().join("store/layers");
    // In an image of the layer the file is most of all, and in the middle.
    let image = || std::fs::read_dir(&layers).unwrap().flatten().map(|entry| entry.path()).find(|path| path.is_file());
    let guest = find(&layers, "guest").or_else(image).expect("the layer is unpacked in the store");

    let mut bytes = std::fs::read(&guest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&guest, bytes).unwrap();

    house.ctl(&["system", "verify"]).fails();
    let said = house.ctl(&["system", "verify"]).fails();
    assert!(said.both().contains("guest") && said.both().contains("layer"), "{said:?}");
}

fn find(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        if entry.file_name() == name && entry.file_type().ok()?.is_file() {
            return Some(entry.path());
        }
        if entry.file_type().ok()?.is_dir()
            && let Some(found) = find(&entry.path(), name)
        {
            return Some(found);
        }
    }
    None
}
