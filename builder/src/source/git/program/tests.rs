use strata_dockerfile::remote::{self, Remote};

use super::*;

fn wanted(url: &str) -> Wanted {
    let Ok(Some(Remote::Git(git))) = remote::parse(url) else { panic!("{url}") };
    Wanted { git, authorization: None, agent: None }
}

fn program(wanted: &Wanted) -> (tempfile::TempDir, Program) {
    let place = tempfile::tempdir().expect("a directory can be made");
    let sources = Sources::open(place.path());
    let program = Program::new(&sources, wanted).expect("a directory can be made");
    (place, program)
}

/// CVE-2019-13139 and its kin: no protocol runs a program or reads this machine, no configuration and no hook counts.
#[tokio::test]
async fn row_97_git_runs_with_nothing_of_this_machine() {
    let (place, program) = program(&wanted("https://host/x.git"));
    let canary = place.path().join("canary");
    let touch = format!("ext::sh -c touch% {}", canary.display());

    for remote in [touch.as_str(), "file:///etc", "/etc", "../..", "ftp://127.0.0.1:1/x"] {
        let said = program.run("ask", &["ls-remote", "--", remote]).await.expect_err(remote).to_string();
        assert!(said.contains("not allowed"), "{remote}: {said}");
    }
    let config = program.run("list", &["config", "--list", "--show-scope"]).await.expect("it lists");
    assert!(config.lines().all(|line| line.starts_with("global")), "{config}");
    let home = program.run("ask", &["var", "GIT_EDITOR"]).await;
    assert!(home.is_err() || home.is_ok_and(|editor| !editor.contains("canary")));
    assert!(!canary.exists());
}

/// CVE-2022-39253: a submodule that is a directory of this machine.
#[tokio::test]
async fn row_99_a_submodule_of_this_machine_is_refused() {
    let (place, program) = program(&wanted("https://host/x.git"));
    let secret = place.path().join("secret");
    let shown = secret.to_str().expect("an ASCII path").to_owned();
    for place in [&[][..], &[shown.as_str()]] {
        program.run("make", &[&["init", "--quiet", "--template="], place].concat()).await.expect("git works");
    }
    let module = format!("[submodule \"m\"]\n\tpath = m\n\turl = {}\n", secret.display());
    std::fs::write(program.place().join(".gitmodules"), module).expect("files can be written");
    let commit = "0123456789012345678901234567890123456789";
    program
        .run("add", &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},m")])
        .await
        .expect("git works");

    let said = super::super::submodules(&program).await.expect_err("it is a directory of this machine").to_string();

    assert!(said.contains("not allowed"), "{said}");
    assert!(!program.place().join("m/.git").exists());
}

#[tokio::test]
async fn credentials_are_in_a_private_file_for_one_repository() {
    let mut wanted = wanted("https://name:wo%22rd@host/x.git");
    let (_place, program) = program(&wanted);
    let file = program.directory.path().join("config");
    let text = std::fs::read_to_string(&file).expect("it is written");

    assert!(text.contains("[http \"https://host/x.git\"]\n\textraHeader = \"Authorization: Basic "), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    wanted.authorization = Some("x\ny: z".to_owned());
    let place = tempfile::tempdir().expect("a directory can be made");
    let refused = Program::new(&Sources::open(place.path()), &wanted).expect_err("a header in the credentials");
    assert!(refused.to_string().contains("line break"), "{refused}");
}

#[tokio::test]
async fn nothing_is_left_of_a_directory_that_was_used() {
    let (place, program) = program(&wanted("git://host/x"));
    program.run("make", &["init", "--quiet"]).await.expect("git works");
    let used = program.directory.path().to_owned();

    drop(program);

    assert!(!used.exists());
    assert_eq!(std::fs::read_dir(place.path().join("sources/passing")).expect("it is there").count(), 0);
}
