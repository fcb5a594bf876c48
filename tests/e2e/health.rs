//! Health checks: what a container says of itself, how it is shown, what follows, and that a check leaves nothing behind.

use std::{fs, path::Path, thread, time::Duration};

use strata_tests::{Context, House, eventually};

const SOON: Duration = Duration::from_secs(30);

/// A house with an image whose check looks for /shared/well.
fn house() -> House {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest\nSHELL [\"/guest\", \"exists\"]\n\
         HEALTHCHECK --interval=100ms --retries=2 CMD [\"/guest\", \"exists\", \"/shared/well\"]\n",
    );
    house.build(&context, "app").ok();
    house
}

/// Runs a container of the image in the background that has the house's directory as /shared.
fn run(house: &House, name: &str, flags: &[&str], words: &[&str]) {
    let shared = format!("{}:/shared", house.root().display());
    let run = ["run", "-d", "--network", "none", "-v", &shared, "--name", name];
    house.ctl(&[&run[..], flags, &["app", "/guest"], words].concat()).ok();
}

#[track_caller]
fn seen(house: &House, name: &str, template: &str) -> String {
    house.ctl(&["inspect", "-f", template, name]).ok().text().to_owned()
}

fn health(house: &House, name: &str) -> String {
    seen(house, name, "{{.State.Health.Status}}")
}

fn make_well(house: &House, is_well: bool) {
    let path = house.root().join("well");
    if is_well { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
}

fn becomes(house: &House, name: &str, word: &str) {
    eventually(&format!("{name} is {word}"), SOON, || health(house, name) == word);
}

#[test]
fn the_check_of_an_image_says_how_its_containers_are() {
    let house = house();
    run(&house, "web", &["--health-start-period", "2s"], &["sleep", "300"]);
    run(&house, "slow", &["--health-interval", "1h"], &["sleep", "300"]);
    run(&house, "plain", &["--no-healthcheck"], &["sleep", "300"]);

    assert_eq!(health(&house, "slow"), "starting");
    house.ctl(&["ps"]).ok().says(&["(health: starting)"]);
    make_well(&house, true);
    becomes(&house, "web", "healthy");
    house.ctl(&["ps", "--filter", "name=web"]).ok().says(&["Up ", "(healthy)"]);
    make_well(&house, false);
    becomes(&house, "web", "unhealthy");
    house.ctl(&["ps", "--filter", "name=web"]).ok().says(&["(unhealthy)"]);
    make_well(&house, true);
    becomes(&house, "web", "healthy");

    let names = |word: &str| {
        let filter = format!("health={word}");
        house.ctl(&["ps", "--filter", &filter, "--format", "{{.Names}}"]).ok().text().to_owned()
    };
    assert_eq!([names("healthy"), names("starting"), names("none")], ["web", "slow", "plain"]);
    let web = house.ctl(&["inspect", "web"]).ok().json();
    let log = web[0]["State"]["Health"]["Log"].as_array().unwrap().clone();
    assert!((1..=5).contains(&log.len()), "{log:?}");
    assert!(log.iter().any(|probe| probe["ExitCode"] == 0), "{log:?}");
    assert_eq!(web[0]["Config"]["Healthcheck"]["Test"], serde_json::json!(["CMD", "/guest", "exists", "/shared/well"]));
    assert_eq!(web[0]["Config"]["Healthcheck"]["Interval"], 100_000_000);
    assert!(house.ctl(&["inspect", "plain"]).ok().json()[0]["State"]["Health"].is_null());
    assert_eq!(house.ctl(&["logs", "web"]).ok().both(), "", "checks are not the container's output");
    house.ctl(&["rm", "-f", "web", "slow", "plain"]).ok();
}

#[test]
fn a_check_of_ones_own_runs_in_the_images_shell_and_goes_on_after_a_crash_of_the_runtime() {
    let house = house();
    run(&house, "web", &["--health-cmd", "/shared/own"], &["sleep", "300"]);
    fs::write(house.root().join("own"), "").unwrap();
    becomes(&house, "web", "healthy");
    assert_eq!(seen(&house, "web", "{{json .Config.Healthcheck.Test}}"), r#"["CMD-SHELL","/shared/own"]"#);

    assert!(house.crash("runtime"));
    assert_eq!(health(&house, "web"), "healthy", "what was known is known");
    fs::remove_file(house.root().join("own")).unwrap();

    becomes(&house, "web", "unhealthy");
    house.ctl(&["rm", "-f", "web"]).ok();
}

#[test]
fn what_is_unhealthy_is_restarted_stopped_or_killed_as_asked_for() {
    let house = house();
    make_well(&house, true);
    for action in ["none", "restart", "stop", "kill"] {
        let flags = ["--health-on-failure", action, "--restart", "on-failure"];
        run(&house, action, &flags, &["sleep", "300"]);
        becomes(&house, action, "healthy");
    }
    let pids = ["restart", "kill"].map(|name| seen(&house, name, "{{.State.Pid}}"));

    make_well(&house, false);

    becomes(&house, "none", "unhealthy");
    assert_eq!(seen(&house, "none", "{{.State.Status}}"), "running");
    eventually("it was stopped", SOON, || seen(&house, "stop", "{{.State.Status}}") == "exited");
    for (name, pid) in ["restart", "kill"].iter().zip(&pids) {
        eventually("it runs anew", SOON, || {
            let now = seen(&house, name, "{{.State.Pid}}");
            now != "0" && now != *pid
        });
    }
    assert_ne!(seen(&house, "kill", "{{.RestartCount}}"), "0", "that was its restart policy");
    house.ctl(&["rm", "-f", "none", "restart", "stop", "kill"]).ok();
}

/// Descriptors and children that are zombies of the runtime.
fn held(house: &House) -> (usize, usize) {
    let runtime = house.services().into_iter().find(|trace| trace.program() == "strata-runtime").unwrap();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", runtime.pid)).unwrap().count();
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", runtime.pid)).unwrap();
    let is_zombie = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
    };
    (descriptors, children.split_whitespace().filter(is_zombie).count())
}

#[test]
fn a_check_that_hangs_is_killed_with_all_that_it_began_and_nothing_is_left_of_checks() {
    let house = House::with_debian();
    let hang = "sleep 4711 & setsid sleep 4711 & echo begun; sleep 4711";
    let flags =
        ["--health-interval", "50ms", "--health-timeout", "300ms", "--health-retries", "3", "--health-cmd", hang];
    let run = ["run", "-d", "--network", "none", "--name", "web"];
    house.ctl(&[&run[..], &flags, &["debian:bookworm", "sleep", "300"]].concat()).ok();

    becomes(&house, "web", "unhealthy");

    let last = house.ctl(&["inspect", "web"]).ok().json()[0]["State"]["Health"]["Log"][0].clone();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&(-1).into(), &"Health check exceeded timeout (300ms)".into()));
    // One check runs at a time. What it began may be there, seen with its words or with those of the shell that is about to
    // execute it; what ten earlier ones began may not.
    let hanging = || {
        let all = house.ctl(&["exec", "web", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).ok().stdout;
        all.matches("sleep 4711").count()
    };
    assert!((0..10).map(|_| hanging()).all(|count| count <= 20), "{}", hanging());
    let before = held(&house);
    let log = house.root().join("runtime/service.log");
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let said = size(&log);
    thread::sleep(Duration::from_secs(4));
    let after = held(&house);
    assert!(after.0 <= before.0 + 8 && after.1 == 0, "{before:?} {after:?}");
    assert_eq!(size(&log), said, "a check is no news for the log");
    house.ctl(&["rm", "-f", "web"]).ok();
}

#[test]
fn who_waits_for_a_container_to_be_well_is_told_when_it_is_and_why_it_will_not_be() {
    let house = house();
    make_well(&house, true);
    let shared = format!("{}:/shared", house.root().display());
    let run = |name: &str, flags: &[&str], words: &[&str]| {
        let run = ["run", "-d", "--network", "none", "-v", &shared, "--name", name];
        house.ctl(&[&run[..], flags, &["app", "/guest"], words].concat())
    };

    run("web", &["--wait"], &["sleep", "300"]).ok();
    assert_eq!(health(&house, "web"), "healthy");
    house.ctl(&["wait", "--condition", "healthy", "web"]).ok();
    run("plain", &["--no-healthcheck", "--wait"], &["sleep", "300"]).ok();
    house.ctl(&["wait", "--condition", "healthy", "plain"]).code(1).complains(&["plain", "no health check"]);
    make_well(&house, false);
    run("ill", &["--wait"], &["sleep", "300"]).code(1).complains(&["ill is not healthy", "its check failed"]);
    run("brief", &["--wait"], &["exit", "3"]).code(1).complains(&["brief is not healthy", "exit code 3"]);
    let slow = ["--health-interval", "1h", "--wait=300ms"];
    run("slow", &slow, &["sleep", "300"]).code(1).complains(&["slow is not healthy after 300ms"]);
    house.ctl(&["run", "--wait", "app", "/guest", "noop"]).code(125).complains(&["-d"]);
    house.ctl(&["rm", "-f", "web", "plain", "ill", "brief", "slow"]).ok();
}

#[test]
fn what_is_no_check_is_refused() {
    let house = House::with_guest();
    for (flags, words) in [
        (&["--no-healthcheck", "--health-cmd", "x"][..], &["--no-healthcheck conflicts"][..]),
        (&["--health-interval", "soon"], &["\"soon\" for --health-interval"]),
        (&["--health-timeout", "10us"], &["at least 1ms"]),
        (&["--health-on-failure", "cry"], &["\"cry\" for --health-on-failure", "restart"]),
    ] {
        house.ctl(&[&["run", "-d"], flags, &["guest", "/guest", "noop"]].concat()).code(125).complains(words);
    }
}
