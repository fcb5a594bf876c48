//! Laws over generated archives.

use crate::index;
use crate::same::list;
use crate::seen::{Image, check};
use crate::tar::{Header, Scratch, Tar};
use proptest::prelude::*;

/// One entry out of few names, so that they meet, replace, hide and link each other.
fn entry() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec!["a", "b", "c", ".d", "..", "."]);
    let name = prop::collection::vec(names, 1..4).prop_map(|names| names.join("/"));
    let content = prop::collection::vec(any::<u8>(), 0..6000);
    let fields = (0_u32..0o10000, 0_u32..3000, -5_i64..2_000_000_000, 0_u32..1_000_000_000);
    (0..12, name.clone(), name, content, fields).prop_map(|(kind, name, target, content, fields)| {
        let (mode, owner, mtime, fraction) = fields;
        let time = format!("{}{}.{fraction:09}", if mtime < 0 { "-" } else { "" }, mtime.abs());
        let value = &content[..content.len().min(300)];
        let acl = list(&[(1, 7, !0), (2, 5, owner), (4, 4, !0), (0x10, 6, !0), (0x20, (mode & 7) as u16, !0)]);
        let tar = Tar::new().pax(&[
            ("mtime", time.as_bytes()),
            ("SCHILY.xattr.trusted.p", value),
            ("SCHILY.xattr.system.posix_acl_access", if fraction % 3 == 0 { &acl } else { b"" }),
        ]);
        let plain = Header { name: name.clone().into(), mode, owner: (owner, owner), ..Header::default() };
        match kind {
            0 | 1 => tar.header(&Header { size: content.len() as u64, ..plain }).body(&content).0,
            2 | 3 => tar.header(&Header { flag: b'5', ..plain }).0,
            4 => tar.symlink(&target, &name).0,
            5 => Tar::new().symlink(&format!("/{target}"), &name).0,
            6 => tar.header(&Header { flag: b'6', ..plain }).0,
            7 => tar.header(&Header { flag: b'3', device: (mode, owner + 1), ..plain }).0,
            8 => Tar::new().file(format!("{name}/.wh.{}", ["a", "b", "c"][content.len() % 3]), "").0,
            9 => Tar::new().file(format!("{name}/.wh..wh..opq"), "").0,
            _ => Tar::new().link(&target, &name).0,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_shows_of_an_image_what_unpacking_makes(entries in prop::collection::vec(entry(), 0..14)) {
        let mut tar = Tar::new();
        for entry in &entries {
            let longer = tar.clone().raw(entry);
            // Those that cannot follow what was before are refused in both forms; then it goes on without them.
            if Scratch::new().apply(&longer.clone().end()).is_ok() {
                tar = longer;
            } else {
                check(&longer.end());
            }
        }
        let tar = tar.end();
        prop_assert!(check(&tar));
        index::check(&Image::write(&tar).unwrap());
    }
}
