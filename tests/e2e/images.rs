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
    let history = house.ctl(&["history", "guest"]).ok();
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
