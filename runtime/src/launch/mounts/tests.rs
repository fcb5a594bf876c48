use super::*;
use crate::{
    record::tests::spec,
    spec::{Propagation, VolumePlace},
};

fn mount(target: &str, is_read_only: bool, source: Source) -> Mount {
    Mount { target: target.into(), is_read_only, mode: String::new(), source }
}

fn bind(path: &Path) -> Bind {
    let (propagation, recursion, ids) = (Propagation::Rprivate, Recursion::Enabled, Ids::Same);
    Bind { path: path.into(), create: false, propagation, recursion, ids }
}

fn made(mount: Mount) -> Result<OciMount, Error> {
    let mut spec = spec();
    spec.mounts = vec![mount];
    Ok(mounts(&spec.mounts, Vec::new())?.remove(0))
}

fn options(mount: &OciMount) -> Vec<&str> {
    mount.options().iter().flatten().map(String::as_str).collect()
}

#[test]
fn mounts_go_parents_first_whatever_their_order() {
    let mut spec = spec();
    let tmpfs = |target: &str| mount(target, false, Source::Tmpfs(Tmpfs { size_bytes: 4096, ..Tmpfs::default() }));
    spec.mounts = vec![tmpfs("/a/b/c"), tmpfs("/a")];
    let own = Own { source: "/x".into(), target: "/a/b".into() };

    let mounts = mounts(&spec.mounts, vec![own]).unwrap();

    let targets: Vec<_> = mounts.iter().map(|mount| mount.destination().to_str().unwrap()).collect();
    assert_eq!(targets, ["/a", "/a/b", "/a/b/c"]);
    assert!(options(&mounts[0]).contains(&"mode=1777"));
}

#[test]
fn what_is_below_a_bind_follows_its_recursion() {
    for (recursion, is_read_only, expected) in [
        (Recursion::Enabled, false, &["rbind", "rprivate"][..]),
        (Recursion::Enabled, true, &["rbind", "rprivate", "rro"]),
        (Recursion::Disabled, true, &["bind", "rprivate", "ro"]),
        (Recursion::Writable, true, &["rbind", "rprivate", "ro"]),
        (Recursion::ReadOnly, true, &["rbind", "rprivate", "rro"]),
    ] {
        let bind = Bind { recursion, ..bind(Path::new("/tmp")) };
        let made = made(mount("/a", is_read_only, Source::Bind(bind))).unwrap();
        assert_eq!(options(&made), expected, "{recursion:?}");
    }
}

#[test]
fn a_bind_as_somebody_maps_the_owner_of_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let found = fs::metadata(directory.path()).unwrap();

    let made =
        made(mount("/a", false, Source::Bind(Bind { ids: Ids::As(1000, 50), ..bind(directory.path()) }))).unwrap();

    assert!(options(&made).contains(&"idmap"));
    let map = |maps: &Option<Vec<LinuxIdMapping>>| {
        let map = &maps.as_ref().unwrap()[0];
        (map.container_id(), map.host_id(), map.size())
    };
    assert_eq!(map(made.uid_mappings()), (found.uid(), 1000, 1));
    assert_eq!(map(made.gid_mappings()), (found.gid(), 50, 1));
}

#[test]
fn a_path_that_is_not_there_is_made_or_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    let of = |create| made(mount("/a", false, Source::Bind(Bind { create, ..bind(&path) })));

    assert!(matches!(of(false), Err(Error::SourceNotFound { path: absent }) if absent == path));
    of(true).unwrap();
    assert!(path.is_dir());
}

#[test]
fn a_volume_is_its_directory_or_what_its_options_name() {
    let directory = tempfile::tempdir().unwrap();
    let volume = |device: Option<&Path>, is_read_only| {
        let place = VolumePlace { directory: "/nowhere".into(), device: device.map(Into::into), is_read_only };
        Source::Volume(VolumeMount { place: Some(place), ..VolumeMount::anonymous() })
    };

    let bound = made(mount("/a", false, volume(Some(directory.path()), true))).unwrap();

    assert_eq!(bound.source().as_deref(), Some(directory.path()));
    assert!(options(&bound).contains(&"rro"));
    let lost = made(mount("/a", false, volume(None, false)));
    assert!(matches!(lost, Err(Error::SourceNotFound { .. })));
}

#[test]
fn options_of_a_tmpfs_come_after_what_its_fields_say() {
    let tmpfs = Tmpfs { options: words(&["exec", "uid=1"]), is_like_covered: true, ..Tmpfs::default() };
    let made = made(mount("/a", true, Source::Tmpfs(tmpfs))).unwrap();
    assert_eq!(options(&made), ["nosuid", "nodev", "noexec", "exec", "uid=1", "ro"]);
}
