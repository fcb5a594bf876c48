//! `ctl search`: Docker Hub, for which a mirror stands that searches, and registries that list what they have.

use strata_tests::{Answer, DockerRegistry, FaultyRegistry, House, Tar};

/// A description that acts on a terminal and is longer than a column.
const DESCRIPTION: &str = r"evil \u001b[2J\nand long enough to be cut somewhere behind its fortieth letter";

/// A house for whose Docker Hub a registry stands that answers searches.
fn with_hub() -> (House, FaultyRegistry) {
    let results = format!(
        r#"{{"results":[{{"name":"debian","description":"the system","star_count":5000,"is_official":true}},
        {{"name":"team/debian","description":"{DESCRIPTION}","star_count":3,"is_automated":true}}]}}"#
    );
    let hub = FaultyRegistry::start(vec![], move |asked, answer| match asked.target.starts_with("/v1/search?") {
        true => Answer::new(200).body(results.clone()),
        false => answer,
    });
    let house = House::start();
    let mirror = format!("mirrors = [\"{}\"]\nmirrors_only = true\n", hub.host());
    house.configure(&format!("[registries]\nattempts = 1\n[registries.host.\"docker.io\"]\n{mirror}"));
    (house, hub)
}

#[test]
fn docker_hub_is_searched_and_shown_as_docker_shows_it() {
    let (house, hub) = with_hub();

    let shown = house.ctl(&["search", "debian"]).ok();

    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{shown:?}");
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]);
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["debian", "the", "system", "5000", "[OK]"]);
    assert!(lines[2].contains('…') && lines[2].trim_end().ends_with(" 3"), "{}", lines[2]);
    assert!(!shown.stdout.contains('\u{1b}'), "{shown:?}");
    let asked = hub.asked().last().expect("it was asked").target.clone();
    assert!(asked.contains("q=debian") && asked.contains("n=25"), "{asked}");
    let whole = house.ctl(&["search", "--no-trunc", "--limit", "7", "debian"]).ok();
    whole.says(&["and long enough to be cut somewhere behind its fortieth letter"]);
    assert!(hub.asked().last().expect("it was asked").target.contains("n=7"));
}

#[test]
fn what_was_found_is_filtered_and_formatted() {
    let (house, _hub) = with_hub();
    let names = |flags: &[&str]| {
        let words = [&["search", "--format", "{{.Name}}"], flags, &["debian"]].concat();
        house.ctl(&words).ok().text().to_owned()
    };

    assert_eq!(names(&[]), "debian\nteam/debian");
    assert_eq!(names(&["--filter", "is-official=true"]), "debian");
    assert_eq!(names(&["-f", "is-official=false", "-f", "stars=3"]), "team/debian");
    assert_eq!(names(&["-f", "is-automated=true"]), "team/debian");
    assert_eq!(names(&["-f", "stars=4", "-f", "is-automated=true"]), "");
    let json = house.ctl(&["search", "--format", "json", "-f", "is-official=true", "debian"]).ok().json();
    assert_eq!(
        (&json["Name"], &json["StarCount"], &json["IsOfficial"]),
        (&"debian".into(), &"5000".into(), &"true".into())
    );
    let table = house.ctl(&["search", "--format", "table {{.Name}}\t{{.IsOfficial}}", "debian"]).ok();
    assert_eq!(
        table.stdout.lines().next().map(|line| line.split_whitespace().collect()),
        Some(vec!["NAME", "OFFICIAL"])
    );
    for (words, complaint) in [
        (&["search", "-f", "name=x", "debian"][..], "is-automated, is-official, stars"),
        (&["search", "-f", "stars=many", "debian"], "a number is expected"),
        (&["search", "--limit", "101", "debian"], "101"),
        (&["search", "docker.io/"], "Docker Hub"),
        (&["search", "https://reg.example/x"], "URL"),
    ] {
        house.ctl(words).code(125).complains(&[complaint]);
    }
}

#[test]
fn what_a_registry_lists_is_searched_and_can_be_pulled_by_the_name_that_is_shown() {
    let (house, registry) = (House::start(), DockerRegistry::open());
    let tar = Tar::default().file("word", 0o644, b"one").write(house.path("one.tar"));
    for name in ["team/words:latest", "other:latest"] {
        let full = registry.image(name);
        house.ctl(&["import", tar.to_str().unwrap(), &full]).ok();
        house.ctl(&["push", "-q", &full]).ok();
        house.ctl(&["rmi", &full]).ok();
    }
    let names =
        |term: &str| house.ctl(&["search", "--format", "{{.Name}}", &registry.image(term)]).ok().text().to_owned();

    let found = names("words");

    assert_eq!(found, registry.image("team/words"));
    house.ctl(&["pull", "-q", &found]).ok();
    assert_eq!(names("").lines().count(), 2);
    assert_eq!(names("nothing-like-it"), "");
    house.ctl(&["search", "127.0.0.1:9/words"]).code(1).complains(&["cannot search registry 127.0.0.1:9"]);
}

#[test]
fn a_registry_that_wants_to_know_who_asks_says_how_to_log_in() {
    let (house, registry) = (House::start(), DockerRegistry::closed());
    let name = registry.image("words");
    let tar = Tar::default().file("word", 0o644, b"one").write(house.path("one.tar"));

    house.ctl(&["search", &name]).code(1).complains(&["ctl login"]);
    let login = ["login", "-u", DockerRegistry::USER, "-p", DockerRegistry::PASSWORD];
    house.ctl(&[&login[..], &[&registry.host()]].concat()).ok();
    house.ctl(&["import", tar.to_str().unwrap(), &name]).ok();
    house.ctl(&["push", "-q", &name]).ok();

    assert_eq!(house.ctl(&["search", "--format", "{{.Name}}", &name]).ok().text(), name);
}
