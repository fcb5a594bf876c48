use super::*;
use wire::mount_spec::Source as Wire;

fn mount(target: &str, source: Wire) -> wire::MountSpec {
    wire::MountSpec { target: target.into(), source: Some(source), ..Default::default() }
}

fn bind(path: &str) -> wire::BindSource {
    wire::BindSource { path: path.into(), ..Default::default() }
}

fn named(name: &str) -> wire::VolumeSource {
    wire::VolumeSource { name: name.into(), ..Default::default() }
}

fn refused(mounts: Vec<wire::MountSpec>) -> String {
    match super::mounts(mounts) {
        Err(Error::Argument { field, .. }) => field.trim_start_matches("spec.mounts").to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_malformed_is_refused_by_its_field() {
    for target in ["relative", "/a/../b", "/a\0b", "/", "/.", "//"] {
        assert_eq!(refused(vec![mount(target, Wire::Bind(bind("/x")))]), "[0].target", "{target}");
    }
    let twice = vec![mount("/a", Wire::Bind(bind("/x"))), mount("//a/.", Wire::Volume(named("v")))];
    assert_eq!(refused(twice), "[1].target");
    let map = |disk_id, container_id, count| vec![wire::MountIdMap { disk_id, container_id, count }];
    let owner = Some(wire::MountOwner { uid: 1, gid: 1 });
    for (wrong, field) in [
        (bind("x"), "[0].bind.path"),
        (wire::BindSource { propagation: 9, ..bind("/x") }, "[0].bind.propagation"),
        (wire::BindSource { recursion: 9, ..bind("/x") }, "[0].bind.recursion"),
        (wire::BindSource { recursion: wire::BindRecursion::ReadOnly.into(), ..bind("/x") }, "[0].bind.recursion"),
        (wire::BindSource { uid_map: map(0, 1, 1), ..bind("/x") }, "[0].bind.gid_map"),
        (wire::BindSource { uid_map: map(0, 1, 0), gid_map: map(0, 1, 1), ..bind("/x") }, "[0].bind.uid_map"),
        (wire::BindSource { uid_map: map(0, u32::MAX, 1), gid_map: map(0, 1, 1), ..bind("/x") }, "[0].bind.uid_map"),
        (wire::BindSource { uid_map: map(0, 1, 1), gid_map: map(0, 1, 1), r#as: owner, ..bind("/x") }, "[0].bind.as"),
    ] {
        assert_eq!(refused(vec![mount("/a", Wire::Bind(wrong))]), field);
    }
    let tmpfs = |option: &str| Wire::Tmpfs(wire::TmpfsSource { options: vec![option.into()], ..Default::default() });
    for option in ["what", "size=1,exec", "context=x", "mode=1 2", ""] {
        assert_eq!(refused(vec![mount("/a", tmpfs(option))]), "[0].tmpfs.options", "{option}");
    }
    let image = Wire::Image(wire::ImageSource::default());
    assert_eq!(refused(vec![mount("/a", image)]), "[0].image.image");
}

/// Rows 56 and 110: what a caller names never becomes a path that leads elsewhere.
#[test]
fn row_56_110_names_of_volumes_and_paths_in_them_lead_nowhere_else() {
    for name in ["..", ".", "../x", "a/b", "/etc", "a\0b", "-x", "a b", &"v".repeat(256)] {
        assert_eq!(refused(vec![mount("/a", Wire::Volume(named(name)))]), "[0].volume.name", "{name:?}");
    }
    for path in ["..", "a/../..", "a\0b"] {
        let volume = wire::VolumeSource { sub_path: path.into(), ..named("v") };
        assert_eq!(refused(vec![mount("/a", Wire::Volume(volume))]), "[0].volume.sub_path", "{path:?}");
        let image = wire::ImageSource { image: "i".into(), path: path.into(), ..Default::default() };
        assert_eq!(refused(vec![mount("/a", Wire::Image(image))]), "[0].image.path", "{path:?}");
    }
    let anonymous = wire::VolumeSource { sub_path: "x".into(), ..Default::default() };
    assert_eq!(refused(vec![mount("/a", Wire::Volume(anonymous))]), "[0].volume.sub_path");
}

/// Row 9 (CVE-2019-16884): no volume, image or memory is mounted over what the runtime itself relies on.
#[test]
fn row_9_nothing_but_binds_may_be_in_proc() {
    let image = || Wire::Image(wire::ImageSource { image: "i".into(), ..Default::default() });
    let tmpfs = || Wire::Tmpfs(wire::TmpfsSource::default());
    for target in ["/proc", "/proc/", "/proc/sys", "/./proc/1", "/proc/uptime"] {
        for source in [image(), tmpfs(), Wire::Volume(named("v")), Wire::Bytes(wire::BytesSource::default())] {
            assert_eq!(refused(vec![mount(target, source)]), "[0].target", "{target}");
        }
    }
    assert!(mounts(vec![mount("/processes", tmpfs()), mount("/proc/uptime", Wire::Bind(bind("/x")))]).is_ok());
}

#[test]
fn drivers_other_than_local_and_what_it_cannot_do_are_said_to_be_absent() {
    let nfs = wire::VolumeSource { driver: "nfs".into(), ..named("v") };
    let said = mounts(vec![mount("/a", Wire::Volume(nfs))]).unwrap_err().to_string();
    assert!(said.contains("\"nfs\"") && said.contains("local"), "{said}");
    assert!(driver("local").is_ok() && driver("").is_ok());
}

#[test]
fn mounts_are_shown_as_they_came() {
    let map = |disk_id| vec![wire::MountIdMap { disk_id, container_id: 7, count: 2 }];
    let all = vec![
        wire::MountSpec {
            is_read_only: true,
            mode: "ro,rslave".into(),
            ..mount(
                "/bind",
                Wire::Bind(wire::BindSource {
                    create: true,
                    propagation: wire::MountPropagation::Rslave.into(),
                    recursion: wire::BindRecursion::Writable.into(),
                    uid_map: map(1),
                    gid_map: map(2),
                    ..bind("/x")
                }),
            )
        },
        mount(
            "/as",
            Wire::Bind(wire::BindSource {
                propagation: wire::MountPropagation::Rprivate.into(),
                r#as: Some(wire::MountOwner { uid: 1, gid: 2 }),
                ..bind("/x")
            }),
        ),
        mount(
            "/volume",
            Wire::Volume(wire::VolumeSource {
                no_copy: true,
                sub_path: "a/b".into(),
                driver: "local".into(),
                labels: [("k".to_owned(), "v".to_owned())].into(),
                ..named("data")
            }),
        ),
        mount(
            "/tmpfs",
            Wire::Tmpfs(wire::TmpfsSource {
                size_bytes: 5,
                mode: 0o700,
                may_execute: true,
                options: vec!["uid=7".into()],
                is_like_covered: true,
            }),
        ),
    ];

    let parsed = mounts(all.clone()).unwrap();

    assert_eq!(parsed.into_iter().map(wire_mount).collect::<Vec<_>>(), all);
    let image = wire::ImageSource { image: "i".into(), path: "etc".into(), image_id: String::new() };
    let shown = mounts(vec![mount("/image", Wire::Image(image.clone()))]).unwrap().remove(0);
    assert!(shown.is_read_only, "an image always is");
    assert_eq!(wire_mount(shown).source, Some(Wire::Image(image)));
}
