//! Recipes: with the contents they give the exact archive; without, or with others, they give an error or another one.

use crate::tar::{Header, Scratch, Tar};
use rustix::fd::AsFd;
use std::collections::HashMap;
use std::io::{Read, Write};
use strata_archive::{Applied, Error, Recipe, decoder, encoder};

const MOST: u64 = 1 << 30;

/// What a store sends: a recipe, and contents of some places, compressed.
pub fn sent(scratch: &Scratch, applied: &Applied, is_wanted: impl Fn(usize) -> bool) -> (Vec<u8>, Vec<u8>) {
    let mut contents = encoder(Vec::new()).expect("zstd");
    applied.toc.write_contents(scratch.root().as_fd(), is_wanted, &mut contents).expect("contents");
    (applied.toc.recipe().expect("recipe").encode(), contents.finish().expect("zstd"))
}

/// What another store makes of it, with contents of its own.
pub fn received(recipe: &[u8], contents: &[u8], own: &HashMap<[u8; 32], Vec<u8>>) -> Result<Vec<u8>, Error> {
    let recipe = Recipe::decode(recipe, MOST)?;
    let mut contents = decoder(contents).expect("zstd");
    let mut tar = Vec::new();
    let next = |part: &strata_archive::Part, out: &mut dyn Write| {
        let failed = |source| Error::Write { source };
        match own.get(&part.blake3) {
            Some(bytes) => out.write_all(bytes).map_err(failed),
            None => std::io::copy(&mut contents.by_ref().take(part.size), out).map(drop).map_err(failed),
        }
    };
    recipe.rebuild(next, &mut tar)?;
    Ok(tar)
}

fn sample() -> (Scratch, Applied, Vec<u8>) {
    let scratch = Scratch::new();
    let tar = Tar::new().dir("d", 0o755).file("d/one", "one".repeat(1000)).file("d/two", "two").file("d/one", "again");
    let tar = tar.file("empty", "").file("other", "one".repeat(1000)).link("d/two", "linked").end();
    let applied = scratch.apply(&tar).expect("apply");
    (scratch, applied, tar)
}

#[test]
fn contents_of_both_sides_make_the_exact_archive() {
    let (scratch, applied, tar) = sample();
    let own = HashMap::from([(*blake3::hash(b"two").as_bytes(), b"two".to_vec())]);
    let recipe = applied.toc.recipe().expect("recipe");
    let is_wanted = |place: usize| !own.contains_key(&recipe.parts()[place].blake3);

    let (recipe, contents) = sent(&scratch, &applied, is_wanted);

    assert_eq!(received(&recipe, &contents, &own).expect("rebuild"), tar);
    assert!(contents.len() < 100, "the same content twice costs next to nothing: {}", contents.len());
}

#[test]
fn sparse_files_travel_as_their_pieces() {
    let scratch = Scratch::new();
    let tar = Tar::new().header(&Header { name: b"plain".to_vec(), size: 5, ..Header::default() }).body(b"12345");
    let tar = tar.pax(&[("GNU.sparse.map", b"1024,3,4096,2"), ("GNU.sparse.size", b"5000"), ("GNU.sparse.name", b"s")]);
    let tar = tar.header(&Header { name: b"x".to_vec(), size: 5, ..Header::default() }).body(b"abcde").end();
    let applied = scratch.apply(&tar).expect("apply");

    let (recipe, contents) = sent(&scratch, &applied, |_| true);

    assert_eq!(received(&recipe, &contents, &HashMap::new()).expect("rebuild"), tar);
}

#[test]
fn a_recipe_lies_in_vain() {
    let (scratch, applied, tar) = sample();
    let (recipe, contents) = sent(&scratch, &applied, |_| true);
    assert_eq!(received(&recipe, &contents, &HashMap::new()).expect("rebuild"), tar);

    for place in 0..recipe.len() {
        for mask in [1, 0x80, 0xff] {
            let mut damaged = recipe.clone();
            damaged[place] ^= mask;
            // What comes out has a digest that whoever rebuilds looks at, and never another size than it says.
            if let Ok(found) = received(&damaged, &contents, &HashMap::new()) {
                assert_eq!(found.len() as u64, Recipe::decode(&damaged, MOST).expect("decode").tar_size());
            }
        }
        assert!(received(&recipe[..place], &contents, &HashMap::new()).is_err(), "cut at {place}");
    }
}

#[test]
fn recipes_of_archives_that_are_too_large_are_refused() {
    let (_, applied, tar) = sample();
    let encoded = applied.toc.recipe().expect("recipe").encode();

    let refused = Recipe::decode(&encoded, tar.len() as u64 - 1);

    assert!(matches!(refused, Err(Error::Limit { what: "bytes", .. })), "{refused:?}");
    assert_eq!(Recipe::decode(&encoded, tar.len() as u64).expect("decode").tar_size(), tar.len() as u64);
}

#[test]
fn contents_must_have_the_size_that_the_recipe_says() {
    let (_, applied, _) = sample();
    let recipe = applied.toc.recipe().expect("recipe");

    for (bytes, reason) in [(&b""[..], "shorter"), (&[0; 4000], "longer")] {
        let content = |_: &strata_archive::Part, out: &mut dyn Write| {
            out.write_all(bytes).map_err(|source| Error::Write { source })
        };
        let error = recipe.rebuild(content, &mut Vec::new()).expect_err("wrong sizes");
        assert!(format!("{error:?}").contains(reason), "{error:?}");
    }
}

#[test]
fn counts_that_cannot_be_are_refused_before_memory_is_taken() {
    let mut index = vec![0xff, 0xff, 0xff, 0x7f];
    index.extend_from_slice(&[0xff, 0xff, 0x3f]);
    index.resize(2 << 20, 0);
    let mut encoded = b"STRARCP1".to_vec();
    encoded.extend_from_slice(&0_u64.to_le_bytes());
    encoded.extend_from_slice(&zstd::encode_all(&index[..], 3).expect("zstd"));

    let refused = Recipe::decode(&encoded, MOST);

    assert!(matches!(refused, Err(Error::Recipe { .. })), "{refused:?}");
    let bomb = zstd::encode_all(std::io::repeat(0).take(80 << 20), 3).expect("zstd");
    encoded.truncate(16);
    encoded.extend_from_slice(&bomb);
    let refused = Recipe::decode(&encoded, MOST);
    assert!(matches!(refused, Err(Error::Recipe { reason: "its index is too large" })), "{refused:?}");
}
