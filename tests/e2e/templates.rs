//! `--format`: Go's templates over lists and over what `inspect` shows, with the fields that Docker's users know.

use strata_tests::House;

#[test]
fn lists_are_printed_by_templates_in_columns_raw_and_as_json() {
    let house = House::with_network();
    let made = [
        "create",
        "--network",
        "none",
        "--name",
        "web",
        "-l",
        "team=red",
        "-l",
        "live",
        "-v",
        "data:/d",
        "guest",
        "/guest",
    ];
    house.ctl(&made).ok();
    house.ctl(&["network", "create", "--label", "team=blue", "back"]).ok();
    for (args, expected) in [
        (&["ps", "-a", "--format", "{{.Names}} {{.Label \"team\"}} {{.State}}"][..], "web red created"),
        (&["ps", "-a", "--format", "{{if eq .State \"created\"}}{{upper .Names}}{{else}}-{{end}}"], "WEB"),
        (
            &["ps", "-a", "--format", "{{range $i, $l := split .Labels \",\"}}{{if $i}}+{{end}}{{$l}}{{end}}"],
            "live=+team=red",
        ),
        (&["ps", "-a", "--format", "{{printf \"%-6s|\" .Names}}"], "web   |"),
        (&["ps", "-a", "--format", "table {{.Names}}\t{{.Label \"team\"}}"], "NAMES   TEAM\nweb     red"),
        (&["ps", "-a", "--format", "table {{.Names}}\t{{.State}}"], "NAMES   STATE\nweb     created"),
        (&["images", "--format", "table {{.Repository}}\t{{.Tag}}"], "REPOSITORY   TAG\nguest        latest"),
        (&["network", "ls", "-f", "label=team", "--format", "{{.Name}}:{{.Label \"team\"}}"], "back:blue"),
        (&["network", "ls", "-f", "type=custom", "--format", "{{json .Labels}}"], "\"team=blue\""),
        (&["volume", "ls", "--format", "raw"], "name: data\ndriver: local"),
        (&["volume", "ls", "--format", "table {{.Name}}"], "VOLUME NAME\ndata"),
    ] {
        assert_eq!(house.ctl(args).ok().text().trim_end(), expected, "{args:?}");
    }
    house.ctl(&["ps", "-a", "--format", "raw"]).ok().says(&[
        "names: web\n",
        "state: created\n",
        "labels: live=,team=red\n",
    ]);
    let json = house.ctl(&["ps", "-a", "--format", "json"]).ok().json();
    assert_eq!((&json["Names"], &json["Labels"]), (&"web".into(), &"live=,team=red".into()), "{json:#}");
    for (format, words) in [
        ("{{.Nmes}}", &["column 3", "no field .Nmes", "did you mean .Names?"][..]),
        ("{{if .Names}}", &["if has no end"]),
        ("{{jsn .}}", &["did you mean json?"]),
        ("{{range 99999}}{{range 99999}}{{end}}{{end}}", &["more than 1000000 steps"]),
    ] {
        house.ctl(&["ps", "-a", "--format", format]).code(125).complains(words);
    }
}

#[test]
fn inspect_has_the_fields_that_scripts_ask_for() {
    let house = House::with_guest();
    house
        .ctl(&[
            "import",
            "-c",
            "LABEL team=red",
            "-c",
            "CMD [\"/guest\", \"noop\"]",
            house.path("guest.tar").to_str().unwrap(),
            "app",
        ])
        .ok();
    let flags = ["-v", "data:/d:ro", "-e", "A=1", "-p", "127.0.0.1:18087:80", "--add-host", "db:10.0.0.1"];
    house.ctl(&[&["create", "--network", "host", "--name", "web", "-l", "own=1"], &flags[..], &["app"]].concat()).ok();
    for (format, expected) in [
        (
            "{{.Name}} {{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}}",
            "/web created false false 0",
        ),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{.Config.Image}} {{.Config.Cmd}} {{.Config.Entrypoint}}", "app [/guest noop] []"),
        ("{{index .Config.Labels \"team\"}}{{.Config.Labels.own}}{{.Config.Labels.other}}", "red1<no value>"),
        ("{{range .Config.Env}}{{if eq (slice . 0 2) \"A=\"}}{{.}}{{end}}{{end}}", "A=1"),
        ("{{(index (index .HostConfig.PortBindings \"80/tcp\") 0).HostPort}}", "18087"),
        ("{{range $port, $config := .Config.ExposedPorts}}{{$port}}{{end}}", "80/tcp"),
        ("{{join .HostConfig.Binds \" \"}} {{.HostConfig.ExtraHosts}}", "data:/d:ro [db:10.0.0.1]"),
        ("{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}", "volume data /d false"),
        ("{{.HostConfig.NetworkMode}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.CapAdd}}", "host no []"),
        ("{{json .NetworkSettings.Ports}}", "{}"),
    ] {
        assert_eq!(house.ctl(&["inspect", "-f", format, "web"]).ok().text(), expected, "{format}");
    }
    let image =
        "{{.RepoTags}} {{.RootFS.Type}} {{len .RootFS.Layers}} {{.Config.User}} {{.Architecture}}/{{.Os}} {{.Author}}";
    house.ctl(&["inspect", "--type", "image", "-f", image, "app"]).ok().says(&["[app:latest] layers 1  ", "/linux"]);
}

#[test]
fn inspect_finds_containers_images_networks_and_volumes_by_their_names() {
    let house = House::with_network();
    house.ctl(&["network", "create", "back"]).ok();
    house.ctl(&["volume", "create", "data"]).ok();
    house.ctl(&["create", "--network", "none", "--name", "web", "guest", "/guest"]).ok();
    let name = "{{if .Name}}{{.Name}}{{else}}{{index .RepoTags 0}}{{end}}";

    let shown = house.ctl(&["inspect", "-f", name, "web", "guest", "back", "data"]).ok();

    assert_eq!(shown.text(), "/web\nguest:latest\nback\ndata");
    for (kind, own, other) in [("network", "back", "web"), ("volume", "data", "back"), ("image", "guest", "data")] {
        assert_eq!(house.ctl(&["inspect", "--type", kind, own]).ok().json().as_array().map(Vec::len), Some(1));
        house.ctl(&["inspect", "--type", kind, other]).fails().complains(&[other]);
    }
    assert_eq!(house.ctl(&["network", "inspect", "-f", "{{.Driver}}", "host", "back"]).ok().text(), "host\nbridge");
    let mixed = house.ctl(&["inspect", "web", "nothing"]).fails();
    mixed.complains(&["no container, image, network or volume \"nothing\""]);
    house.ctl(&["inspect", "--type", "planet", "web"]).code(125).complains(&["container, image, network, volume"]);
}
