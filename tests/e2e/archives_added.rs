//! ADD of archives: known by their content, unpacked where they are local.

use std::io::Write;

use strata_tests::{Context, House, Tar};

use crate::copies::{files, lines};

fn tar() -> Vec<u8> {
    let tar = Tar::default().directory("d", 0o750).file("d/f", 0o640, b"inside");
    tar.bytes()
}

/// A program that compresses its input.
fn through(program: &str, bytes: &[u8]) -> Vec<u8> {
    use std::process::{Command, Stdio};
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

#[test]
fn archives_of_all_kinds_are_unpacked_whatever_their_names() {
    let house = House::with_guest();
    let kinds = ["plain", "gzip", "bzip2", "xz", "zstd"];
    let adds: String = kinds.iter().map(|kind| format!("ADD {kind}.txt /{kind}/\n")).collect();
    let context = Context::new(&format!("FROM scratch\n{adds}"));
    for kind in kinds {
        let bytes = if kind == "plain" { tar() } else { through(kind, &tar()) };
        context.write(&format!("{kind}.txt"), bytes);
    }

    let found = files(&house, &context, &[]);

    for kind in kinds {
        assert_eq!(found[kind], "d 755 0:0", "{kind}");
        assert_eq!(found[&format!("{kind}/d")], "d 750 0:0", "{kind}");
        assert_eq!(found[&format!("{kind}/d/f")], "f 640 0:0 inside", "{kind}");
    }
    assert_eq!(found.len(), 3 * kinds.len());
}

#[test]
fn an_archive_is_kept_where_that_is_asked_for_and_inside_a_directory() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM scratch\nADD --unpack=false a.tar /kept.tar\nADD dir /dir\nADD --chown=3:4 --chmod=700 a.tar /owned/\n\
         ADD --link a.tar /linked/\n",
    );
    context.write("a.tar", tar());
    context.write("dir/a.tar", "short");
    context.write("dir/b.tar", tar());

    let found = files(&house, &context, &[]);

    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let expected = [
        "dir",
        "dir/a.tar",
        "dir/b.tar",
        "kept.tar",
        "linked",
        "linked/d",
        "linked/d/f",
        "owned",
        "owned/d",
        "owned/d/f",
    ];
    assert_eq!(names, expected);
    let owned: Vec<(&str, &str)> = ["owned", "owned/d", "owned/d/f"].map(|path| (path, found[path].as_str())).to_vec();
    let expected = [("owned", "d 755 3:4"), ("owned/d", "d 750 3:4"), ("owned/d/f", "f 640 3:4 inside")];
    assert_eq!(lines(&owned), lines(&expected));
}
