//! What steps see of whoever runs them, and what a build leaves where others can write.

use std::fs;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use strata_tests::{Context, House, Repositories, Running, Tar, Web};

use super::mounts::{printed, run};

/// Row 112 (CVE-2021-3602): neither the environment nor the arguments of any process of the host are a step's to read.
#[test]
fn row_112_environments_and_arguments_of_the_host_are_not_seen_by_steps() {
    let mut house = House::with_guest();
    assert_eq!(house.stop().len(), 0);
    fs::write(
        house.root().join("etc/builder.toml"),
        "insecure_entitlements = [\"network.host\", \"security.insecure\"]\n",
    )
    .unwrap();
    house.set("STRATA_CANARY", "canary-112-environment");
    let file = house.path("canary-112-arguments");
    let text = format!(
        "FROM guest\n{}{}{}",
        run("", "processes"),
        run("--network=host --mount=type=cache,target=/c --mount=type=tmpfs,target=/t", "processes"),
        run("--security=insecure", "processes"),
    );
    let context = Context::new(&text);
    let flags = ["--allow", "network.host,security.insecure", "--iidfile", file.to_str().unwrap()];

    let output = house.ctl(&[&["build", "--progress", "plain"][..], &flags, &[context.arg()]].concat()).ok();

    // What a step saw that it should not is nothing for a log of tests: only where that was is told.
    let seen = printed(&output);
    let places = |words: &str| -> Vec<&str> {
        seen.lines().filter(|line| line.contains(words)).filter_map(|line| line.split(": ").next()).collect()
    };
    assert_eq!(places("/proc/1/environ: PATH=").len(), 3, "every step sees itself");
    assert_eq!(places("/proc/1/cmdline: /guest then processes").len(), 3, "every step sees itself");
    assert_eq!(places("canary-112"), [""; 0]);
    // It was there to be seen.
    let services = house.services();
    assert_eq!(services.len(), 3, "{services:?}");
    for service in services {
        let environment = fs::read(format!("/proc/{}/environ", service.pid)).unwrap();
        assert!(String::from_utf8_lossy(&environment).contains("canary-112-environment"), "{service:?}");
    }
}

/// Directories in which every user may write, watched for names that appear in them, if for a moment only.
struct Watched {
    directories: Vec<String>,
    queue: rustix::fd::OwnedFd,
}

impl Watched {
    fn new(top: &Path, names: &[&str]) -> Self {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let watch = |name: &&str| {
            let directory = top.join(name);
            fs::create_dir_all(&directory).unwrap();
            inotify::add_watch(&queue, &directory, WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
            directory.display().to_string()
        };
        Self { directories: names.iter().map(watch).collect(), queue }
    }

    /// The names that appeared since it was asked last.
    fn appeared(&self) -> Vec<String> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.queue, &mut buffer);
        let mut names = Vec::new();
        while let Ok(event) = events.next() {
            names.push(event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
        }
        names
    }
}

/// Row 119 (CVE-2020-27534): no name is made where every user may write. Services and `ctl` see watched directories at
/// `/tmp`, `/var/tmp`, `/dev/shm` and TMPDIR. (OpenSSH's own `ssh-agent`, for keys in files, makes a directory of mode 0700.)
#[test]
fn row_119_nothing_is_written_to_a_directory_that_others_can_write_to() {
    let (house, web, git) = (House::with_guest(), Web::start(), Repositories::default());
    assert_eq!(house.stop().len(), 0);
    web.put("/file", "of the web", &[]);
    let repository = git.add("repository", &[]);
    repository.write("file", "of git");
    repository.commit("one");
    let server = git.serve();
    let text = format!(
        "FROM guest\nADD {} /web\nADD {} /git\nADD archive.tar /archive\nCOPY . /context\nCOPY <<EOF /document\nx\nEOF\n{}{}",
        web.url("/file"),
        server.url("repository"),
        run(
            "--mount=type=cache,target=/c --mount=type=secret,id=s --mount=target=/b",
            "write /c/x y + read /run/secrets/s"
        ),
        "RUN --mount=type=tmpfs,target=/tmp <<EOF\n#!/guest args\nEOF\n",
    );
    let archive = Tar::default().file("in", 0o644, b"in").bytes();
    let context = house.path("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), &text).unwrap();
    fs::write(context.join("archive.tar"), &archive).unwrap();
    fs::write(house.path("secret"), "secret").unwrap();
    let piped = Tar::default().file("Dockerfile", 0o644, text.as_bytes()).file("archive.tar", 0o644, &archive);
    piped.write(house.path("context.tar"));
    let own = house.path("").file_name().unwrap().to_str().unwrap().to_owned();
    fs::create_dir_all(house.path("watched/var-tmp").join(&own)).unwrap();
    let watched = Watched::new(&house.path("watched"), &["tmp", "shm", "own", "var-tmp"]);
    let script = "set -e\n\
         mount --bind \"$HOUSE\" \"$3/$OWN\"\nmount --rbind \"$3\" /var/tmp\nmount --bind \"$0\" /tmp\nmount --bind \"$1\" /dev/shm\n\
         export TMPDIR=\"$2\"\n\
         ctl=\"$STRATA_BIN_DIR/ctl build --no-cache --secret id=s,src=$HOUSE/secret\"\n\
         $ctl -t app \"$HOUSE/context\"\n\
         $ctl -o \"type=oci,dest=$HOUSE/out.tar\" - <\"$HOUSE/context.tar\"\n\
         $ctl -o \"$HOUSE/out\" \"$HOUSE/context\"\n\
         touch \"$TMPDIR/seen\" /tmp/seen /var/tmp/seen /dev/shm/seen\n";
    let mut command = house.command("unshare");
    command.args(["--mount", "sh", "-c", script]).args(&watched.directories);
    command.env("HOUSE", house.path("")).env("OWN", &own);

    Running::spawn(command).finish().ok();

    assert_eq!(watched.appeared(), ["seen"; 4]);
    assert_eq!(house.stop().len(), 0);
    assert_eq!(watched.appeared(), [""; 0]);
}
