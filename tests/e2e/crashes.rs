//! kill -9 of services at any moment: containers live on, acknowledged images are whole, nothing is left without an owner.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use strata_tests::{Context, Dice, House, Running, eventually};

#[test]
fn a_container_survives_its_runtime_with_log_and_exit_code() {
    let house = House::with_guest();
    let words = ["run", "-d", "--name", "tough", "guest", "/guest", "then", "tick", "20", "150", "+", "exit", "23"];
    let id = house.ctl(&words).ok().text().to_owned();
    eventually("it ticks", Duration::from_secs(10), || house.ctl(&["logs", &id]).ok().stdout.contains("tick 2"));

    assert!(house.crash("runtime"));
    thread::sleep(Duration::from_millis(500));
    house.ctl(&["ps"]).ok().says(&["tough", "Up "]);
    house.ctl(&["exec", "tough", "/guest", "noop"]).ok();
    assert!(house.crash("runtime"));
    assert!(house.crash("store"));

    assert_eq!(house.ctl(&["wait", "tough"]).ok().text(), "23");
    let log = house.ctl(&["logs", "tough"]).ok().stdout;
    let expected: String = (0..20).map(|number| format!("tick {number}\n")).collect();
    assert_eq!(log, expected, "no line is lost");
    house.ctl(&["rm", "tough"]).ok();
}

#[test]
fn a_container_that_ended_without_a_runtime_is_found_ended() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--name", "alone", "guest", "/guest", "then", "sleep", "1", "+", "exit", "31"]).ok();

    assert!(house.crash("runtime"));
    thread::sleep(Duration::from_millis(2500));

    house.ctl(&["ps", "-a"]).ok().says(&["alone", "Exited (31)"]);
    assert_eq!(house.ctl(&["wait", "alone"]).ok().text(), "31");
    assert_eq!(house.ctl(&["start", "-a", "alone"]).code(31).stdout, "");
}

#[test]
fn a_build_after_a_crash_of_the_store_has_its_base_and_its_cache() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"write\", \"/x\", \"kept\"]\n");
    house.build(&context, "app").ok();

    assert!(house.crash("store"));
    assert!(house.crash("builder"));

    strata_tests::Steps::of(&house.build(&context, "app").ok()).all_cached();
    assert_eq!(house.ctl(&["run", "--rm", "app", "/guest", "read", "/x"]).ok().stdout, "kept");
}

/// So many kills; STRATA_KILLS asks for more.
fn kills() -> u64 {
    strata_tests::amount("STRATA_KILLS", 50)
}

#[test]
fn no_kill_at_any_moment_loses_what_was_acknowledged() {
    let house = House::with_guest();
    let seed = 0x5eed_0000 + u64::from(std::process::id());
    println!("seed {seed:#x}");
    let is_over = AtomicBool::new(false);
    let number = AtomicU64::new(0);
    // Images that ctl said are there, with the text that is in them.
    let acknowledged: Mutex<Vec<(String, String)>> = Mutex::new(vec![]);
    let runs = AtomicU64::new(0);

    thread::scope(|scope| {
        let builder = || {
            while !is_over.load(Ordering::Relaxed) {
                let n = number.fetch_add(1, Ordering::Relaxed);
                let (name, text) = (format!("built{n}"), format!("text {n}"));
                let context = Context::new("FROM guest\nCOPY text /text\nRUN [\"/guest\", \"append\", \"/text\", \"!\"]\nRUN [\"/guest\", \"fill\", \"/bulk\", \"300000\"]\n").file("text", &text);
                let built = Running::spawn(house.ctl_command(&["build", "-q", "-t", &name, context.arg()]))
                    .finish_within(Duration::from_secs(120));
                if built.code == 0 {
                    acknowledged.lock().unwrap().push((name, format!("{text}!")));
                }
            }
        };
        let importer = || {
            while !is_over.load(Ordering::Relaxed) {
                let n = number.fetch_add(1, Ordering::Relaxed);
                let (name, text) = (format!("imported{n}"), format!("tar {n}"));
                let tar = strata_tests::Tar::of_guest()
                    .file("text", 0o644, text.as_bytes())
                    .write(house.path(&format!("{n}.tar")));
                let imported = Running::spawn(house.ctl_command(&["import", tar.to_str().unwrap(), &name]))
                    .finish_within(Duration::from_secs(120));
                std::fs::remove_file(tar).unwrap();
                if imported.code == 0 {
                    acknowledged.lock().unwrap().push((name, text));
                }
            }
        };
        let runner = || {
            while !is_over.load(Ordering::Relaxed) {
                let run = Running::spawn(house.ctl_command(&[
                    "run", "--rm", "guest", "/guest", "then", "write", "/x", "y", "+", "tick", "3", "20",
                ]))
                .finish_within(Duration::from_secs(120));
                runs.fetch_add(u64::from(run.code == 0), Ordering::Relaxed);
            }
        };
        scope.spawn(builder);
        scope.spawn(importer);
        scope.spawn(runner);
        let mut dice = Dice::new(seed);
        let mut killed = 0;
        let start = std::time::Instant::now();
        while killed < kills() && start.elapsed() < Duration::from_secs(10 * kills().max(12)) {
            thread::sleep(Duration::from_millis(20 + dice.roll(400)));
            let service = ["store", "builder", "runtime"][dice.roll(3) as usize];
            killed += u64::from(house.crash(service));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(killed >= kills(), "only {killed} services could be killed: they were not started again");
    });

    let acknowledged = acknowledged.into_inner().unwrap();
    println!("{} images acknowledged, {} runs went well", acknowledged.len(), runs.load(Ordering::Relaxed));
    assert!(acknowledged.len() > 3, "nothing could be built between kills");
    house.verify();
    for (name, text) in &acknowledged {
        let read = house.ctl(&["run", "--rm", name, "/guest", "read", "/text"]).ok();
        assert_eq!(read.stdout, *text, "{name}");
    }
    eventually("what was begun for a killed service is gone", Duration::from_secs(60), || {
        let left = house.ctl(&["ps", "-aq", "--no-trunc"]).ok().stdout;
        print!("{left}");
        left.is_empty()
    });
    house.verify();
}

#[test]
fn a_store_that_dies_in_a_load_is_whole_and_loads_again() {
    let house = House::with_guest();
    let archive = house.path("guest-image.tar");
    let archive = archive.to_str().expect("an ASCII path");
    house.ctl(&["save", "-o", archive, "guest"]).ok();
    let id = house.ctl(&["images", "-q", "--no-trunc"]).ok().text().to_owned();
    for round in 0..8 {
        house.ctl(&["rmi", "guest"]).ok();
        house.ctl(&["system", "prune", "-af"]).ok();
        let loading = house.ctl_running(&["load", "-i", archive]);
        // From before the first byte to after the last: what counts is that no moment is a bad one.
        thread::sleep(Duration::from_millis(round * 12));
        house.crash("store");
        let loaded = loading.finish();

        let is_there = !house.ctl(&["images", "-q"]).ok().stdout.is_empty();
        assert!(is_there || loaded.code != 0, "round {round}: what was acknowledged is gone: {loaded:?}");
        house.verify();
        house.ctl(&["load", "-i", archive]).ok().says(&["Loaded image: guest:latest"]);

        assert_eq!(house.ctl(&["images", "-q", "--no-trunc"]).ok().text(), id, "round {round}");
        house.ctl(&["run", "--rm", "guest", "/guest", "noop"]).ok();
        house.verify();
    }
}
