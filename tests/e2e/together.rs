//! Builds beside each other, and steps that meet on different ways.

use std::fs;
use std::time::Duration;

use nix::{sys::signal, unistd::Pid};
use strata_tests::{Context, House, Running, Steps, Went, eventually};

/// What a step that waits for another one says.
const WAITING: &str = "waiting for the same step at work elsewhere";

/// A build whose step waits for a signal. The mark is in its words, the label makes images differ.
fn waiting(mark: &str, label: &str) -> Context {
    Context::new(&format!(
        "FROM guest\nRUN [\"/guest\", \"then\", \"trap\", \"0\", \"SIGUSR1\", \"+\", \"write\", \"/made\", \"{mark}\"]\n\
         LABEL of={label}\n"
    ))
}

/// A build that goes on while the test does.
fn begin(house: &House, context: &Context, name: &str) -> Running {
    house.ctl_running(&["build", "--progress", "plain", "-t", name, context.arg()])
}

/// A word that no other test has.
fn mark(house: &House) -> String {
    let name = house.root().file_name().expect("a house has a directory of its own");
    format!("mark-{}", name.to_string_lossy())
}

/// Processes of steps with this mark.
fn steps_with(mark: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").expect("there is /proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"/guest\0") && line.windows(mark.len()).any(|part| part == mark.as_bytes())
    };
    pids.filter(is_it).collect()
}

fn release(pid: i32) {
    signal::kill(Pid::from_raw(pid), signal::SIGUSR1).expect("the step waits for it");
}

fn layers(house: &House, image: &str) -> serde_json::Value {
    house.ctl(&["inspect", image]).ok().json()[0]["RootFS"]["Layers"].clone()
}

#[test]
fn equal_steps_of_two_builds_at_once_run_once_and_both_see_them() {
    let house = House::with_guest();
    let mark = mark(&house);
    let (first, second) = (waiting(&mark, "one"), waiting(&mark, "two"));
    let mut one = begin(&house, &first, "one");
    one.wait_for("ready");
    let mut two = begin(&house, &second, "two");
    two.wait_for(WAITING);
    let pids = steps_with(&mark);
    assert_eq!(pids.len(), 1, "{pids:?}");
    release(pids[0]);

    let (one, two) = (one.finish().ok(), two.finish().ok());
    assert_eq!(Steps::of(&one).went("RUN"), Went::Done);
    assert_eq!(Steps::of(&two).went("RUN"), Went::Cached);
    assert!(two.stderr.contains("SIGUSR1"), "what is printed later is shown in both: {two:?}");
    assert_eq!(layers(&house, "one"), layers(&house, "two"));
}

#[test]
fn who_waits_for_a_step_takes_over_when_it_is_given_up() {
    let house = House::with_guest();
    let mark = mark(&house);
    let (first, second) = (waiting(&mark, "one"), waiting(&mark, "two"));
    let mut one = begin(&house, &first, "one");
    one.wait_for("ready");
    let mut two = begin(&house, &second, "two");
    two.wait_for(WAITING);
    let before = steps_with(&mark);

    one.signal(signal::SIGINT);

    one.finish().code(130);
    two.wait_for("ready");
    let mut now = Vec::new();
    eventually("the step runs again", Duration::from_secs(20), || {
        now = steps_with(&mark);
        now.len() == 1 && now != before
    });
    release(now[0]);
    let two = two.finish().ok();
    assert_eq!(Steps::of(&two).went("RUN"), Went::Done);
    assert_eq!(house.ctl(&["run", "--rm", "two", "/guest", "read", "/made"]).ok().stdout, mark);
}

#[test]
fn equal_stages_of_one_build_run_once() {
    let house = House::with_guest();
    let stage = "RUN [\"/guest\", \"then\", \"sleep\", \"0.3\", \"+\", \"write\", \"/made\", \"once\"]\n";
    let context = Context::new(&format!(
        "FROM guest AS one\n{stage}FROM guest AS two\n{stage}FROM guest\nCOPY --from=one /made /one\nCOPY --from=two /made /two\n"
    ));

    let built = house.build(&context, "app").ok();

    let steps = Steps::of(&built);
    let went = [steps.went("one 2/2"), steps.went("two 2/2")];
    assert!(went.contains(&Went::Done) && went.contains(&Went::Cached), "{built:?}");
}

#[test]
fn a_step_is_cached_whatever_way_led_to_its_files() {
    let house = House::with_guest();
    let write = |path: &str| format!("RUN [\"/guest\", \"write\", \"{path}\", \"x\"]\n");
    let base = Context::new(&format!("FROM guest\n{}{}", write("/a"), write("/b")));
    let on_image = Context::new(&format!("FROM base\n{}{}", write("/c"), write("/d")));
    let in_stages = Context::new(&format!(
        "FROM guest AS first\n{}{}FROM first\n{}{}",
        write("/a"),
        write("/b"),
        write("/c"),
        write("/d")
    ));
    house.build(&base, "base").ok();
    house.build(&on_image, "one").ok();

    let built = house.build(&in_stages, "two").ok();

    Steps::of(&built).all_cached();
    assert_eq!(layers(&house, "one"), layers(&house, "two"));

    // The same files, made at another time: archives have whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    let path = base.path().to_str().expect("a temporary directory is ASCII");
    house.ctl(&["build", "--no-cache", "-t", "base", path]).ok();
    let again = house.build(&on_image, "three").ok();

    Steps::of(&again).all_cached();
    let (one, three) = (layers(&house, "one"), layers(&house, "three"));
    assert_ne!(one[1], three[1]);
    assert_eq!((&one[3], &one[4]), (&three[3], &three[4]));
    house.verify();
}
