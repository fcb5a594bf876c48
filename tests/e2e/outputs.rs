//! `ctl build --output`, `--push`, `--metadata-file`: where the result goes, and what is said of it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use strata_tests::{Context, DockerRegistry, House};

fn context() -> Context {
    Context::new("FROM guest AS base\nFROM scratch\nCOPY --from=base /etc/passwd /kept/passwd\nCOPY words.txt /kept/\n")
        .file("words.txt", "words")
}

#[test]
fn the_files_go_to_a_directory_or_a_tar_and_no_image_is_made() {
    let house = House::with_guest();
    let context = context();
    let (directory, tar) = (house.path("out"), house.path("out.tar"));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("before"), "stays").unwrap();

    house.ctl(&["build", "-o", directory.to_str().unwrap(), context.arg()]).ok();
    let dest = format!("type=tar,dest={}", tar.display());
    house.ctl(&["build", "--output", &dest, "-t", "unmade", context.arg()]).ok();
    let piped = house
        .command("sh")
        .arg("-c")
        .arg(format!(
            "{} build -o - {} | tar -t",
            house.ctl_command(&[]).get_program().to_str().unwrap(),
            context.arg()
        ))
        .output()
        .unwrap();

    assert_eq!(fs::read_to_string(directory.join("kept/words.txt")).unwrap(), "words");
    assert_eq!(fs::metadata(directory.join("kept/passwd")).unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_eq!(fs::read_to_string(directory.join("before")).unwrap(), "stays");
    let listed = std::process::Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
    for names in [&listed.stdout, &piped.stdout] {
        let names = String::from_utf8_lossy(names);
        assert!(names.contains("kept/words.txt") && names.contains("kept/passwd"), "{names}");
    }
    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout.lines().count(), 1, "only the guest is there");
    house.verify();
}

#[test]
fn an_image_goes_to_an_archive_that_loads_again() {
    let house = House::with_guest();
    let context = context();
    let archive = house.path("app.tar");
    let layout = house.path("layout");

    let dest = format!("type=docker,dest={}", archive.display());
    house.ctl(&["build", "-t", "app:1", "-o", &dest, context.arg()]).ok();
    let dest = format!("type=oci,tar=false,dest={}", layout.display());
    house.ctl(&["build", "-t", "app:1", "-o", &dest, context.arg()]).ok();

    house.ctl(&["rmi", "app:1"]).ok();
    house.ctl(&["load", "-i", archive.to_str().unwrap()]).ok().says(&["Loaded image: app:1"]);
    assert!(layout.join("index.json").exists() && layout.join("oci-layout").exists());
}

#[test]
fn only_the_cache_is_filled_when_that_is_asked_for() {
    let house = House::with_guest();
    let context = context();

    house.ctl(&["build", "-t", "app", "-o", "type=cacheonly", context.arg()]).ok();

    assert_eq!(house.ctl(&["images", "-q", "app"]).ok().stdout, "");
    strata_tests::Steps::of(&house.build(&context, "app").ok()).all_cached();
}

#[test]
fn a_push_follows_the_build_and_the_metadata_say_what_the_registry_has() {
    let registry = DockerRegistry::open();
    let house = House::with_guest();
    let context = context();
    let name = registry.image("team/app:1");
    let file = house.path("metadata.json");

    let flags = ["build", "--progress", "plain", "--push", "-t", &name, "--metadata-file", file.to_str().unwrap()];
    let built = house.ctl(&[&flags[..], &[context.arg()]].concat()).ok();
    house.ctl(&["build", "--push", context.arg()]).code(125).complains(&["-t REGISTRY/NAME:TAG"]);

    assert!(built.stderr.contains(&format!("pushing {name}")), "{built:?}");
    assert!(built.stderr.contains("pushing layer sha256:"), "{built:?}");
    let told: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let image = house.ctl(&["inspect", &name]).ok().json();
    assert_eq!(told["containerimage.config.digest"], image[0]["Id"]);
    assert_eq!(told["image.name"], name.as_str());
    let shown = house.ctl(&["manifest", "inspect", &name]).ok();
    let descriptor = &told["containerimage.descriptor"];
    assert_eq!(descriptor["digest"], told["containerimage.digest"]);
    assert_eq!(descriptor["size"], shown.stdout.trim_end_matches('\n').len(), "{told:#}\n{shown:?}");
    assert!(told["buildx.build.ref"].as_str().is_some_and(|text| text.starts_with("default/default/")), "{told:#}");
}

#[test]
fn outputs_that_cannot_be_are_refused_before_anything_is_built() {
    let house = House::with_guest();
    let context = context();
    let iidfile = house.path("iid");

    for (flags, problem) in [
        (&["-o", "type=what"][..], "type=what is unknown"),
        (&["-o", "type=local"], "needs dest=PATH"),
        (&["-o", "type=image,compression-level=3"], "compression-level=3 is not available"),
        (&["-o", "-", "-o", "type=oci"], "only one --output"),
        (&["-o", "type=cacheonly", "--iidfile", iidfile.to_str().unwrap()], "--iidfile needs an image"),
        (&["--platform", "linux/amd64,linux/arm64"], "several platforms"),
        (&["--provenance", "mode=max"], "attestations are not available yet"),
        (&["--cache-to", "type=inline"], "the flag --cache-to of `ctl build` is not available yet"),
    ] {
        house.ctl(&[&["build"], flags, &[context.arg()]].concat()).code(125).complains(&[problem]);
    }
    let accepted =
        ["--provenance=false", "--sbom=false", "--rm", "--force-rm=true", "--compress", "--load", "--call=build"];
    house.ctl(&[&["buildx", "build"], &accepted[..], &[context.arg()]].concat()).ok();
    house.ctl(&["image", "build", "-t", "again", context.arg()]).ok();
    house.ctl(&["builder", "build", "-t", "again", context.arg()]).ok();
}

#[test]
fn stages_that_are_named_take_nothing_from_the_cache() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest AS one\nRUN [\"/guest\", \"write\", \"/a\", \"1\"]\nFROM guest AS two\nRUN [\"/guest\", \"write\", \"/b\", \"2\"]\n\
         FROM scratch\nCOPY --from=one /a /\nCOPY --from=two /b /\n",
    );
    house.build(&context, "app").ok();

    let flags = ["build", "--progress", "plain", "--no-cache-filter", "TWO,unknown", "-t", "app", context.arg()];
    let steps = strata_tests::Steps::of(&house.ctl(&flags).ok());

    assert_eq!(steps.went("\"/a\""), strata_tests::Went::Cached, "{steps:?}");
    assert_eq!(steps.went("\"/b\""), strata_tests::Went::Done, "{steps:?}");
}

#[test]
fn what_is_misspelt_or_missing_is_pointed_out() {
    let house = House::with_guest();
    let context = Context::new("FROM guesst\n");
    let other = Context::new("FROM guest AS builder\n");
    let empty = tempfile::tempdir_in("/var/tmp").unwrap();
    let empty = empty.path();

    house.ctl(&["build", "--pull=never", context.arg()]).code(1).complains(&["guesst", "did you mean guest?"]);
    house.ctl(&["build", "--target", "buidler", other.arg()]).code(1).complains(&["did you mean \"builder\"?"]);
    house.ctl(&["build", "--no-cach", other.arg()]).code(125).complains(&["did you mean --no-cache?"]);
    fs::write(empty.join("Containerfile"), "FROM guest\n").unwrap();
    house.ctl(&["build", empty.to_str().unwrap()]).code(1).complains(&["Dockerfile", "Containerfile` names the one"]);
    fs::write(empty.join("dockerfile"), "FROM guest\n").unwrap();
    house.ctl(&["build", empty.to_str().unwrap()]).ok();
    let file = empty.join("dockerfile");
    house.ctl(&["build", file.to_str().unwrap()]).code(1).complains(&["is not a directory", "-f FILE DIRECTORY"]);
}
