use super::*;
use pb::mount_spec::Source;

fn mount(text: &str) -> pb::MountSpec {
    read(text).unwrap_or_else(|error| panic!("{text}: {}", error.message))
}

fn bind(text: &str) -> pb::BindSource {
    match mount(&format!("type=bind,src=/a,dst=/b,{text}")).source {
        Some(Source::Bind(bind)) => bind,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_volume_is_what_is_meant_without_a_type() {
    let made =
        mount("src=data,dst=/b,volume-nocopy,volume-label=a=1,volume-label=b,volume-opt=o=bind,volume-subpath=x/y");
    let Some(Source::Volume(volume)) = made.source else { panic!("{made:?}") };
    assert_eq!((volume.name.as_str(), volume.no_copy, volume.sub_path.as_str()), ("data", true, "x/y"));
    assert_eq!((volume.labels["a"].as_str(), volume.labels["b"].as_str()), ("1", ""));
    assert_eq!((volume.options[0].name.as_str(), volume.options[0].value.as_str()), ("o", "bind"));
    assert!(!made.is_read_only && made.target == "/b");
    assert!(matches!(mount("type=volume,target=/b").source, Some(Source::Volume(volume)) if volume.name.is_empty()));
    let quoted = mount("dst=/b,\"volume-opt=o=addr=1,rw\",readonly");
    assert!(quoted.is_read_only);
    assert!(matches!(quoted.source, Some(Source::Volume(volume)) if volume.options[0].value == "addr=1,rw"));
}

#[test]
fn a_bind_has_all_its_keys() {
    let made = mount("type=bind,source=/a,destination=/b,readonly=true,bind-propagation=rslave,bind-create-src");
    assert!(made.is_read_only);
    let Some(Source::Bind(source)) = made.source else { panic!("a bind") };
    assert!(source.create && source.propagation() == pb::MountPropagation::Rslave);
    assert!(!bind("ro=false").create, "unlike -v");
    for (text, recursion) in [
        ("bind-recursive=enabled", pb::BindRecursion::Unspecified),
        ("bind-recursive=disabled", pb::BindRecursion::Disabled),
        ("bind-nonrecursive", pb::BindRecursion::Disabled),
        ("bind-nonrecursive=false", pb::BindRecursion::Unspecified),
        ("ro,bind-recursive=writable", pb::BindRecursion::Writable),
        ("ro,bind-recursive=readonly", pb::BindRecursion::ReadOnly),
    ] {
        assert_eq!(bind(text).recursion(), recursion, "{text}");
    }
    assert_eq!(bind("as=1000:50").r#as, Some(pb::MountOwner { uid: 1000, gid: 50 }));
    assert_eq!(bind("as=7").r#as, Some(pb::MountOwner { uid: 7, gid: 7 }));
    let map = |disk_id, container_id, count| pb::MountIdMap { disk_id, container_id, count };
    let both = bind("idmap=0-1000-1#5-6-7");
    assert_eq!((&both.uid_map, &both.gid_map), (&vec![map(0, 1000, 1), map(5, 6, 7)], &both.uid_map));
    let each = bind("idmap=uids=0-1-2;gids=3-4-5");
    assert_eq!((each.uid_map, each.gid_map), (vec![map(0, 1, 2)], vec![map(3, 4, 5)]));
}

#[test]
fn memory_and_images_have_theirs() {
    let Some(Source::Tmpfs(tmpfs)) = mount("type=tmpfs,dst=/b,tmpfs-size=64m,tmpfs-mode=1770").source else { panic!() };
    assert_eq!((tmpfs.size_bytes, tmpfs.mode, tmpfs.is_like_covered), (64 << 20, 0o1770, false));
    let made = mount("type=image,src=debian:12,dst=/b,image-subpath=etc");
    assert!(made.is_read_only, "images always are");
    let Some(Source::Image(image)) = made.source else { panic!("{made:?}") };
    assert_eq!((image.image.as_str(), image.path.as_str()), ("debian:12", "etc"));
}

#[test]
fn mistakes_name_the_key_the_value_and_what_is_allowed() {
    for (text, words) in [
        ("", "\"\" is no field"),
        ("type=what,dst=/b", "type=what: bind, volume, tmpfs or image"),
        ("type=npipe,dst=/b", "type=npipe is not available"),
        ("src=data", "target=PATH is missing"),
        ("dst=b", "must be absolute"),
        ("dst=/", "cannot be \"/\""),
        ("type=bind,dst=/b", "source=PATH is missing"),
        ("type=bind,src=data,dst=/b", "source=data: a path of the host starts with"),
        ("src=a/b,dst=/b", "starts with \"/\" or \"./\""),
        ("type=tmpfs,src=x,dst=/b", "type=tmpfs has no source"),
        ("type=image,dst=/b", "source=IMAGE is missing"),
        ("dst=/b,readonly=perhaps", "readonly=perhaps: true or false"),
        ("dst=/b,source", "\"source\" is no field"),
        ("dst=/b,consistency=high", "consistency=high: it is one of consistent"),
        ("type=bind,src=/a,dst=/b,bind-propagation=up", "bind-propagation=up: it is one of private"),
        ("type=bind,src=/a,dst=/b,bind-recursive=x", "bind-recursive=x: it is one of enabled"),
        ("type=bind,src=/a,dst=/b,bind-recursive=readonly", "needs readonly too"),
        ("type=bind,src=/a,dst=/b,bind-recursive=writable", "needs readonly too"),
        ("type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=rshared", "bind-propagation=rprivate"),
        ("type=bind,src=/a,dst=/b,as=me", "as=me: UID:GID"),
        ("type=bind,src=/a,dst=/b,idmap", "idmap has no map"),
        ("type=bind,src=/a,dst=/b,idmap=1-2", "DISK-CONTAINER-COUNT"),
        ("type=bind,src=/a,dst=/b,idmap=uids=0-1-1", "DISK-CONTAINER-COUNT"),
        ("type=bind,src=/a,dst=/b,as=1:1,idmap=0-1-1", "one of them is enough"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "volume-nocopy is for type=volume, and this is type=bind"),
        ("dst=/b,as=1:1", "as is for type=bind, and this is type=volume"),
        ("type=tmpfs,dst=/b,tmpfs-mode=rwx", "octal digits"),
        ("type=tmpfs,dst=/b,tmpfs-size=lots", "a size such as 512m"),
        ("type=bind,src=/a,dst=/b,bind-propogation=shared", "did you mean bind-propagation?"),
    ] {
        let said = read(text).unwrap_err();
        assert!(said.message.contains(words), "{text}: {}", said.message);
        assert_eq!(said.code, crate::error::STRATA_FAILED);
    }
}
