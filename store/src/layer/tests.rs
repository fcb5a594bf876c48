//! Layers on a whole store.

use super::*;
use crate::{Config, blob, catalog};
use strata_rpc::{Drain, Idle};

/// A store with a lease, in a directory that goes with it.
pub(crate) struct Bench {
    pub base: tempfile::TempDir,
    pub store: Arc<Store>,
    pub lease: LeaseId,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        let store = Store::open(base.path(), config, Idle::default(), Drain::default()).await.unwrap();
        let lease = LeaseId::parse("lease").unwrap();
        store.catalog.create_lease(&lease, "test", None).await.unwrap();
        Self { base, store, lease }
    }

    /// Ingests a tree that looks like a small Debian.
    pub async fn base_layer(&self) -> LayerId {
        let tree = self.base.path().join("base-tree");
        fs::create_dir_all(tree.join("usr/lib")).unwrap();
        fs::write(tree.join("usr/lib/old"), "old").unwrap();
        if fs::symlink_metadata(tree.join("lib")).is_err() {
            std::os::unix::fs::symlink("usr/lib", tree.join("lib")).unwrap();
        }
        self.ingest(&tree).await.unwrap().id
    }

    pub async fn ingest(&self, tree: &Path) -> Result<LayerRow> {
        let mut tar = Vec::new();
        let options = strata_archive::DiffOptions { root: true, ..strata_archive::DiffOptions::default() };
        strata_archive::pack(open_directory(tree).unwrap().as_fd(), &options, &mut tar).unwrap();
        ingest(&self.store, std::io::Cursor::new(tar), &self.lease).await
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.store.paths.layers()).unwrap().count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_archive_twice_is_one_layer() {
    let bench = Bench::new().await;

    let one = bench.base_layer().await;
    let two = bench.base_layer().await;

    assert_eq!(one, two);
    assert_eq!(bench.layers(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_ends_early_leaves_nothing() {
    let bench = Bench::new().await;
    let tree = bench.base.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), vec![7; 10_000]).unwrap();
    let mut tar = Vec::new();
    strata_archive::pack(open_directory(&tree).unwrap().as_fd(), &Default::default(), &mut tar).unwrap();
    tar.truncate(6000);

    let result = ingest(&bench.store, std::io::Cursor::new(tar), &bench.lease).await;

    assert!(matches!(result, Err(Error::Archive { .. })), "{result:?}");
    assert_eq!(bench.layers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_of_a_layer_are_known_and_its_table_can_be_read() {
    let bench = Bench::new().await;
    let id = bench.base_layer().await;

    let missing = bench.store.contents.missing("lease", &[blake3::hash(b"old")]).unwrap();

    assert!(missing.missing.is_empty());
    let row = describe(&bench.store, &id).await.unwrap();
    let toc = blob::read(&bench.store, &row.toc.unwrap()).await.unwrap();
    assert_eq!(Toc::decode(&toc).unwrap().diff_id(), row.diff_id.unwrap().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_tree_is_described_behind() {
    let bench = Bench::new().await;
    let base = bench.base_layer().await;
    let blake3 = bench.store.contents.put("lease", b"text").unwrap();
    let source = tree::Source::File { blake3, same_file: 0 };
    let entry = tree::Entry { name_in_directory: b"x".to_vec(), ..tree::Entry::new("/lib/", source) };

    let written = write_tree(
        &bench.store,
        std::slice::from_ref(&base),
        &bench.lease,
        (TreeSettings::default(), None),
        [Ok(vec![entry])],
    );
    let row = written.await.unwrap();
    let described = describe(&bench.store, &row.id).await.unwrap();

    assert!(described.diff_id.is_some() && described.state == catalog::LayerState::Unsynced);
    assert!(bench.store.paths.layer(&row.id).join("usr/lib/x").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_cannot_be_written_leaves_no_layer() {
    let bench = Bench::new().await;
    let missing = tree::Source::File { blake3: blake3::hash(b"none"), same_file: 0 };
    let entry = tree::Entry::new("/x", missing);

    let result = write_tree(&bench.store, &[], &bench.lease, (TreeSettings::default(), None), [Ok(vec![entry])]).await;

    assert!(matches!(result, Err(Error::Tree(tree::Error::ContentNotFound { .. }))), "{result:?}");
    assert_eq!(bench.layers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_cannot_be_an_archive_says_why_to_everybody() {
    let bench = Bench::new().await;
    let row = write_tree(&bench.store, &[], &bench.lease, (TreeSettings::default(), None), []).await.unwrap();
    describe(&bench.store, &row.id).await.unwrap();
    let bad = bench.store.catalog.create_layer(&bench.lease).await.unwrap();
    let directory = bench.store.paths.layer(&bad);
    make_directory(&directory).unwrap();
    fs::write(directory.join(".wh.name"), "").unwrap();
    bench.store.catalog.mark_layer_usable(&bad).await.unwrap();

    let (one, two) = (describe(&bench.store, &bad).await, describe(&bench.store, &bad).await);

    assert!(matches!(&one, Err(Error::LayerDamaged { problem, .. }) if problem.contains(".wh.name")), "{one:?}");
    assert!(matches!(two, Err(Error::LayerDamaged { .. })));
}

#[test]
fn a_shape_is_read_back_as_it_was_written() {
    for shape in [
        Shape::exact(),
        Shape { implied: vec![b"a".to_vec(), b"a/\xff".to_vec()], has_root: false, is_root_opaque: true },
    ] {
        assert_eq!(Shape::decode(&shape.encode()), Some(shape));
    }
    assert_eq!(Shape::decode(&[]), None);
    assert_eq!(Shape::decode(b"\x00unfinished"), None);
}

/// Layers of one file each, `file-0` at the bottom.
async fn layers(bench: &Bench, count: usize) -> Vec<LayerId> {
    let mut ids = Vec::new();
    for number in 0..count {
        let tree = bench.base.path().join(format!("tree-{number}"));
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(format!("file-{number}")), number.to_string()).unwrap();
        ids.push(bench.ingest(&tree).await.unwrap().id);
    }
    ids
}

/// Waits until nothing is done in the background.
async fn rest(store: &Arc<Store>) {
    while store.idle.count() > 0 {
        tokio::task::yield_now().await;
    }
}

/// What flat chains are made of.
fn merged(bench: &Bench) -> Vec<fs::FileType> {
    let chains = bench.base.path().join("chains");
    let names = crate::disk::names(&chains).unwrap();
    let names = names.iter().filter(|name| name.ends_with("-merged"));
    names.map(|name| fs::symlink_metadata(chains.join(name).join("0")).unwrap().file_type()).collect()
}

/// Makes a long chain of layers of a form, and an image of it; says what it became.
async fn one_behind(backend: Backend) -> fs::FileType {
    let bench = Bench::with(Config { layer_backend: backend, ..Config::default() }).await;
    let ids = layers(&bench, chain::FLAT_ABOVE + 1).await;
    let image = crate::fixture::create(&bench.store, &bench.lease, &ids, &["long:1"]).await.unwrap();
    let config = crate::image::config_json(&bench.store, &image.row).await.unwrap();

    assert_eq!(chain(&bench.store, &ids[1..]).await.unwrap().lowers.len(), chain::FLAT_ABOVE, "30 are no long chain");
    rest(&bench.store).await;
    assert_eq!(chain(&bench.store, &ids[1..]).await.unwrap().lowers.len(), chain::FLAT_ABOVE);
    chain(&bench.store, &ids).await.unwrap();
    rest(&bench.store).await;

    let key = strata_types::SnapshotKey::parse("container").unwrap();
    let keep = crate::snapshot::Writing::of(crate::snapshot::Keep::Volatile);
    crate::snapshot::prepare(&bench.store, key.clone(), ids.clone(), Some(image.row.id), None, keep).await.unwrap();
    let (row, mount) = crate::snapshot::acquire(&bench.store, &key, "me", keep).await.unwrap();
    let [flat] = &mount.lowers[..] else { panic!("the mount has {:?}", mount.lowers) };
    for number in 0..ids.len() {
        assert_eq!(fs::read_to_string(flat.join(format!("file-{number}"))).unwrap(), number.to_string());
    }
    assert_eq!(row.layer_ids, ids);
    let again = crate::image::get(&bench.store, "long:1", None).await.unwrap();
    assert_eq!(again.row.layers, ids);
    assert_eq!(crate::image::config_json(&bench.store, &again.row).await.unwrap(), config);
    let tops = crate::layer::view(&bench.store, &ids).await.unwrap();
    tops.lookup(Path::new("file-0"), OFlags::RDONLY).unwrap();

    let made = merged(&bench);
    crate::snapshot::release(&bench.store, &key, "me").await.unwrap();
    crate::snapshot::remove(&bench.store, &key, "").await.unwrap();
    bench.store.catalog.delete_lease(&bench.lease).await.unwrap();
    crate::image::remove(&bench.store, "long:1", true).await.unwrap();
    crate::gc::collect(&bench.store, std::time::Duration::ZERO).await.unwrap();
    assert!(merged(&bench).is_empty(), "it goes with its layers");
    assert_eq!(bench.layers(), 0);
    let [made] = made[..] else { panic!("there are {made:?}") };
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_becomes_one_directory_behind_and_its_image_stays_what_it_was() {
    assert!(one_behind(Backend::Dirs).await.is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_of_images_becomes_one_behind_and_its_image_stays_what_it_was() {
    assert!(one_behind(Backend::Erofs).await.is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_layers_than_the_kernel_stacks_are_refused_by_number() {
    let bench = Bench::new().await;
    let id = bench.base_layer().await;

    let refused = chain(&bench.store, &vec![id; MOST_LOWERS + 1]).await.unwrap_err();

    assert!(
        matches!(&refused, Error::Invalid { field: "layer_ids", problem } if problem.contains("501") && problem.contains("500"))
    );
}
