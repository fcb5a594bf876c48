use std::path::Path;

use strata_types::LeaseId;

use super::*;
use crate::{fixture, tree};

const KB: u64 = 1000;

#[test]
fn limits_say_how_much_may_stay() {
    let with = |reserved, max_used, min_free| Pruning { reserved, max_used, min_free, ..Pruning::default() };
    for (what, used, free, expected) in [
        (with(0, 0, 0), 50, 10, None),
        (with(0, 30, 0), 50, 10, Some(30)),
        (with(0, 30, 0), 20, 10, Some(30)),
        (with(20, 0, 0), 50, 10, Some(20)),
        (with(40, 30, 0), 50, 10, Some(40)),
        (with(0, 0, 15), 50, 10, Some(45)),
        (with(0, 0, 5), 50, 10, Some(50)),
        (with(0, 48, 15), 50, 10, Some(45)),
        (with(0, 20, 15), 50, 10, Some(20)),
        (with(10, 0, 100), 50, 10, Some(10)),
    ] {
        assert_eq!(what.allowed(used, free), expected, "{what:?} of {used} with {free} free");
    }
}

#[test]
fn the_configuration_says_room_and_time_in_words() {
    let read = |text: &str| toml::from_str::<BuildCache>(text);

    let cache = read(
        "max_used_space = \"50%\"\n[[policies]]\nkeep_duration = \"48h\"\nmax_used_space = \"512MB\"\n\
         description = \"apt\"\n[[policies]]\nall = true\nreserved_space = 1000\nmin_free_space = \"1.5GiB\"\n",
    )
    .expect("a configuration");

    let policies = cache.policies(1_000 * KB);
    assert_eq!(policies[0].keep, Duration::from_secs(48 * 3600));
    assert_eq!((policies[0].max_used, policies[0].filter.description.as_str()), (512_000_000, "apt"));
    assert_eq!((policies[1].all, policies[1].reserved, policies[1].min_free), (true, 1000, 1_610_612_736));
    let usual = read("max_used_space = \"50%\"\n").expect("a configuration").policies(1_000 * KB);
    assert_eq!(usual.len(), 3);
    assert!(usual.iter().all(|policy| policy.max_used == 500 * KB && policy.min_free == 200 * KB), "{usual:?}");
    assert_eq!(usual[0].keep, Duration::from_secs(60 * 24 * 3600));
    for bad in
        ["max_used_space = \"much\"", "max_used_space = \"120%\"", "[[policies]]\nkeep_duration = \"soon\"", "x = 1"]
    {
        assert!(read(bad).is_err(), "{bad}");
    }
}

/// A store with records over layers of so many bytes, each used an hour after the one before, the last one now.
async fn cached(sizes: &[usize]) -> (tempfile::TempDir, Arc<Store>, Vec<String>) {
    let (root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "maker").await;
    let mut finds = Finds::new();
    let mut keys = Vec::new();
    for (at, size) in sizes.iter().enumerate() {
        let content = format!("{at}").repeat(*size);
        let layer = fixture::layer(&store, &lease, &content[..*size]).await;
        let key = format!("{at:064x}");
        let hours = i64::try_from(sizes.len() - 1 - at).expect("a small number");
        finds.insert(key.clone(), (1 + at as u64, catalog::now() - hours * 3_600_000));
        let description = format!("RUN step {at}");
        let (family, layer, created) = (String::new(), Some(layer), 1);
        store
            .catalog
            .put_cache_record(CacheRecord {
                key: key.clone(),
                family,
                layer,
                description,
                created,
                ..Default::default()
            })
            .await
            .unwrap();
        keys.push(key);
    }
    store.catalog.count_cache_finds(finds).await.unwrap();
    store.catalog.delete_lease(&lease).await.unwrap();
    (root, store, keys)
}

async fn pruned(store: &Arc<Store>, what: Pruning) -> Vec<String> {
    let (sender, mut receiver) = mpsc::channel(100);
    store.prune_build_cache(&what, Some(&sender)).await.unwrap();
    drop(sender);
    let mut gone = Vec::new();
    while let Some(records) = receiver.recv().await {
        gone.extend(records.into_iter().map(|record| record.description));
    }
    gone
}

#[tokio::test]
async fn what_was_not_used_for_longest_goes_until_the_rest_fits() {
    let (_root, store, _) = cached(&[3000, 3000, 3000, 3000]).await;
    assert_eq!(store.catalog.cache_size().await.unwrap(), 12_000);

    let gone = pruned(&store, Pruning { max_used: 7_000, ..Pruning::default() }).await;

    assert_eq!(gone, ["RUN step 0", "RUN step 1"]);
    assert_eq!(store.catalog.cache_size().await.unwrap(), 6_000);
    assert!(pruned(&store, Pruning { max_used: 7_000, ..Pruning::default() }).await.is_empty());
}

#[tokio::test]
async fn what_was_used_lately_stays_and_filters_choose() {
    let (_root, store, keys) = cached(&[10, 10, 10, 10]).await;

    let old = Pruning { keep: Duration::from_secs(9000), ..Pruning::default() };
    assert_eq!(pruned(&store, old).await, ["RUN step 0"]);
    let one = Filter { description: "step 2".into(), ..Filter::default() };
    assert_eq!(pruned(&store, Pruning { filter: one, ..Pruning::default() }).await, ["RUN step 2"]);
    let by_id = Filter { ids: vec![keys[3][..64].into()], ..Filter::default() };
    assert_eq!(pruned(&store, Pruning { filter: by_id, ..Pruning::default() }).await, ["RUN step 3"]);
    assert_eq!(pruned(&store, Pruning::default()).await, ["RUN step 1"]);
}

#[tokio::test]
async fn what_a_build_holds_stays_and_what_images_share_goes_only_with_all() {
    let (_root, store, keys) = cached(&[10, 20, 30]).await;
    let lease = fixture::lease(&store, "user").await;
    let held = find(&store, &keys[0], &lease).await;
    let other = fixture::lease(&store, "image").await;
    let shared = find(&store, &keys[1], &other).await;
    let layer = shared.and_then(|record| record.layer).expect("it made a layer");
    fixture::create(&store, &other, &[layer], &["shared"]).await.unwrap();
    store.catalog.delete_lease(&other).await.unwrap();

    let uses = store.catalog.cache_uses("", 10).await.unwrap();

    assert!(held.is_some());
    let states: Vec<_> = uses.iter().map(|one| (one.size, one.is_in_use, one.is_shared)).collect();
    assert_eq!(states, [(10, true, false), (20, false, true), (30, false, false)]);
    assert_eq!(pruned(&store, Pruning::default()).await, ["RUN step 2"]);
    assert_eq!(pruned(&store, Pruning { all: true, ..Pruning::default() }).await, ["RUN step 1"]);
    store.catalog.delete_lease(&lease).await.unwrap();
    assert_eq!(pruned(&store, Pruning::default()).await, ["RUN step 0"]);
}

#[tokio::test]
async fn finds_are_counted_together_and_forgotten_with_their_record() {
    let (_root, store, keys) = cached(&[10]).await;

    for _ in 0..3 {
        store.count_cache_find(&keys[0]).await.unwrap();
    }
    store.count_cache_find(&"f".repeat(64)).await.unwrap();
    assert_eq!(store.catalog.cache_uses("", 10).await.unwrap()[0].uses, 1, "nothing is written yet");
    store.write_cache_finds().await.unwrap();

    assert_eq!(store.catalog.cache_uses("", 10).await.unwrap()[0].uses, 4);
    pruned(&store, Pruning::default()).await;
    let left: i64 = store
        .catalog
        .read("count", |t| Ok(t.query_row("SELECT count(*) FROM cache_usage", [], |r| r.get(0))?))
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn policies_are_applied_when_the_cache_has_changed() {
    let (root, store, _) = cached(&[3000, 3000, 3000]).await;
    drop(store);
    let config = crate::Config {
        build_cache: toml::from_str("[[policies]]\nmax_used_space = 6000\n").expect("a configuration"),
        ..crate::Config::default()
    };
    let root = root.path().join("store");
    let (idle, drain) = (strata_rpc::Idle::default(), strata_rpc::Drain::default());
    let store = Store::open_in_boot(&root, config, idle, drain, "boot-1").await.unwrap();

    assert!(!store.apply_cache_policies().await.unwrap(), "nothing is new");
    store.build_cache_changed();
    assert!(store.apply_cache_policies().await.unwrap());

    assert_eq!(store.catalog.cache_size().await.unwrap(), 6000);
}

async fn find(store: &Arc<Store>, key: &str, lease: &LeaseId) -> Option<CacheRecord> {
    let (key, lease) = (key.to_owned(), lease.clone());
    let query = CacheQuery { key, operation: String::new(), family: String::new(), lease };
    store.find_cached(query, None).await.unwrap().record
}

/// Writes a directory of this name and time over layers, as a step of this key and operation.
async fn step(store: &Arc<Store>, lease: &LeaseId, on: &[LayerId], name: &str, time: i64, key: &str) -> LayerId {
    let modified = Some(tree::Time { seconds: time, nanoseconds: 0 });
    let source = tree::Source::Directory { explicit: true };
    let entry = tree::Entry { modified, ..tree::Entry::new(Path::new("/").join(name), source) };
    let record = CacheRecord { key: key.to_owned(), operation: "make".to_owned(), ..CacheRecord::default() };
    let how = (layer::TreeSettings::default(), Some(record));
    layer::write_tree(store, on, lease, how, [Ok(vec![entry])]).await.unwrap().id
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_meet_where_they_do_the_same_to_the_same_files_however_these_came_to_be() {
    let (_root, store, _) = cached(&[]).await;
    let lease = fixture::lease(&store, "build").await;
    let one = step(&store, &lease, &[], "a", 1, "one").await;
    let made = step(&store, &lease, std::slice::from_ref(&one), "b", 1, "two").await;
    let later = step(&store, &lease, &[], "a", 2, "three").await;
    let other = step(&store, &lease, &[], "c", 1, "four").await;
    assert_ne!(
        layer::describe(&store, &one).await.unwrap().diff_id,
        layer::describe(&store, &later).await.unwrap().diff_id
    );
    let find = async |operation: &str, layers: Option<&[LayerId]>| {
        let (key, operation, lease) = ("new".to_owned(), operation.to_owned(), lease.clone());
        let query = CacheQuery { key, operation, family: String::new(), lease };
        let found = store.find_cached(query, layers).await.unwrap();
        (found.record.map(|record| record.key), found.is_known)
    };

    let same = find("make", Some(std::slice::from_ref(&later))).await;
    let on_other = find("make", Some(std::slice::from_ref(&other))).await;
    let not_asked = find("make", None).await;
    let other_operation = find("test", Some(std::slice::from_ref(&later))).await;

    assert_eq!(same, (Some("two".to_owned()), true));
    assert_eq!((on_other, not_asked, other_operation), ((None, true), (None, true), (None, false)));
    let uses = store.catalog.cache_uses("", 10).await.unwrap();
    let met = uses.iter().find(|one| one.key == "two").unwrap();
    assert_eq!(met.layer.as_ref(), Some(&made));
}
