//! Claims about contents.

use super::*;

fn contents() -> (tempfile::TempDir, Contents) {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("layers")).unwrap();
    let contents = Contents::open(base.path(), Images::new(&base.path().join("layers")).into()).unwrap();
    (base, contents)
}

#[test]
fn what_was_put_is_not_missing_and_is_swept_with_its_lease() {
    let (_base, contents) = contents();
    let stored = contents.put("lease", b"one").unwrap();
    let wanted = [blake3::hash(b"two"), stored];

    assert_eq!(contents.missing("lease", &wanted).unwrap().missing, [0]);
    assert_eq!(contents.sweep(|lease| lease == "lease").unwrap(), 0);
    assert_eq!(contents.sweep(|_| false).unwrap(), 3);
    assert_eq!(contents.missing("lease", &wanted).unwrap().missing, [0, 1]);
}

#[test]
fn bytes_of_another_digest_are_refused_and_leave_nothing() {
    let (base, contents) = contents();
    let mut incoming = contents.incoming(blake3::hash(b"expected")).unwrap();
    incoming.write(b"something else").unwrap();

    let error = contents.finish("lease", incoming).unwrap_err();

    assert!(matches!(error, Error::DigestMismatch { size: 14, .. }));
    let files = fs::read_dir(base.path().join("contents")).unwrap();
    assert!(files.flatten().all(|entry| entry.path().is_dir()));
}

#[test]
fn a_content_of_a_layer_is_found_while_the_file_is_whole() {
    let (base, contents) = contents();
    let layer = base.path().join("layers/abc");
    fs::create_dir(&layer).unwrap();
    fs::write(layer.join("file"), "text").unwrap();
    let hash = blake3::hash(b"text");
    contents.record("abc", [(hash, b"file".as_slice(), 4)]).unwrap();

    let found = contents.missing("lease", &[hash]).unwrap();

    assert!(found.missing.is_empty());
    assert_eq!(found.layers.into_iter().collect::<Vec<_>>(), ["abc"]);
    let found = contents.find(&hash, None).expect("it is there");
    assert!(matches!(&found, Found::Layer(path, metadata) if *path == layer.join("file") && metadata.size == 4));
    fs::write(layer.join("file"), "longer text").unwrap();
    assert_eq!(contents.find(&hash, None), None);
    contents.forget("abc").unwrap();
    assert_eq!(contents.missing("lease", &[hash]).unwrap().missing, [0]);
}

#[test]
fn staged_contents_do_not_outlive_the_process() {
    let (base, contents) = contents();
    let hash = contents.put("lease", b"one").unwrap();
    drop(contents);

    let again = Contents::open(base.path(), Images::new(&base.path().join("layers")).into()).unwrap();

    assert_eq!(again.missing("lease", &[hash]).unwrap().missing, [0]);
}

#[test]
fn of_ten_thousand_contents_those_that_are_missing_are_named() {
    let (base, contents) = contents();
    fs::create_dir(base.path().join("layers/abc")).unwrap();
    let hashes: Vec<_> = (0..10_000_u32).map(|number| blake3::hash(&number.to_le_bytes())).collect();
    contents.record("abc", hashes[..5000].iter().map(|hash| (*hash, b"file".as_slice(), 4))).unwrap();
    for number in 5000..6000_u32 {
        contents.put("lease", &number.to_le_bytes()).unwrap();
    }

    let missing = contents.missing("lease", &hashes).unwrap().missing;

    assert_eq!(missing.len(), 4000);
}
