use super::*;

fn made(make: impl FnOnce(&Path)) -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a directory can be made");
    make(place.path());
    place
}

/// CVE-2026-33748: a sub-directory that leads out of the checkout.
#[test]
fn row_100_every_part_of_a_directory_is_a_directory() {
    let place = made(|top| {
        fs::create_dir_all(top.join("a/b")).expect("directories can be made");
        fs::create_dir(top.join(".git")).expect("directories can be made");
        fs::write(top.join("a/file"), "").expect("files can be written");
        for (link, to) in [("out", "/etc"), ("up", ".."), ("here", "a"), ("a/up", "../.."), ("loop", "loop")] {
            std::os::unix::fs::symlink(to, top.join(link)).expect("links can be made");
        }
    });
    let top = place.path();

    assert_eq!(inside(top, "").expect("the whole"), top);
    assert_eq!(inside(top, "a/b").expect("it is there"), top.join("a/b"));
    for refused in [
        "out",
        "out/passwd",
        "up",
        "up/x",
        "here",
        "here/b",
        "a/up",
        "a/up/a",
        "loop",
        "loop/x",
        "a/file",
        "a/file/x",
        "none",
        "a/none",
        "..",
        "../x",
        "a/../..",
        ".git",
        "a/../.git",
    ] {
        assert!(inside(top, refused).is_err(), "{refused}");
    }
    let said = inside(top, "here/b").expect_err("a link").to_string();
    assert!(said.contains("\"here\"") && said.contains("\"here/b\""), "{said}");
}

/// Links of a repository stay links: nothing is read through them.
#[tokio::test]
async fn row_98_links_of_a_repository_stay_links() {
    let place = made(|top| {
        fs::create_dir_all(top.join("d/.git")).expect("directories can be made");
        fs::create_dir(top.join(".git")).expect("directories can be made");
        fs::write(top.join(".git/config"), "x").expect("files can be written");
        fs::write(top.join("run"), "#!").expect("files can be written");
        fs::set_permissions(top.join("run"), fs::Permissions::from_mode(0o700)).expect("modes can be set");
        fs::write(top.join("d/lfs"), [POINTER, b"oid sha256:1\nsize 1\n"].concat()).expect("files can be written");
        fs::set_permissions(top.join("d/lfs"), fs::Permissions::from_mode(0o666)).expect("modes can be set");
        std::os::unix::fs::symlink("/etc", top.join("etc")).expect("links can be made");
    });
    let list = |tree: &Tree| -> Vec<(String, Option<u32>)> {
        tree.entries.iter().map(|entry| (String::from_utf8_lossy(&entry.below).into_owned(), entry.mode)).collect()
    };

    let tree = Tree::read(place.path().to_owned(), "", false).await.expect("it can be read");
    let whole = Tree::read(place.path().to_owned(), "", true).await.expect("it can be read");

    let expected = [("d", Some(0o755)), ("d/lfs", Some(0o644)), ("etc", None), ("run", Some(0o755))]
        .map(|(p, m)| (p.to_owned(), m));
    assert_eq!(list(&tree), expected);
    assert_eq!(tree.pointers, ["d/lfs"]);
    assert!(list(&whole).iter().any(|(path, _)| path == ".git/config"), "{:?}", list(&whole));
    assert!(list(&whole).iter().any(|(path, _)| path == "d/.git"), "{:?}", list(&whole));
}
