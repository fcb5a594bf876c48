//! What of the disk is used, and what is given back: `system df` and the filters of `prune`.

use strata_tests::House;

/// A row of `system df`: total, active, size, reclaimable.
fn row(house: &House, kind: &str) -> Vec<String> {
    let template = "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}";
    let shown = house.ctl(&["system", "df", "--format", template]).ok();
    let line =
        shown.text().lines().find(|line| line.starts_with(&format!("{kind}|"))).unwrap_or_else(|| panic!("{kind}"));
    line.split('|').skip(1).map(str::to_owned).collect()
}

#[test]
fn df_says_what_there_is_and_what_can_go() {
    let house = House::with_guest();
    house.ctl(&["tag", "guest", "again"]).ok();
    let context = strata_tests::Context::new("FROM guest\nRUN [\"/guest\", \"fill\", \"/large\", \"5000000\"]\n");
    house.build(&context, "large").ok();
    house.ctl(&["run", "-d", "--name", "up", "-v", "used:/data", "guest", "/guest", "sleep", "300"]).ok();
    house.ctl(&["run", "--name", "over", "guest", "/guest", "fill", "/written", "3000000"]).ok();
    house.ctl(&["volume", "create", "idle"]).ok();
    house.ctl(&["run", "--rm", "-v", "idle:/data", "guest", "/guest", "fill", "/data/file", "2000000"]).ok();

    let images = row(&house, "Images");
    assert_eq!(images[..2], ["2", "1"]);
    assert!(images[3].starts_with("5MB (") || images[3].starts_with("5.01MB ("), "{images:?}");
    let containers = row(&house, "Containers");
    assert_eq!(containers[..2], ["2", "1"]);
    assert!(containers[3].starts_with("3.0") || containers[3].starts_with("3MB"), "{containers:?}");
    let volumes = row(&house, "Local Volumes");
    assert_eq!(volumes[..2], ["2", "1"]);
    assert!(volumes[3].starts_with("2.0") || volumes[3].starts_with("2MB"), "{volumes:?}");
    house.ctl(&["system", "df"]).ok().says(&["TYPE", "RECLAIMABLE", "Build Cache"]);
    house.ctl(&["system", "df", "-v"]).ok().says(&[
        "Images space usage:",
        "UNIQUE SIZE",
        "over",
        "idle",
        "Build cache usage:",
    ]);
    house.ctl(&["system", "df", "-v", "--format", "json"]).code(125);
    let sizes = house.ctl(&["ps", "-a", "--filter", "name=over", "--format", "{{.Size}}"]).ok().text().to_owned();
    assert!(sizes.starts_with('3') && sizes.contains("MB (virtual "), "{sizes}");
    house.ctl(&["ps", "-as"]).ok().says(&["SIZE", &sizes]);
    assert!(!house.ctl(&["ps", "-a"]).ok().text().contains("SIZE"));
    let written = house.ctl(&["inspect", "-s", "-f", "{{.SizeRw}}", "over"]).ok().text().to_owned();
    assert!((3_000_000..4_000_000).contains(&written.parse::<u64>().unwrap()), "{written}");
    house.ctl(&["rm", "-f", "up", "over"]).ok();
    house.ctl(&["volume", "rm", "used", "idle"]).ok();
}

#[test]
fn prune_takes_what_its_filters_mean() {
    let house = House::with_guest();
    for (name, label) in [("kept", "keep"), ("one", "tier=1"), ("two", "tier=2")] {
        house.ctl(&["create", "--name", name, "-l", label, "guest", "/guest"]).ok();
        let text =
            format!("FROM guest\nLABEL {}\n", if label.contains('=') { label.to_owned() } else { format!("{label}=") });
        house.build(&strata_tests::Context::new(&text), name).ok();
        house.ctl(&["network", "create", "--label", label, &format!("net-{name}")]).ok();
    }
    let left = |words: &[&str]| {
        let shown = house.ctl(words).ok();
        let mut names: Vec<String> = shown.text().lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    let containers = || left(&["ps", "-a", "--format", "{{.Names}}"]);
    let images = || left(&["images", "--format", "{{.Repository}}"]);
    let networks = || left(&["network", "ls", "--format", "{{.Name}}"]);

    house.ctl(&["container", "prune", "-f", "--filter", "until=1h"]).ok();
    assert_eq!(containers(), "kept one two");
    house.ctl(&["container", "prune", "-f", "--filter", "label=tier=1"]).ok();
    assert_eq!(containers(), "kept two");
    house.ctl(&["container", "prune", "-f", "--filter", "label!=keep", "--filter", "until=0s"]).ok();
    assert_eq!(containers(), "kept");

    house.ctl(&["image", "prune", "-af", "--filter", "until=1h"]).ok();
    assert_eq!(images(), "guest kept one two");
    house.ctl(&["image", "prune", "-af", "--filter", "label=tier=2"]).ok();
    assert_eq!(images(), "guest kept one");
    house.ctl(&["network", "prune", "-f", "--filter", "label=tier=1"]).ok();
    assert!(!networks().contains("net-one") && networks().contains("net-two"));

    house.ctl(&["system", "prune", "-af", "--filter", "label!=keep"]).ok();
    assert_eq!(containers(), "kept");
    assert_eq!(images(), "guest kept", "a container uses the guest");
    assert!(networks().contains("net-kept") && !networks().contains("net-two"));
    house.ctl(&["system", "prune", "-f", "--volumes", "--filter", "until=1h"]).code(125).complains(&["until"]);
    house.ctl(&["image", "prune", "-f", "--filter", "name=x"]).code(125).complains(&["name=x", "label"]);
    house.ctl(&["system", "prune", "-af"]).ok();
    assert_eq!((containers(), images()), (String::new(), String::new()));
    assert!(!networks().contains("net-"));
}
