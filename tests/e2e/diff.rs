//! `ctl diff`: what a container changed of its image, running or not.

use strata_tests::House;

fn diff(house: &House, container: &str) -> Vec<String> {
    house.ctl(&["diff", container]).ok().text().lines().map(str::to_owned).collect()
}

#[test]
fn diff_tells_what_was_added_changed_and_deleted() {
    let house = House::with_guest();
    let context = strata_tests::Context::new(
        "FROM guest\nRUN [\"/guest\", \"then\", \"mkdir\", \"/etc/app/sub\", \"+\", \"write\", \"/etc/app/conf\", \"x\", \
         \"+\", \"write\", \"/etc/app/old\", \"x\", \"+\", \"write\", \"/etc/app/sub/kept\", \"x\"]\n",
    );
    house.build(&context, "app").ok();
    house.ctl(&["create", "--name", "new", "app", "/guest"]).ok();
    assert_eq!(diff(&house, "new"), [""; 0]);
    let run = ["run", "-d", "--name", "box", "-v", "state:/volume/here", "--tmpfs", "/memory", "app", "/guest"];
    house.ctl(&[&run[..], &["sleep", "300"]].concat()).ok();
    assert_eq!(diff(&house, "box"), [""; 0], "mounts and their mount points are no change");
    for change in [
        &["write", "/etc/app/conf", "changed"][..],
        &["rm", "/etc/app/old"],
        &["mkdir", "/data/deep"],
        &["write", "/data/deep/file", "x"],
        &["write", "/volume/here/file", "x"],
    ] {
        house.ctl(&[&["exec", "box", "/guest"], change].concat()).ok();
    }

    let expected = ["A /data", "A /data/deep", "A /data/deep/file", "C /etc/app", "C /etc/app/conf", "D /etc/app/old"];
    assert_eq!(diff(&house, "box"), expected);
    house.ctl(&["stop", "-t", "0", "box"]).ok();
    assert_eq!(diff(&house, "box"), expected, "it does not run any more");
    house.ctl(&["start", "box"]).ok();
    house.ctl(&["container", "mount", "box", "--tmpfs", "/late/mount"]).ok();
    assert_eq!(diff(&house, "box"), expected, "mount points of another run and of a late mount are known too");
    house.ctl(&["rm", "-f", "box", "new"]).ok();
    house.ctl(&["diff", "absent"]).fails().complains(&["absent"]);
}
