//! Laws: what was applied can be rebuilt to the byte, and packing is a fixed point of apply.

use crate::recipes::{received, sent};
use crate::tar::{Header, Scratch, Tar, rebuild};
use proptest::prelude::*;
use rustix::fd::AsFd;
use std::collections::HashMap;
use strata_archive::{DiffOptions, Times, Toc, pack, verify};

/// One entry out of few names, so that they meet, replace, hide and link each other.
fn entry() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "..", "."]), 1..4)
        .prop_map(|names| names.join("/"));
    let content = prop::collection::vec(any::<u8>(), 0..1500);
    let fields = (0_u32..0o10000, 0_u32..3000, -5_i64..2_000_000_000, 0_u32..1_000_000_000);
    (0..9, name.clone(), name, content, fields).prop_map(|(kind, name, target, content, fields)| {
        let (mode, owner, mtime, fraction) = fields;
        let time = format!("{}{}.{fraction:09}", if mtime < 0 { "-" } else { "" }, mtime.abs());
        let tar =
            Tar::new().pax(&[("mtime", time.as_bytes()), ("SCHILY.xattr.user.p", &content[..content.len().min(9)])]);
        let plain = Header { name: name.clone().into(), mode, owner: (owner, owner), ..Header::default() };
        match kind {
            0 | 1 => Tar::new().header(&Header { size: content.len() as u64, ..plain }).body(&content).0,
            2 => tar.header(&Header { flag: b'5', ..plain }).0,
            3 => Tar::new().symlink(&target, &name).0,
            4 => Tar::new().symlink(&format!("/{target}"), &name).0,
            5 => Tar::new().header(&Header { flag: b'6', ..plain }).0,
            6 => Tar::new().file(format!("{name}/.wh.{}", ["a", "b", "c"][content.len() % 3]), "").0,
            7 => Tar::new().file(format!("{name}/.wh..wh..opq"), "").0,
            _ => Tar::new().link(&target, &name).0,
        }
    })
}

/// Keeps the entries that can be applied after those before them, so that most archives are not errors.
fn acceptable(entries: &[Vec<u8>]) -> Tar {
    let mut tar = Tar::new();
    for entry in entries {
        let longer = tar.clone().raw(entry);
        if Scratch::new().apply(&longer.clone().end()).is_ok() {
            tar = longer;
        }
    }
    tar
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_applied_is_rebuilt_to_the_byte_and_verifies(entries in prop::collection::vec(entry(), 0..12)) {
        let tar = acceptable(&entries).end();
        let scratch = Scratch::new();

        let applied = scratch.apply(&tar).expect("acceptable");

        prop_assert_eq!(rebuild(&scratch, &applied), tar);
        prop_assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
        let decoded = Toc::decode(&applied.toc.encode()).expect("decode");
        prop_assert_eq!(decoded.diff_id(), applied.diff_id);
    }

    #[test]
    fn what_was_applied_is_rebuilt_elsewhere_whoever_has_which_contents(
        entries in prop::collection::vec(entry(), 0..12),
        owners in any::<u16>(),
    ) {
        let tar = acceptable(&entries).end();
        let scratch = Scratch::new();
        let applied = scratch.apply(&tar).expect("acceptable");
        let recipe = applied.toc.recipe().expect("recipe");
        let mut own = HashMap::new();
        for (place, part) in recipe.parts().iter().enumerate().filter(|(place, _)| owners >> place & 1 == 1) {
            let mut bytes = Vec::new();
            applied.toc.write_contents(scratch.root().as_fd(), |wanted| wanted == place, &mut bytes).expect("content");
            own.insert(part.blake3, bytes);
        }

        let (encoded, contents) =
            sent(&scratch, &applied, |place| !own.contains_key(&recipe.parts()[place].blake3));

        prop_assert!(received(&encoded, &contents, &own).expect("rebuild") == tar);
    }

    #[test]
    fn packing_what_was_packed_gives_the_same_archive(entries in prop::collection::vec(entry(), 0..12)) {
        let scratch = Scratch::new();
        scratch.apply(&acceptable(&entries).end()).expect("acceptable");
        for times in [Times::Seconds, Times::Nanoseconds] {
            for root in [false, true] {
                let options = DiffOptions { times, root, ..DiffOptions::default() };
                let (mut first, mut second) = (Vec::new(), Vec::new());
                let described = pack(scratch.root().as_fd(), &options, &mut first).expect("pack");
                let again = Scratch::new();

                let applied = again.apply(&first).expect("apply what was packed");

                pack(again.root().as_fd(), &options, &mut second).expect("pack");
                prop_assert!(first == second, "{:?} root {}", times, root);
                prop_assert_eq!(&applied.diff_id, &described.diff_id);
                prop_assert_eq!(applied.entries, described.entries);
                prop_assert_eq!(rebuild(&scratch, &described), first);
                prop_assert_eq!(verify(&described.toc, scratch.root().as_fd()).expect("verify"), []);
            }
        }
    }
}
