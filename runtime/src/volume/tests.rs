use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::{content::Mounted, *};

fn open(root: &Path) -> Volumes {
    fs::create_dir_all(root.join("quarantine")).unwrap();
    Volumes::open(root, Default::default()).unwrap().0
}

fn new(name: &str) -> New {
    let (name, options, labels) = (VolumeName::parse(name).unwrap(), BTreeMap::new(), BTreeMap::new());
    New { name, options, labels, durability: Durability::Synced }
}

fn names(volumes: &Volumes) -> Vec<String> {
    volumes.page("", 100).iter().map(|volume| volume.record.name.to_string()).collect()
}

fn entries(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("volumes")).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// An archive of a directory in which somebody made these files.
fn archive(make: impl FnOnce(&Path)) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path());
    let (opened, mut bytes) = (File::open(directory.path()).unwrap(), Vec::new());
    strata_archive::export(std::os::fd::AsFd::as_fd(&opened), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_volume_is_read_back_as_it_was_made() {
    let root = tempfile::tempdir().unwrap();
    let mut wanted = new("data");
    wanted.labels.insert("k".into(), "v".into());
    let made = open(root.path()).ensure(wanted.clone()).unwrap();
    fs::write(made.data().join("file"), "x").unwrap();

    let volumes = open(root.path());

    let found = volumes.find(&wanted.name).unwrap();
    assert_eq!((&found.record.labels, found.record.created_at), (&wanted.labels, made.record.created_at));
    assert_eq!(fs::read_to_string(found.data().join("file")).unwrap(), "x");
    assert_eq!(fs::metadata(found.data()).unwrap().mode() & 0o7777, 0o755);
    assert!(matches!(
        volumes.find(&VolumeName::parse("other").unwrap()),
        Err(Error::Volume(VolumeError::NotFound { .. }))
    ));
}

#[test]
fn a_volume_that_is_there_is_as_good_unless_other_options_are_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let volumes = open(root.path());
    let with = |device: &str| New {
        options: [("type", "none"), ("o", "bind"), ("device", device)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..new("data")
    };
    let made = volumes.ensure(with("/srv")).unwrap();

    assert!(Arc::ptr_eq(&volumes.ensure(new("data")).unwrap(), &made));
    assert!(Arc::ptr_eq(&volumes.ensure(with("/srv")).unwrap(), &made));
    assert!(matches!(volumes.ensure(with("/opt")), Err(Error::Volume(VolumeError::Exists { .. }))));
    assert_eq!(made.place().device.as_deref(), Some(Path::new("/srv")));
}

#[test]
fn what_may_not_go_stays_and_what_goes_is_gone_at_once() {
    let root = tempfile::tempdir().unwrap();
    let volumes = open(root.path());
    let name = volumes.ensure(new("data")).unwrap().record.name.clone();

    let refused = volumes.discard(&name, |_| Err(VolumeError::NotEmpty { name: name.to_string() }.into()));
    assert!(refused.is_err() && volumes.find(&name).is_ok());
    let discarded = volumes.discard(&name, |_| Ok(())).unwrap();

    assert!(volumes.find(&name).is_err() && !entries(root.path()).contains(&"data".to_owned()));
    assert!(volumes.ensure(new("data")).unwrap().is_empty().unwrap());
    discarded.remove().unwrap();
    assert_eq!(entries(root.path()), ["data"]);
}

/// A crash in the middle of a create, a removal or an import.
#[test]
fn what_is_half_made_or_half_removed_is_left_for_the_sweep_and_is_no_volume() {
    let root = tempfile::tempdir().unwrap();
    let volume = open(root.path()).ensure(new("data")).unwrap();
    for hidden in [".new-1", ".gone-2"] {
        fs::create_dir_all(root.path().join("volumes").join(hidden).join("_data")).unwrap();
    }
    fs::create_dir(volume.directory.join(NEW)).unwrap();
    fs::write(volume.directory.join(NEW).join("half"), "x").unwrap();

    let (volumes, left) = Volumes::open(root.path(), Default::default()).unwrap();

    assert_eq!((names(&volumes), left.len()), (vec!["data".to_owned()], 3));
    left.into_iter().for_each(|one| one.remove().unwrap());
    assert_eq!(entries(root.path()), ["data"]);
    let volume = volumes.find(&volume.record.name).unwrap();
    assert!(volume.is_empty().unwrap());
    let bytes = archive(|dir| fs::write(dir.join("whole"), "x").unwrap());
    volume.replace(bytes.as_slice(), Mounted::No, Durability::Synced).unwrap();
    assert!(volume.data().join("whole").exists() && !volume.data().join("half").exists());
}

#[test]
fn a_damaged_record_is_set_aside_with_its_content() {
    let root = tempfile::tempdir().unwrap();
    let volume = open(root.path()).ensure(new("data")).unwrap();
    fs::write(volume.data().join("file"), "kept").unwrap();
    fs::write(volume.directory.join("record.json"), "{").unwrap();

    assert!(names(&open(root.path())).is_empty());

    let aside = root.path().join("quarantine/volume-data/_data/file");
    assert_eq!(fs::read_to_string(aside).unwrap(), "kept");
}

#[test]
fn content_comes_with_modes_links_and_attributes_and_goes_out_the_same() {
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let volume = open(root.path()).ensure(new("data")).unwrap();
    let bytes = archive(|dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/file"), "x").unwrap();
        fs::hard_link(dir.join("sub/file"), dir.join("twin")).unwrap();
        symlink("/etc/passwd", dir.join("link")).unwrap();
        fs::set_permissions(dir.join("sub"), fs::Permissions::from_mode(0o2750)).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    });

    volume.replace(bytes.as_slice(), Mounted::No, Durability::Synced).unwrap();

    let data = volume.data();
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(fs::metadata(data.join("sub")).unwrap().mode() & 0o7777, 0o2750);
    assert_eq!(fs::metadata(data.join("twin")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    let mut out = Vec::new();
    volume.export(&mut out).unwrap();
    assert_eq!(out, bytes);
}

#[test]
fn half_of_an_archive_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let volume = open(root.path()).ensure(new("data")).unwrap();
    fs::write(volume.data().join("before"), "x").unwrap();
    let bytes = archive(|dir| fs::write(dir.join("file"), vec![7; 100_000]).unwrap());

    let error = volume.replace(&bytes[..50_000], Mounted::No, Durability::Synced).unwrap_err();

    assert!(matches!(error, Error::Archive { .. }), "{error:?}");
    assert!(volume.data().join("before").exists() && !volume.data().join("file").exists());
    assert!(!volume.directory.join(NEW).exists());
}

/// A directory that somebody has mounted stays the same one.
#[test]
fn what_is_mounted_is_filled_in_place() {
    let root = tempfile::tempdir().unwrap();
    let volume = open(root.path()).ensure(new("data")).unwrap();
    let inode = || fs::metadata(volume.data()).unwrap().ino();
    let before = inode();
    let bytes = archive(|dir| fs::write(dir.join("file"), "x").unwrap());

    volume.replace(bytes.as_slice(), Mounted::Yes, Durability::Unsynced).unwrap();

    assert!(inode() == before && volume.data().join("file").exists());
}
