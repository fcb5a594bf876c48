//! COPY and ADD: what arrives, where, and as whose, seen in the files of the result.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use strata_tests::{Context, House, Steps, Went};

/// The files of a build's result by path, where equal files of several layers may be one: type, mode, owner, and what is in them.
pub(crate) fn files(house: &House, context: &Context, flags: &[&str]) -> BTreeMap<String, String> {
    listed(house, context, flags).into_iter().map(|(path, (line, _))| (path, line)).collect()
}

/// The files of a build's result, and their times.
fn listed(house: &House, context: &Context, flags: &[&str]) -> BTreeMap<String, (String, u64)> {
    let out = house.path("result.tar");
    let dest = format!("type=tar,dest={}", out.display());
    house.ctl(&[&["build", "-o", &dest], flags, &[context.arg()]].concat()).ok();
    let mut archive = tar::Archive::new(fs::File::open(&out).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_end_matches('/').to_owned();
        let header = entry.header();
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let (kind, time) = (header.entry_type(), header.mtime().unwrap());
        let link = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
        let mut attributes = String::new();
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            if let Some(name) = extension.key().unwrap_or_default().strip_prefix("SCHILY.xattr.") {
                attributes += &format!(" {name}={}", String::from_utf8_lossy(extension.value_bytes()));
            }
        }
        let mut text = String::new();
        let line = match kind {
            tar::EntryType::Directory => format!("d {mode:o} {uid}:{gid}{attributes}"),
            tar::EntryType::Symlink => format!("l {uid}:{gid} {link}"),
            tar::EntryType::Link => format!("h {link}"),
            tar::EntryType::Fifo => format!("p {mode:o} {uid}:{gid}"),
            _ => {
                entry.read_to_string(&mut text).unwrap();
                format!("f {mode:o} {uid}:{gid} {text}{attributes}")
            }
        };
        if path != "." {
            found.insert(path, (line, time));
        }
    }
    found
}

pub(crate) fn lines(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(path, line)| ((*path).to_owned(), (*line).to_owned())).collect()
}

/// Gives a path a time in seconds.
fn touch(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn a_linked_copy_is_the_same_layer_on_any_base() {
    let house = House::with_guest();
    let dockerfile = |base: &str| {
        format!(
            "{base}COPY --link a /x/a\nCOPY --link --chown=5:6 --chmod=u=rw,go=r a /x/b\nCOPY --link <<EOF /x/c\nc\nEOF\n"
        )
    };
    let context = Context::new(&dockerfile("FROM guest\n")).file("a", "a");
    context.chmod("a", 0o640);
    house.build(&context, "one").ok();

    context.write("Dockerfile", dockerfile("FROM guest\nRUN [\"/guest\", \"write\", \"/x\", \"in the way\"]\n"));
    let steps = Steps::of(&house.build(&context, "two").ok());

    for step in ["COPY --link a /x/a", "COPY --link --chown", "COPY --link <<EOF"] {
        assert_eq!(steps.went(step), Went::Cached, "{step} in {steps:?}");
    }
    context.write("Dockerfile", format!("{}FROM scratch\nCOPY --from=two /x /x\n", dockerfile("FROM guest AS two\n")));
    let found = files(&house, &context, &[]);
    let expected = [("x", "d 755 0:0"), ("x/a", "f 640 0:0 a"), ("x/b", "f 644 5:6 a"), ("x/c", "f 644 0:0 c\n")];
    assert_eq!(found, lines(&expected));
    // What stands on it does depend on what is below.
    let run = "RUN [\"/guest\", \"noop\"]\n";
    context.write("Dockerfile", dockerfile("FROM guest\n") + run);
    house.build(&context, "three").ok();
    context.write("Dockerfile", dockerfile("FROM guest\nRUN [\"/guest\", \"write\", \"/y\", \"y\"]\n") + run);
    assert_eq!(Steps::of(&house.build(&context, "four").ok()).went("\"noop\""), Went::Done);
    house.verify();
}

#[test]
fn a_linked_copy_replaces_what_is_in_the_way_and_another_follows_links() {
    let house = House::with_guest();
    let base = "FROM scratch AS base\nCOPY base /\n";
    let context = Context::new("").file("base/real/kept", "k").file("a", "a").file("base/file", "f");
    std::os::unix::fs::symlink("real", context.path().join("base/link")).unwrap();
    std::os::unix::fs::symlink("real/later", context.path().join("base/dangling")).unwrap();

    context.write("Dockerfile", format!("{base}COPY a /link/\nCOPY --chmod=600 a /dangling\n"));
    let followed = files(&house, &context, &[]);
    context.write(
        "Dockerfile",
        format!("{base}COPY --link a /link/\nCOPY --link --chmod=600 a /dangling\nCOPY --link --chmod=700 a /file/b\n"),
    );
    let replaced = files(&house, &context, &[]);

    let expected = [
        ("dangling", "l 0:0 real/later"),
        ("file", "f 644 0:0 f"),
        ("link", "l 0:0 real"),
        ("real", "d 755 0:0"),
        ("real/a", "f 644 0:0 a"),
        ("real/kept", "f 644 0:0 k"),
        ("real/later", "f 600 0:0 a"),
    ];
    assert_eq!(followed, lines(&expected));
    let expected = [
        ("dangling", "f 600 0:0 a"),
        ("file", "d 700 0:0"),
        ("file/b", "f 700 0:0 a"),
        ("link", "d 755 0:0"),
        ("link/a", "f 644 0:0 a"),
        ("real", "d 755 0:0"),
        ("real/kept", "f 644 0:0 k"),
    ];
    assert_eq!(replaced, lines(&expected));
}

#[test]
fn times_names_links_attributes_and_pipes_of_a_context_arrive_as_they_are() {
    let house = House::with_guest();
    let context = Context::new("FROM scratch\nCOPY d /d\nCOPY single /single\n").file("d/a", "a").file("single", "s");
    context.write(".dockerignore", "d/ignored\n");
    let d = context.path().join("d");
    fs::write(d.join("ignored"), "i").unwrap();
    fs::hard_link(d.join("a"), d.join("b")).unwrap();
    fs::create_dir(d.join("sub")).unwrap();
    fs::hard_link(d.join("a"), d.join("sub/c")).unwrap();
    std::os::unix::fs::symlink("nowhere", d.join("l")).unwrap();
    fs::write(d.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "no text").unwrap();
    rustix::fs::mknodat(CWD, d.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    fs::set_permissions(d.join("pipe"), std::os::unix::fs::PermissionsExt::from_mode(0o620)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(d.join("socket")).unwrap();
    fs::set_permissions(d.join("socket"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    rustix::fs::setxattr(d.join("a"), "user.comment", b"mine", XattrFlags::empty()).unwrap();
    for (at, name) in ["a", "l", "sub"].iter().enumerate() {
        touch(&d.join(name), 1_000_000_000 + at as i64);
    }
    touch(&d, 1_100_000_000);
    touch(&context.path().join("single"), 1_200_000_000);

    let found = listed(&house, &context, &[]);

    let shown: BTreeMap<String, String> = found.iter().map(|(path, (line, _))| (path.clone(), line.clone())).collect();
    let expected = [
        ("d", "d 755 0:0"),
        ("d/a", "f 644 0:0 a user.comment=mine"),
        ("d/b", "h d/a"),
        ("d/l", "l 0:0 nowhere"),
        ("d/pipe", "p 620 0:0"),
        ("d/socket", "f 600 0:0 "),
        ("d/sub", "d 755 0:0"),
        ("d/sub/c", "h d/a"),
        ("d/\u{fffd}\u{fffd}", "f 644 0:0 no text"),
        ("single", "f 644 0:0 s"),
    ];
    assert_eq!(shown, lines(&expected));
    let time = |path: &str| found[path].1;
    assert_eq!([time("d/a"), time("d/l"), time("d/sub")], [1_000_000_000, 1_000_000_001, 1_000_000_002]);
    assert_eq!([time("d"), time("single")], [1_100_000_000, 1_200_000_000]);
}

#[test]
fn what_comes_from_a_stage_keeps_owners_times_and_hard_links() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM scratch AS one\nCOPY --chown=7:8 tree /tree\nFROM scratch\nCOPY --from=one /tree /copy\n\
         COPY --from=one --chown=3 --chmod=go-rwx /tree /owned/\nCOPY --from=one --chmod=600 /tree/a /single\n",
    )
    .file("tree/a", "a")
    .file("tree/sub/x", "x");
    let tree = context.path().join("tree");
    fs::hard_link(tree.join("a"), tree.join("sub/same")).unwrap();
    rustix::fs::setxattr(tree.join("sub"), "user.k", b"v", XattrFlags::empty()).unwrap();
    touch(&tree.join("a"), 1_000_000_000);

    let found = listed(&house, &context, &[]);

    let shown: BTreeMap<String, String> = found.iter().map(|(path, (line, _))| (path.clone(), line.clone())).collect();
    let expected = [
        // The destination is made on the way; what is in it is copied.
        ("copy", "d 755 0:0"),
        ("copy/a", "f 644 7:8 a"),
        ("copy/sub", "d 755 7:8 user.k=v"),
        ("copy/sub/same", "h copy/a"),
        ("copy/sub/x", "f 644 7:8 x"),
        ("owned", "d 755 3:3"),
        ("owned/a", "f 600 3:3 a"),
        ("owned/sub", "d 700 3:3 user.k=v"),
        ("owned/sub/same", "h owned/a"),
        ("owned/sub/x", "f 600 3:3 x"),
        ("single", "f 600 7:8 a"),
    ];
    assert_eq!(shown, lines(&expected));
    assert_eq!([found["copy/a"].1, found["owned/a"].1, found["single"].1], [1_000_000_000; 3]);
}

#[test]
fn directories_on_the_way_belong_to_the_owner_and_one_that_is_there_stays_as_it_is() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM scratch\nCOPY base /\nCOPY --chown=5:6 --chmod=750 f /new/dir/f\nCOPY --chown=5:6 d /there\nCOPY f /plain/dir/\n\
         COPY --chmod=a+x d /symbolic/\n",
    )
    .file("base/there/old", "o")
    .file("d/sub/x", "x")
    .file("f", "f");
    context.chmod("base/there", 0o711);
    context.chmod("d", 0o700);

    let found = files(&house, &context, &[]);

    let expected = [
        ("new", "d 750 5:6"),
        ("new/dir", "d 750 5:6"),
        ("new/dir/f", "f 750 5:6 f"),
        ("plain", "d 755 0:0"),
        ("plain/dir", "d 755 0:0"),
        ("plain/dir/f", "f 644 0:0 f"),
        ("symbolic", "d 755 0:0"),
        ("symbolic/sub", "d 755 0:0"),
        ("symbolic/sub/x", "f 755 0:0 x"),
        ("there", "d 711 0:0"),
        ("there/old", "f 644 0:0 o"),
        ("there/sub", "d 755 5:6"),
        ("there/sub/x", "f 644 5:6 x"),
    ];
    assert_eq!(found, lines(&expected));
}

#[test]
fn parents_and_excludes_choose_what_comes_of_a_context_and_of_a_stage() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM scratch AS all\nCOPY src /src\nFROM scratch\n\
         COPY --parents ./src/**/*.c /context/\nCOPY --from=all --parents --chown=1:1 ./src/**/*.c /stage/\n\
         COPY --parents src/./*/two /pivot/\nCOPY --from=all --exclude=**/*.c --exclude=one src /rest/\n\
         COPY --parents src/no*thing /nothing/\nADD --exclude=*.c src/one /added/\n",
    )
    .file("src/a.c", "a")
    .file("src/one/b.c", "b")
    .file("src/one/b.h", "h")
    .file("src/one/two/c.c", "c")
    .file("src/other/d.h", "d");
    context.chmod("src/one", 0o700);

    let found = files(&house, &context, &[]);

    let below = |top: &str| -> Vec<(String, String)> {
        let prefix = format!("{top}/");
        let inside =
            found.iter().filter_map(|(path, line)| Some((path.strip_prefix(&prefix)?.to_owned(), line.clone())));
        inside.collect()
    };
    let sources = [
        ("src", "d 755 0:0"),
        ("src/a.c", "f 644 0:0 a"),
        ("src/one", "d 700 0:0"),
        ("src/one/b.c", "f 644 0:0 b"),
        ("src/one/two", "d 755 0:0"),
        ("src/one/two/c.c", "f 644 0:0 c"),
    ]
    .map(|(path, line)| (path.to_owned(), line.to_owned()));
    assert_eq!(below("context"), sources.clone());
    assert_eq!(below("stage"), sources.map(|(path, line)| (path, line.replace("0:0", "1:1"))));
    let names = |top: &str| below(top).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(names("pivot"), ["one", "one/two", "one/two/c.c"]);
    assert_eq!(names("rest"), ["other", "other/d.h"]);
    assert_eq!(names("added"), ["b.h", "two", "two/c.c"]);
    assert_eq!(found["nothing"], "d 755 0:0");
}

#[test]
fn a_directory_goes_over_no_file_and_through_no_link_below_the_destination() {
    let house = House::with_guest();
    let context =
        Context::new("").file("file/x", "x").file("onto/link/y", "y").file("base/file", "f").file("base/dir/x", "x");
    std::os::unix::fs::symlink("dir", context.path().join("base/link")).unwrap();
    let fails = |copy: &str, words: &[&str]| {
        context.write("Dockerfile", format!("FROM scratch\nCOPY base /\n{copy}\n"));
        house.build(&context, "wrong").fails().complains(words);
    };

    fails("COPY file /file", &["Dockerfile:3", "/file is not a directory"]);
    fails("COPY base/file /dir/x/", &["Dockerfile:3", "/dir/x is not a directory"]);
    fails("COPY base/file /base\nCOPY onto /", &["Dockerfile:4", "/link is a symbolic link"]);
}

#[test]
fn a_missing_source_names_the_nearest_that_is_there() {
    let house = House::with_guest();
    let context = Context::new("").file("sources/main.c", "m").file("README.md", "r");
    let fails = |copy: &str, words: &[&str]| {
        context.write("Dockerfile", format!("FROM scratch AS a\nCOPY . /all/\nFROM scratch\n{copy}\n"));
        house.build(&context, "wrong").fails().complains(words);
    };

    fails(
        "COPY REAMDE.md /",
        &["Dockerfile:4", "\"REAMDE.md\" is not in the build context", "did you mean \"README.md\"?"],
    );
    fails("COPY source/main.c /", &["did you mean \"sources/main.c\"?"]);
    fails("COPY --from=a /all/sources/mian.c /", &["--from", "did you mean \"all/sources/main.c\"?"]);
    fails("COPY --parents sources/nothing /", &["\"sources/nothing\" is not in the build context"]);
}
