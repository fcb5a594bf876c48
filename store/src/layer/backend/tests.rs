//! Layers as images in a store: every way in which layers are used, and what is left when they are not.

use std::io::Cursor;
use std::sync::Arc;

use rustix::fs::OFlags;
use strata_archive::Compression;
use strata_rpc::{Drain, Idle};
use strata_types::{LayerId, LeaseId};

use super::*;
use crate::layer::tests::Bench;
use crate::layer::{self, TreeSettings};
use crate::{Config, Store, gc, tree};

async fn bench() -> Bench {
    Bench::with(Config { layer_backend: Backend::Erofs, ..Config::default() }).await
}

/// An archive made by tar of what a script leaves in its directory.
fn tar(script: &str, arguments: &[&str]) -> Vec<u8> {
    let base = tempfile::tempdir_in("/var/tmp").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).current_dir(base.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run("sh", &["-ec", script]);
    run("tar", &[&["-c", "--sort=name"], arguments].concat())
}

async fn ingest(bench: &Bench, tar: Vec<u8>) -> LayerId {
    layer::ingest(&bench.store, Cursor::new(tar), &bench.lease).await.unwrap().id
}

async fn read(store: &Arc<Store>, layers: &[LayerId], path: &str) -> String {
    let view = layer::view(store, layers).await.unwrap();
    let file = view.lookup(Path::new(path), OFlags::RDONLY).unwrap_or_else(|error| panic!("{path}: {error}"));
    io::read_to_string(File::from(file)).unwrap()
}

fn mounted(bench: &Bench) -> usize {
    bench.store.layers.chains.images().mounted.lock().unwrap().len()
}

/// A base with a link in it, a layer that implies what is below that link, and one that implies a directory.
async fn chain(bench: &Bench) -> Vec<LayerId> {
    let base = "mkdir -p usr/lib tmp; chmod 1777 tmp; ln -s usr/lib lib; echo old >usr/lib/old; echo gone >gone";
    let base = ingest(bench, tar(base, &["."])).await;
    let through = ingest(bench, tar("mkdir -p lib; echo new >lib/new", &["lib/new"])).await;
    let implied = ingest(bench, tar("mkdir tmp; echo x >tmp/x; touch .wh.gone", &["tmp/x", ".wh.gone"])).await;
    vec![base, through, implied]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_images_means_what_a_chain_of_directories_means() {
    let bench = bench().await;
    let layers = chain(&bench).await;

    assert!(layers.iter().all(|id| bench.store.paths.layer(id).is_file()));
    assert_eq!(read(&bench.store, &layers, "/usr/lib/new").await, "new\n");
    assert_eq!(read(&bench.store, &layers, "/lib/old").await, "old\n");
    assert_eq!(read(&bench.store, &layers, "/tmp/x").await, "x\n");
    let view = layer::view(&bench.store, &layers).await.unwrap();
    let at = |path| tree::Metadata::at(view.root(), Path::new(path));
    assert_eq!(at("tmp").unwrap().permissions(), 0o1777);
    assert_eq!(at("gone").unwrap_err(), rustix::io::Errno::NOENT);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("erofs"), "a mount is attached: {mounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_of_an_image_is_the_one_it_was_made_from() {
    let bench = bench().await;
    let wanted = tar("echo text >file; ln file link; mkdir -p a/b", &["."]);
    let id = ingest(&bench, wanted.clone()).await;
    let row = layer::describe(&bench.store, &id).await.unwrap();
    let diff_id = row.diff_id.unwrap();

    let made = layer::archive(&bench.store, &diff_id, Compression::None, &bench.lease).await.unwrap().unwrap();

    assert_eq!(made.digest, diff_id);
    assert_eq!(fs::read(bench.store.paths.blob(&diff_id)).unwrap(), wanted);
    let (found, mut receiver) = tokio::sync::mpsc::channel(16);
    let summary = crate::verify::verify(&bench.store, found).await.unwrap();
    assert_eq!((summary.layers, summary.damaged), (1, 0), "{:?}", receiver.recv().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_build_writes_over_images_is_a_directory_with_their_contents() {
    let bench = bench().await;
    let layers = chain(&bench).await;
    let missing = bench.store.contents.missing("lease", &[blake3::hash(b"old\n")]).unwrap();
    assert!(missing.missing.is_empty(), "contents of images are known");
    let source = tree::Source::File { blake3: blake3::hash(b"old\n"), same_file: 0 };
    let entry = tree::Entry { name_in_directory: b"copied".to_vec(), ..tree::Entry::new("/lib/", source) };
    let settings = TreeSettings { previous: Some(layers[0].clone()), ..TreeSettings::default() };

    let written =
        layer::write_tree(&bench.store, &layers, &bench.lease, (settings, None), [Ok(vec![entry])]).await.unwrap();

    let path = bench.store.paths.layer(&written.id).join("usr/lib/copied");
    assert_eq!(fs::read_to_string(path).unwrap(), "old\n");
    let all: Vec<LayerId> = layers.into_iter().chain([written.id]).collect();
    assert_eq!(read(&bench.store, &all, "/lib/copied").await, "old\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_either_form_are_used_together_whatever_new_ones_get() {
    let Bench { base, store, lease } = bench().await;
    let bench = Bench { base, store, lease };
    let layers = chain(&bench).await;
    bench.store.catalog.mark_layers_synced(&layers).await.unwrap();
    let Bench { base, store, lease } = bench;
    while Arc::strong_count(&store) > 1 {
        tokio::task::yield_now().await;
    }
    drop(store);

    let store = Store::open(base.path(), Config::default(), Idle::default(), Drain::default()).await.unwrap();
    let bench = Bench { base, store, lease: LeaseId::parse(lease.as_str()).unwrap() };
    let directory = ingest(&bench, tar("mkdir -p lib; echo more >lib/more", &["lib/more"])).await;

    assert!(bench.store.paths.layer(&directory).is_dir());
    let all: Vec<LayerId> = layers.into_iter().chain([directory]).collect();
    assert_eq!(read(&bench.store, &all, "/usr/lib/more").await, "more\n");
    assert_eq!(read(&bench.store, &all, "/usr/lib/new").await, "new\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_mounted_once_and_let_go_with_its_layer() {
    let bench = bench().await;
    let layers = chain(&bench).await;
    read(&bench.store, &layers, "/tmp/x").await;
    read(&bench.store, &layers, "/lib/old").await;
    assert_eq!(mounted(&bench), 3);
    let paths: Vec<PathBuf> = layers.iter().map(|id| bench.store.paths.layer(id)).collect();

    bench.store.catalog.delete_lease(&bench.lease).await.unwrap();
    gc::collect(&bench.store, std::time::Duration::ZERO).await.unwrap();

    assert_eq!(mounted(&bench), 0);
    assert!(paths.iter().all(|path| !path.exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_refused_leaves_no_image() {
    let bench = bench().await;
    let mut cut = tar("head -c 100000 /dev/zero >file", &["file"]);
    cut.truncate(50_000);

    let result = layer::ingest(&bench.store, Cursor::new(cut), &bench.lease).await;

    assert!(matches!(result, Err(Error::Archive { .. })), "{result:?}");
    assert_eq!(fs::read_dir(bench.store.paths.layers()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_in_an_image_is_found() {
    use std::os::unix::fs::FileExt;
    let bench = bench().await;
    let id = ingest(&bench, tar("echo text >file; touch empty", &["file", "empty"])).await;
    let image = File::options().read(true).write(true).open(bench.store.paths.layer(&id)).unwrap();
    // The name of the owner in the first header: no tree shows it.
    image.write_all_at(b"x", 4096 + 265 + 20).unwrap();

    let (found, mut receiver) = tokio::sync::mpsc::channel(16);
    let summary = crate::verify::verify(&bench.store, found).await.unwrap();

    assert_eq!(summary.damaged, 1);
    let damage = receiver.recv().await.unwrap();
    assert!(damage.kind == "layer" && damage.problem.contains("archive"), "{damage:?}");
    let diff_id = layer::describe(&bench.store, &id).await.unwrap().diff_id.unwrap();
    let made = layer::archive(&bench.store, &diff_id, Compression::None, &bench.lease).await;
    assert!(matches!(made, Err(Error::Archive { source: strata_archive::Error::Damaged { .. } })), "{made:?}");
}
