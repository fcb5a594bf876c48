//! The tables of the security research: rows 5, 30, 41, 42, 43 and 44 of its section 1A.

use super::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\
    \xff\xfe:x:5:5::/:/bin/sh\n\
    1000:x:0:0::/:/bin/sh\n\
    4294967296:x:0:0::/:/bin/sh\n\
    app:x:1000:1001:App:/home/app:/bin/sh\n\
    broken:x:abc:1:::\n\
    wrapped:x:4294967296:0:::\n\
    short:x:7\n\
    3proxy:x:65535:65535::relative:/bin/false\n";
const GROUP: &[u8] =
    b"root:x:0:\nwheel:x:10:root,app\nvideo:x:44:other,app,more\nappgroup:x:1001:\n0:x:5:\nbad:x:x:app\n";

fn ids(user: &str) -> Result<(u32, u32), Error> {
    resolve(user, PASSWD, GROUP).map(|identity| (identity.uid, identity.gid))
}

fn number(text: &str) -> Result<(u32, u32), Error> {
    Err(Error::Number { what: "user", text: text.to_owned() })
}

/// Rows 30 (CVE-2026-30892) and 42 (CVE-2024-40635).
#[test]
fn row_30_42_numbers_parse_strictly_or_not_at_all() {
    for (user, expected) in [
        ("", Ok((0, 0))),
        ("0", Ok((0, 0))),
        ("1", Ok((1, 0))),
        ("1:", Err(Error::Malformed { user: "1:".into() })),
        (":5", Err(Error::Malformed { user: ":5".into() })),
        (":", Err(Error::Malformed { user: ":".into() })),
        ("1:2:3", Err(Error::Malformed { user: "1:2:3".into() })),
        ("1:2", Ok((1, 2))),
        ("01", number("01")),
        ("00", number("00")),
        ("+1", number("+1")),
        ("0x1", number("0x1")),
        ("-1", number("-1")),
        (" 1", number(" 1")),
        ("root", Ok((0, 0))),
        ("2147483648", Ok((2147483648, 0))),
        ("4294967294", Ok((4294967294, 0))),
        ("4294967295", number("4294967295")),
        ("99999999999999999999", number("99999999999999999999")),
        ("1\0", Err(Error::Malformed { user: "1\0".into() })),
        ("1\n", Err(Error::Malformed { user: "1\n".into() })),
    ] {
        assert_eq!(ids(user), expected, "{user:?}");
    }
}

/// Rows 5 (CVE-2016-3697) and 43 (CVE-2026-46680).
#[test]
fn row_5_43_a_number_is_never_looked_up_as_a_name() {
    assert_eq!(ids("1000"), Ok((1000, 1001)));
    assert_eq!(ids("4294967296"), number("4294967296"));
    assert_eq!(ids("1:0"), Ok((1, 0)));
}

/// Row 41 (CVE-2022-36109): without its primary group a process passes "others" checks it should not.
#[test]
fn row_41_supplementary_groups_are_the_listed_ones_and_the_primary() {
    let app = resolve("app", PASSWD, GROUP).unwrap();
    let by_number = resolve("1000", PASSWD, GROUP).unwrap();

    assert_eq!(app, Identity { uid: 1000, gid: 1001, additional_gids: vec![10, 44, 1001], home: "/home/app".into() });
    assert_eq!(by_number, app);
}

#[test]
fn an_explicit_group_replaces_the_listed_ones() {
    let named = resolve("app:wheel", PASSWD, GROUP).unwrap();
    let numbered = resolve("app:77", PASSWD, GROUP).unwrap();

    assert_eq!((named.gid, named.additional_gids), (10, vec![10]));
    assert_eq!((numbered.gid, numbered.additional_gids), (77, vec![77]));
}

#[test]
fn missing_and_damaged_lines_are_errors_never_root() {
    let line = |name: &str| Err(Error::Line { file: "/etc/passwd", name: name.to_owned() });

    assert_eq!(ids("nobody"), Err(Error::NoUser { name: "nobody".into() }));
    assert_eq!(ids("app:nogroup"), Err(Error::NoGroup { name: "nogroup".into() }));
    assert_eq!(ids("broken"), line("broken"));
    assert_eq!(ids("wrapped"), line("wrapped"));
    assert_eq!(ids("short"), line("short"));
    assert_eq!(ids("app:bad"), Err(Error::Line { file: "/etc/group", name: "bad".into() }));
    assert_eq!(ids("app:-1"), Err(Error::Number { what: "group", text: "-1".into() }));
}

#[test]
fn a_name_may_begin_with_a_digit_and_home_must_be_absolute() {
    let proxy = resolve("3proxy", PASSWD, GROUP).unwrap();

    assert_eq!((proxy.uid, proxy.home.as_str()), (65535, "/"));
}

#[test]
fn an_image_without_passwd_takes_numbers_and_refuses_names() {
    assert_eq!(resolve("7:8", b"", b"").unwrap().additional_gids, [8]);
    assert_eq!(resolve("root", b"", b""), Err(Error::NoUser { name: "root".into() }));
}

/// Row 44 (CVE-2026-47262).
#[test]
fn row_44_a_file_beyond_ten_mebibytes_is_refused() {
    let large = vec![b'\n'; MAX_FILE_BYTES + 1];

    assert_eq!(resolve("0", &large, b""), Err(Error::TooLarge { file: "/etc/passwd", size: large.len() }));
    assert_eq!(resolve("0", b"", &large), Err(Error::TooLarge { file: "/etc/group", size: large.len() }));
    assert!(resolve("0", &large[1..], b"").is_ok());
}

#[test]
fn a_user_in_too_many_groups_is_refused() {
    let many: String = (1..=MAX_GROUPS + 1).map(|gid| format!("g{gid}:x:{gid}:app\n")).collect();

    assert_eq!(resolve("app", PASSWD, many.as_bytes()), Err(Error::TooManyGroups { user: "app".into() }));
}

proptest::proptest! {
    #[test]
    fn no_text_resolves_to_an_identity_without_a_reason(user in "\\PC{0,12}", passwd in "[a-z0-9:\\n]{0,80}") {
        if let Ok(identity) = resolve(&user, passwd.as_bytes(), b"") {
            let name = user.split(':').next().unwrap();
            let named = name.is_empty() || name == identity.uid.to_string()
                || passwd.lines().any(|line| line.starts_with(&format!("{name}:x:{}:", identity.uid)) || line.split(':').next() == Some(name));
            proptest::prop_assert!(named, "{user:?} in {passwd:?} gave {identity:?}");
        }
    }
}
