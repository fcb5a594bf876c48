//! What a shell is told when a key asks it to complete, manual pages, and settings.

use std::process::Command;

use strata_tests::House;

/// What bash is offered for the last of these words.
fn offered(house: &House, words: &[&str]) -> Vec<String> {
    let mut command: Command = house.ctl_command(&[&["--", "ctl"], words].concat());
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true").env("_CLAP_IFS", "\n");
    let output = command.output().expect("ctl runs");
    String::from_utf8(output.stdout).expect("names are text").lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn names_of_what_is_there_are_offered() {
    let house = House::with_network();
    house.ctl(&["create", "--network", "none", "--name", "web-1", "guest", "/guest"]).ok();
    house.ctl(&["create", "--network", "none", "--name", "other", "guest", "/guest"]).ok();
    house.ctl(&["network", "create", "backend"]).ok();
    house.ctl(&["volume", "create", "uploads"]).ok();
    house.ctl_with(&["secret", "create", "password", "-"], b"x").ok();
    house.ctl(&["context", "create", "prod", "--host", "ssh://node"]).ok();
    for (words, expected) in [
        (&["stop", "we"][..], &["web-1"][..]),
        (&["container", "rm", ""], &["other", "web-1"]),
        (&["exec", "-it", "w"], &["web-1"]),
        (&["run", "--rm", "gu"], &["guest:latest"]),
        (&["rmi", "gue"], &["guest:latest"]),
        (&["network", "rm", "b"], &["backend", "bridge"]),
        (&["run", "--network", "back"], &["backend"]),
        (&["run", "--log-driver", "j"], &["journald", "json-file"]),
        (&["volume", "rm", ""], &["uploads"]),
        (&["secret", "rm", "p"], &["password"]),
        (&["run", "--secret", "pass"], &["password"]),
        (&["context", "use", "p"], &["prod"]),
        (&["-c", "pr"], &["prod"]),
        (&["netw"], &["network"]),
    ] {
        let found = offered(&house, words);
        for name in expected {
            assert!(found.iter().any(|one| one == name), "{words:?}: {found:?}");
        }
    }
    let found = offered(&house, &["stop", "we"]);
    assert!(!found.iter().any(|one| one == "other"), "{found:?}");
    // Words after the image are a program's.
    let found = offered(&house, &["run", "guest", "/guest", "gu"]);
    assert!(!found.iter().any(|one| one == "guest:latest"), "{found:?}");
}

#[test]
fn shells_get_their_scripts() {
    let house = House::start();
    for (shell, words) in [("bash", "complete -o"), ("zsh", "#compdef ctl"), ("fish", "complete --keep-order")] {
        let script = house.ctl(&["completion", shell]).ok();
        assert!(script.stdout.contains(words) && script.stdout.contains("COMPLETE"), "{shell}: {script:?}");
    }
    house.ctl(&["completion", "csh"]).code(125).complains(&["bash, fish, zsh"]);
    let script = house.ctl(&["completion", "bash"]).ok();
    let path = house.path("ctl.bash");
    std::fs::write(&path, script.stdout).unwrap();
    let sourced = house.command("bash").args(["-n"]).arg(&path).output().expect("bash runs");
    assert!(sourced.status.success(), "{sourced:?}");
}

#[test]
fn every_command_and_the_settings_have_a_manual_page() {
    let house = House::start();
    let pages = house.path("man");

    house.ctl(&["man", pages.to_str().unwrap()]).ok();

    for page in ["man1/ctl.1", "man1/ctl-run.1", "man1/ctl-context-create.1", "man5/strata.toml.5"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".TH"), "{page}");
    }
}

/// The keys that a service names when it finds one that it does not know: its own list.
fn known(house: &House, service: &str, table: &str) -> Vec<String> {
    let file = house.path("unknown.toml");
    let text = match table {
        "" => "zzz = 1\n".to_owned(),
        list if list.starts_with("[[") => format!("{list}\nzzz = 1\n"),
        table => format!("[{table}]\nzzz = 1\n"),
    };
    std::fs::write(&file, text).unwrap();
    let mut command = house.command(strata_tests::binaries().join(format!("strata-{service}")));
    command.arg("--listen").arg(format!("unix:{}", house.path("x.sock").display()));
    command.arg("--root").arg(house.path("x")).arg("--config").arg(&file);
    let output = command.output().expect("the service runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("unknown field `zzz`"), "{service} [{table}]: {said}");
    let expected = said.split("expected ").nth(1).unwrap_or_else(|| panic!("{service} [{table}]: {said}"));
    let mut keys: Vec<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    keys.sort();
    keys
}

#[test]
fn every_key_that_a_service_knows_is_shown_with_its_default() {
    let house = House::start();
    let line = "{{.File}} {{.Key}}";
    let shown = house.ctl(&["config", "show", "--defaults", "--format", line]).ok();
    for (service, table) in [
        ("store", ""),
        ("store", "build_cache"),
        ("store", "blobs"),
        ("store", "registry"),
        ("builder", ""),
        ("builder", "steps"),
        ("runtime", ""),
        ("runtime", "cdi"),
        ("runtime", "logs"),
        ("runtime", "networks"),
    ] {
        let start = if table.is_empty() { String::new() } else { format!("{table}.") };
        for key in known(&house, service, table) {
            let row = format!("{service}.toml {start}{key}");
            // A table is shown by its keys.
            let is_there = shown.stdout.lines().any(|line| line == row || line.starts_with(&format!("{row}.")));
            assert!(is_there, "`ctl config show` lacks {row}");
        }
    }
    let examples = house.ctl(&["config", "show", "--defaults", "store"]).ok();
    for key in known(&house, "store", "[[build_cache.policies]]") {
        assert!(examples.stdout.contains(&format!("\n# {key} = ")), "{key}");
    }
}

#[test]
fn the_defaults_are_files_that_services_take_and_what_holds_is_shown_with_its_origin() {
    let house = House::start();
    let etc = house.root().join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    let default = house.ctl(&["config", "show", "--format", "{{.Origin}}", "store"]).ok();
    assert!(default.stdout.lines().all(|origin| origin == "default"), "{default:?}");
    for file in ["strata", "store", "builder", "runtime"] {
        let text = house.ctl(&["config", "show", "--defaults", file]).ok().stdout;
        let text = text.replace("garbage_delay_seconds = 5", "garbage_delay_seconds = 6");
        std::fs::write(etc.join(format!("{file}.toml")), text).unwrap();
    }

    house.ctl(&["info"]).ok();

    let format = "{{.Key}}={{.Value}} {{.Origin}}";
    let shown = house.ctl(&["config", "show", "--format", format, "store"]).ok();
    shown
        .says(&[&format!("garbage_delay_seconds=6 {}", etc.join("store.toml").display()), "registry.listen=- default"]);
    let mut command = house.ctl_command(&["config", "show", "--format", format]);
    command.env("STRATA_CONTEXT", "default").env("HTTPS_PROXY", "http://me:secret@proxy");
    let shown = strata_tests::Running::spawn(command).finish().ok();
    let shown = shown.says(&["STRATA_CONTEXT=default environment", "(set) environment"]);
    assert!(!shown.stdout.contains("secret"), "{shown:?}");
}
