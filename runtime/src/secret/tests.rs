use std::os::unix::fs::PermissionsExt;

use super::*;

fn open(root: &Path) -> Secrets {
    Secrets::open(root, Log::default()).unwrap()
}

fn new(name: &str, value: &[u8], replace: Replace) -> New {
    let labels = BTreeMap::from([("tier".to_owned(), "back".to_owned())]);
    New { name: SecretName::parse(name).unwrap(), value: Value::new(value.to_vec()).unwrap(), labels, replace }
}

fn value(secrets: &Secrets, name: &str) -> Vec<u8> {
    secrets.value(&SecretName::parse(name).unwrap()).unwrap().into_bytes()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_secret_survives_and_is_for_nobody_else_to_read() {
    let root = tempfile::tempdir().unwrap();
    // A line break in the value is the value's.
    let made = open(root.path()).create(new("db-password", b"hunter2\nand\0more", Replace::No)).unwrap();

    let again = open(root.path());

    assert_eq!(again.find("db-password").unwrap(), made);
    assert_eq!(again.find(made.id.as_str()).unwrap(), made);
    assert_eq!(again.find(&made.id.as_str()[..6]).unwrap(), made);
    assert_eq!(value(&again, "db-password"), b"hunter2\nand\0more");
    assert_eq!(mode(&root.path().join("secrets")), 0o700);
    assert_eq!(mode(&root.path().join("secrets/db-password")), 0o600);
    assert!(matches!(again.find(""), Err(Error::Secret(SecretError::NotFound { .. }))));
}

#[test]
fn a_name_is_taken_unless_its_value_is_to_be_replaced() {
    let root = tempfile::tempdir().unwrap();
    let secrets = open(root.path());
    let first = secrets.create(new("one", b"old", Replace::No)).unwrap();

    let refused = secrets.create(new("one", b"hunter2", Replace::No)).unwrap_err();
    assert!(matches!(refused, Error::Secret(SecretError::Exists { .. })) && !refused.to_string().contains("hunter2"));
    assert_eq!(value(&secrets, "one"), b"old");
    let second = secrets.create(new("one", b"new", Replace::Yes)).unwrap();

    assert_eq!(value(&open(root.path()), "one"), b"new");
    assert_eq!((&second.id, second.created_at), (&first.id, first.created_at));
    assert!(second.updated_at >= first.updated_at);
    assert_eq!(fs::read_dir(root.path().join("secrets")).unwrap().count(), 1);
}

#[test]
fn a_removed_secret_is_gone_and_one_that_may_not_go_stays() {
    let root = tempfile::tempdir().unwrap();
    let secrets = open(root.path());
    let name = secrets.create(new("one", b"x", Replace::No)).unwrap().name;
    let held = || Err(Error::from(SecretError::InUse { name: "one".into(), holders: vec![] }));

    assert!(secrets.remove(&name, held).is_err());
    assert_eq!(value(&secrets, "one"), b"x");
    secrets.remove(&name, || Ok(())).unwrap();

    assert!(secrets.value(&name).is_err() && secrets.remove(&name, || Ok(())).is_err());
    assert!(open(root.path()).page("", 10).is_empty());
}

#[test]
fn secrets_are_listed_by_name_behind_another() {
    let root = tempfile::tempdir().unwrap();
    let secrets = open(root.path());
    for name in ["b", "a", "c"] {
        secrets.create(new(name, b"x", Replace::No)).unwrap();
    }
    let names = |page: Vec<Record>| page.into_iter().map(|record| record.name.to_string()).collect::<Vec<_>>();

    assert_eq!(names(secrets.page("", 2)), ["a", "b"]);
    assert_eq!(names(secrets.page("b", 2)), ["c"]);
}

#[test]
fn half_of_a_secret_goes_and_a_damaged_one_is_set_aside_without_its_value_being_told() {
    let root = tempfile::tempdir().unwrap();
    open(root.path()).create(new("good", b"x", Replace::No)).unwrap();
    let dir = root.path().join("secrets");
    fs::write(dir.join(NEW), "{\"version\"").unwrap();
    fs::write(dir.join("bad"), "{\"version\":1}\nhunter2").unwrap();
    fs::copy(dir.join("good"), dir.join("other")).unwrap();
    let said = read(&dir.join("bad"), "bad").unwrap_err();
    assert!(!strata_rpc::fault::chain(&said).contains("hunter2"), "{said:?}");

    let secrets = open(root.path());

    assert_eq!(secrets.page("", 10).len(), 1);
    assert!(!dir.join(NEW).exists());
    for aside in ["secret-bad", "secret-other"] {
        assert!(root.path().join("quarantine").join(aside).exists(), "{aside}");
    }
}

#[test]
fn values_have_limits_and_are_never_printed() {
    assert!(Value::new(vec![]).is_err() && Value::new(vec![0; MOST + 1]).is_err());
    assert!(Value::new(vec![7; MOST]).is_ok());
    let value = |bytes: &[u8]| Value::new(bytes.to_vec()).unwrap();
    assert_eq!(format!("{:?} {:?}", value(b"hunter2"), new("a", b"hunter2", Replace::No)).find("hunter2"), None);
    assert_eq!(value("grün".as_bytes()).into_text().as_deref(), Ok("grün"));
    assert!(value(b"a\0b").into_text().is_err() && value(b"\xff").into_text().is_err());
}
