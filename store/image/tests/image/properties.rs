//! The law of this package: what is saved and loaded again is the same, whatever it was and however it travelled.

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::*;
use strata_image::{Archive, Codec, Document, Format, Limits, Plan, Platforms, Root, save};
use strata_types::Descriptor;
use tempfile::tempdir;

use crate::memory::{Layer, Memory, compress, root, transfer};

const PLATFORMS: [&str; 5] = ["linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7", "linux/386"];
const NAMES: [&str; 5] = ["a:1", "a:2", "b:1", "example.org:5000/x/y:latest", "c/d:1"];

/// What to build: layers, images of layers, and roots of images.
#[derive(Clone, Debug)]
struct Recipe {
    layers: Vec<(String, u8)>,
    images: Vec<(usize, Vec<usize>)>,
    roots: Vec<Vec<usize>>,
    names: Vec<Option<usize>>,
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let layers = prop::collection::vec(("[a-z]{0,40}", 0..3_u8), 1..5);
    let images = prop::collection::vec((0..PLATFORMS.len(), prop::collection::vec(0..5_usize, 0..4)), 1..5);
    let roots = prop::collection::vec(prop::collection::vec(0..5_usize, 1..4), 1..4);
    let names = prop::collection::vec(prop::option::of(0..4_usize), NAMES.len());
    (layers, images, roots, names).prop_map(|(layers, images, roots, names)| Recipe { layers, images, roots, names })
}

/// Makes the images; a root of one image is the image, of several an index.
fn build(recipe: &Recipe) -> (Memory, Vec<Root>) {
    let mut memory = Memory::default();
    let layers: Vec<Layer> = recipe
        .layers
        .iter()
        .map(|(content, codec)| {
            memory.layer(content, [None, Some(Codec::Gzip(1)), Some(Codec::Zstd(1))][usize::from(*codec)])
        })
        .collect();
    let images: Vec<(Descriptor, &str)> = recipe
        .images
        .iter()
        .map(|(platform, used)| {
            let used: Vec<Layer> = used.iter().map(|index| layers[index % layers.len()].clone()).collect();
            (memory.image(PLATFORMS[*platform], &used), PLATFORMS[*platform])
        })
        .collect();
    let mut roots: Vec<Root> = vec![];
    for used in &recipe.roots {
        let used: Vec<_> = used.iter().map(|index| &images[index % images.len()]).collect();
        let descriptor = match used[..] {
            [(image, _)] => image.clone(),
            _ => {
                let entries: Vec<_> = used.iter().map(|(image, platform)| (image, *platform)).collect();
                memory.index(&entries)
            }
        };
        if !roots.iter().any(|root| root.descriptor.digest == descriptor.digest) {
            roots.push(root(&descriptor, &[]));
        }
    }
    for (name, used) in NAMES.iter().zip(&recipe.names) {
        if let Some(used) = used {
            let position = used % roots.len();
            let named = root(&roots[position].descriptor, &[name]);
            roots[position].names.extend(named.names);
        }
    }
    (memory, roots)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn save_then_load_is_the_identity(recipe in recipes(), docker: bool, codec in 0..3_usize) {
        let (memory, roots) = build(&recipe);
        let limits = Limits::default();
        let format = if docker { Format::DockerArchive } else { Format::OciLayout };
        let plan = Plan::new(&memory, &roots, &Platforms::All, &limits).unwrap();
        let bytes = save::tar(&plan, &memory, format, vec![]).unwrap();
        let stream = match [None, Some(Codec::Gzip(1)), Some(Codec::Zstd(1))][codec] {
            None => bytes.clone(),
            Some(codec) => compress(&bytes, codec),
        };

        let scratch = tempdir().unwrap();
        let archive = Archive::from_stream(Cursor::new(stream), scratch.path(), &limits, &mut ()).unwrap();
        let again = Plan::new(&archive, archive.roots(), &Platforms::All, &limits).unwrap();
        let mut loaded = Memory::default();
        transfer(&again, &archive, &mut loaded).unwrap();

        prop_assert_eq!(archive.roots(), &roots[..]);
        prop_assert_eq!(again.blobs(), plan.blobs());
        // Images that no root names stay behind, and nothing else.
        let wanted = plan.blobs().iter().map(|blob| (blob.descriptor.digest, memory.0[&blob.descriptor.digest].clone()));
        prop_assert_eq!(loaded.0.clone(), wanted.collect::<BTreeMap<_, _>>());
        let bytes_again = save::tar(&again, &loaded, format, vec![]).unwrap();
        prop_assert!(bytes_again == bytes, "saved again, it is another archive");
    }

    #[test]
    fn no_document_makes_the_parser_panic(text in "[\\[\\]{}:,\"a-z0-9 ]{0,80}", declared in "[a-z/+.]{0,20}") {
        let _ = Document::parse(text.into_bytes(), &declared, &Limits::default());
    }
}
