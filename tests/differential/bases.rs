//! Base images that every engine loads: `mini`, a shell and a few programs of Debian; `rich`, the same with everything in
//! its config that a build inherits or clears; `trigger` with ONBUILD.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder, EntryType, Header};

/// What is taken of Debian.
const PROGRAMS: [&str; 18] = [
    "dash", "sh", "cat", "ls", "mkdir", "touch", "ln", "chmod", "chown", "env", "rm", "cp", "mv", "id", "stat",
    "mkfifo", "readlink", "true",
];
const LIBRARIES: [&str; 8] = [
    "libc.so.6",
    "libselinux.so.1",
    "libpcre2-8.so",
    "libacl.so.1",
    "libattr.so.1",
    "libgmp.so",
    "ld-linux",
    "libcrypto.so.3",
];

static LINES: OnceLock<BTreeSet<String>> = OnceLock::new();

/// Whether a line of a tree comes with `mini`.
pub fn is_of_mini(line: &str) -> bool {
    LINES.get().is_some_and(|lines| lines.contains(line))
}

/// Writes the archives.
pub fn write(work: &Path) -> Vec<PathBuf> {
    let layer = layer();
    let config = |extra: Value| {
        let mut config = json!({
            "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
            "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "a base of the tests"}],
        });
        for (key, value) in extra.as_object().expect("an object") {
            match key.as_str() {
                "author" => config[key] = value.clone(),
                _ => config["config"][key] = value.clone(),
            }
        }
        config
    };
    let rich = json!({
        "author": "the author of rich",
        "Cmd": ["rich-command"], "Entrypoint": ["sh", "-c"], "Env": ["PATH=/bin:/usr/bin", "RICH=yes", "EMPTY="],
        "ExposedPorts": {"81/tcp": {}, "82/udp": {}}, "Labels": {"rich": "label", "kept": "as it was"},
        "User": "1000:100", "Volumes": {"/rich": {}}, "WorkingDir": "/srv", "StopSignal": "SIGQUIT",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000i64, "Retries": 2},
    });
    let trigger = json!({"OnBuild": ["ENV TRIGGERED=yes", "RUN echo triggered >/triggered", "COPY a /from-trigger"]});
    let all = [("mini", json!({})), ("rich", rich), ("trigger", trigger)];
    let paths: Vec<PathBuf> =
        all.into_iter().map(|(name, extra)| archive(work, name, &layer, &config(extra))).collect();
    let mini = crate::image::Description::read(&paths[0]);
    LINES.get_or_init(|| mini.aspects["tree"].iter().cloned().collect());
    paths
}

/// A docker-archive of one layer.
fn archive(work: &Path, name: &str, layer: &[u8], config: &Value) -> PathBuf {
    let path = work.join(format!("{name}.tar"));
    let config = config.to_string();
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest =
        json!([{"Config": config_name, "RepoTags": [format!("{name}:latest")], "Layers": ["layer.tar"]}]).to_string();
    let mut builder = Builder::new(File::create(&path).unwrap());
    for (name, bytes) in
        [("layer.tar", layer), (config_name.as_str(), config.as_bytes()), ("manifest.json", manifest.as_bytes())]
    {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, bytes).unwrap();
    }
    builder.finish().unwrap();
    path
}

fn layer() -> Vec<u8> {
    let mut builder = Builder::new(vec![]);
    let mut header = |name: &str, kind: EntryType, mode: u32, target: Option<&str>, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_400_000_000);
        header.set_size(bytes.len() as u64);
        match target {
            Some(target) => builder.append_link(&mut header, name, target).unwrap(),
            None => builder.append_data(&mut header, name, bytes).unwrap(),
        }
    };
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\napp:x:1000:100:app:/home/app:/bin/sh\n";
    let group = "root:x:0:\ndaemon:x:1:\nusers:x:100:\nstaff:x:50:app\n";
    for name in [
        "etc",
        "home",
        "home/app",
        "root",
        "srv",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/lib/x86_64-linux-gnu",
        "var",
    ] {
        header(name, EntryType::Directory, 0o755, None, b"");
    }
    header("tmp", EntryType::Directory, 0o1777, None, b"");
    for (name, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var/linked", "/srv")] {
        header(name, EntryType::Symlink, 0o777, Some(target), b"");
    }
    header("etc/passwd", EntryType::Regular, 0o644, None, passwd.as_bytes());
    header("etc/group", EntryType::Regular, 0o644, None, group.as_bytes());
    for entry in Archive::new(File::open(strata_tests::debian()).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().trim_start_matches("./").to_owned();
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_program = path.starts_with("usr/bin/") && PROGRAMS.contains(&name);
        let is_library = path.starts_with("usr/lib") && LIBRARIES.iter().any(|library| name.starts_with(library));
        let kind = entry.header().entry_type();
        if !(is_program || is_library) || !(kind.is_file() || kind.is_symlink()) {
            continue;
        }
        let target = entry.link_name().unwrap().map(|target| target.to_string_lossy().into_owned());
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).unwrap();
        header(&path, kind, 0o755, target.as_deref(), &bytes);
    }
    builder.into_inner().unwrap()
}
