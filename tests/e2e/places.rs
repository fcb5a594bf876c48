//! `ctl context`: names for where the services are; and services behind `ssh`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use strata_tests::House;

#[test]
fn contexts_are_made_changed_shown_taken_along_and_removed() {
    let house = House::start();
    let ctl = |args: &[&str]| house.ctl(&[&["context"], args].concat());
    assert_eq!(ctl(&["show"]).ok().text(), "default");
    ctl(&["create", "prod", "--description", "the fleet", "--host", "ssh://me@node:2222"]).ok();
    ctl(&["create", "copy", "--from", "prod", "--builder", "unix:/run/b.sock"]).ok();
    ctl(&["create", "docker", "--docker", "host=ssh://me@other"]).ok();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::write(house.path(name), name).unwrap();
    }
    let file = |name: &str| house.path(name).to_str().unwrap().to_owned();
    let tls = ["--tls-ca", &file("ca.pem"), "--tls-cert", &file("cert.pem"), "--tls-key", &file("key.pem")];
    ctl(&[&["create", "tcp", "--host", "tcp://10.0.0.2"], &tls[..]].concat()).ok();

    let list = ctl(&["ls", "--format", "{{.Name}}|{{.Description}}|{{.Store}}|{{.Builder}}|{{.Error}}"]).ok();
    let expected = [
        "default|This host|on demand|on demand|",
        "copy|the fleet|ssh://me@node:2222|unix:/run/b.sock|",
        "docker||ssh://me@other|ssh://me@other|",
        "prod|the fleet|ssh://me@node:2222|ssh://me@node:2222|",
        "tcp||tcp:10.0.0.2:7001|tcp:10.0.0.2:7003|",
    ];
    assert_eq!(list.text(), expected.join("\n"));
    assert_eq!(ctl(&["ls", "-q"]).ok().text(), "default\ncopy\ndocker\nprod\ntcp");
    let inspect = "{{.Name}} {{.Metadata.Description}} {{.Endpoints.runtime.Host}}";
    assert_eq!(ctl(&["inspect", "-f", inspect, "prod"]).ok().text(), "prod the fleet ssh://me@node:2222");

    ctl(&["update", "prod", "--description", "moved", "--host", "ssh://new"]).ok();
    assert_eq!(ctl(&["inspect", "-f", inspect, "prod"]).ok().text(), "prod moved ssh://new");
    ctl(&["use", "prod"]).ok();
    assert_eq!(ctl(&["show"]).ok().text(), "prod");
    ctl(&["rm", "prod"]).fails().complains(&["\"prod\" is in use", "ctl context use"]);
    ctl(&["rm", "-f", "prod", "copy"]).ok();
    assert_eq!(ctl(&["show"]).ok().text(), "default");

    ctl(&["export", "tcp", &file("tcp.context")]).ok();
    assert_eq!(fs::metadata(house.path("tcp.context")).unwrap().permissions().mode() & 0o777, 0o600);
    ctl(&["export", "tcp", &file("tcp.context")]).fails().complains(&["tcp.context"]);
    ctl(&["import", "again", &file("tcp.context")]).ok();
    let key = ctl(&["inspect", "-f", "{{.TLSMaterial.key}}", "again"]).ok().text().to_owned();
    assert_eq!(fs::read_to_string(&key).unwrap(), "key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    ctl(&["rm", "again"]).ok();
    assert!(!std::path::Path::new(&key).exists(), "{key} is left");
    fs::write(house.path("other"), "{}").unwrap();
    ctl(&["import", "other", &file("other")]).fails().complains(&["no context that `ctl context export` wrote"]);
}

#[test]
fn a_context_that_cannot_be_is_refused() {
    let house = House::start();
    for (args, words) in [
        (&["create", "x"][..], "--store is missing"),
        (&["create", "../x", "--host", "ssh://n"], "invalid context name"),
        (&["create", "default", "--host", "ssh://n"], "already"),
        (&["create", "x", "--host", "http://n"], "invalid host"),
        (&["create", "x", "--host", "ssh://-oProxyCommand=x"], "invalid host"),
        (&["create", "x", "--host", "ssh://me:secret@n"], "a password has no place"),
        (&["create", "x", "--host", "tcp://n"], "needs --tls-ca"),
        (&["create", "x", "--from", "y"], "no context \"y\""),
        (&["create", "x", "--docker", "host"], "invalid --docker"),
        (&["update", "default", "--description", "x"], "cannot be changed"),
        (&["rm", "default"], "cannot be removed"),
        (&["export", "default"], "nothing in it"),
    ] {
        let refused = house.ctl(&[&["context"], args].concat());
        assert!(refused.code != 0 && refused.stderr.contains(words), "{args:?}: {refused:?}");
    }
    assert_eq!(house.ctl(&["context", "ls", "-q"]).ok().text(), "default");
}

/// `ssh` that runs on this host what it is told, in the environment of its own house: what sshd would do on another.
fn ssh(house: &mut House, of: &House) {
    let bin = house.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >>{log}\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\n\
         export STRATA_ROOT={root} STRATA_RUN={run} PATH={binaries}:$PATH\nexec \"$@\"\n",
        log = house.path("ssh.log").display(),
        root = of.root().display(),
        run = of.run_dir().display(),
        binaries = strata_tests::binaries().display(),
    );
    fs::write(bin.join("ssh"), script).unwrap();
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    house.set("PATH", &path);
}

#[test]
fn services_of_another_host_are_reached_and_started_through_ssh() {
    let far = House::with_guest();
    let mut near = House::start();
    ssh(&mut near, &far);
    near.ctl(&["context", "create", "far", "--host", "ssh://me@node:2222"]).ok();

    let run = near.ctl(&["-c", "far", "run", "--rm", "--network", "none", "guest", "/guest", "exit", "7"]);

    run.code(7);
    let log = fs::read_to_string(near.path("ssh.log")).unwrap();
    assert!(
        log.contains("BatchMode=yes") && log.contains("-l me -p 2222 -- node ctl system dial-stdio runtime"),
        "{log}"
    );
    // What is typed there goes through, and so does the end of it.
    let cat = ["-c", "far", "run", "-i", "--rm", "--network", "none", "guest", "/guest", "cat"];
    assert_eq!(near.ctl_with(&cat, b"over the wire").ok().stdout, "over the wire");
    // A host by its flag; nothing of it is here.
    assert_eq!(near.ctl(&["-H", "ssh://me@node", "images", "--format", "{{.Repository}}"]).ok().text(), "guest");
    assert_eq!(near.ctl(&["images", "-q"]).ok().text(), "");
    // One that is started where nobody answers.
    assert_eq!(far.stop().len(), 0, "a service does not stop");
    assert_eq!(near.ctl(&["-H", "ssh://me@node", "images", "--format", "{{.Repository}}"]).ok().text(), "guest");
    near.ctl(&["-H", &format!("unix://{}", far.run_dir().display()), "images"]).ok().says(&["guest"]);
}

#[test]
fn an_ssh_that_fails_is_told_with_its_words() {
    let mut house = House::start();
    let bin = house.path("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("ssh"), "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n").unwrap();
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    house.set("PATH", &format!("{}:/usr/bin:/bin", bin.display()));

    let failed = house.ctl(&["-H", "ssh://node", "ps"]).fails();

    failed.complains(&["Permission denied (publickey)", "cannot reach the runtime at ssh://node", "hint: "]);
    house.ctl(&["-H", "ssh://", "ps"]).code(125).complains(&["invalid host \"ssh://\""]);
}

#[test]
fn another_directory_of_settings_has_contexts_and_credentials_of_its_own() {
    let house = House::start();
    let other = house.path("other");
    let other = other.to_str().unwrap();

    house.ctl(&["--config", other, "context", "create", "there", "--host", "ssh://node"]).ok();

    assert_eq!(house.ctl(&["context", "ls", "-q"]).ok().text(), "default");
    assert_eq!(house.ctl(&["--config", other, "context", "ls", "-q"]).ok().text(), "default\nthere");
    house.ctl(&["--log-level", "loud", "ps"]).code(125).complains(&["debug", "fatal"]);
    house.ctl(&["--log-level", "debug", "ps"]).ok();
}
