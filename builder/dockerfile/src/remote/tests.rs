use proptest::prelude::*;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn git(source: &str) -> Git {
    match parse_context(source) {
        Ok(Some(Remote::Git(git))) => git,
        other => panic!("{source}: {other:?}"),
    }
}

fn refused(source: &str) -> String {
    parse_context(source).expect_err(source).to_string()
}

#[test]
fn sources_are_files_repositories_or_paths() {
    for (source, remote) in [
        ("git@github.com:moby/buildkit.git", "git@github.com:moby/buildkit.git"),
        ("git@host:~/x", "git@host:~/x"),
        ("ssh://git@host:2222/x/y", "ssh://git@host:2222/x/y"),
        ("git://host/x", "git://host/x"),
        ("https://host/x.git", "https://host/x.git"),
        ("HTTPS://host/x.git", "https://host/x.git"),
        ("http://host:8080/x.git?ref=a", "http://host:8080/x.git"),
        ("http://name:word@host/x.git#a", "http://host/x.git"),
        ("github.com/moby/buildkit", "https://github.com/moby/buildkit"),
    ] {
        assert_eq!(git(source).remote, remote, "{source}");
    }
    for (source, url, name) in [
        ("https://host/a/b.tar.gz?x=y#z", "https://host/a/b.tar.gz?x=y", Some("b.tar.gz")),
        ("http://host/x.git/y", "http://host/x.git/y", Some("y")),
        ("http://host/a%20b", "http://host/a%20b", Some("a b")),
        ("http://n:p@host/-a", "http://host/-a", Some("-a")),
        ("http://host", "http://host", None),
        ("http://host/a/", "http://host/a/", None),
        ("http://host/%2e%2e", "http://host/%2e%2e", None),
        ("http://host/a%2fb", "http://host/a%2fb", None),
    ] {
        let Ok(Some(Remote::Http(http))) = parse(source) else { panic!("{source}") };
        assert_eq!((http.url.as_str(), http.file_name.as_deref(), http.host.as_str()), (url, name, "host"), "{source}");
    }
    for path in ["a", "./git@host:x/y", "a/b@c", "@a:b", "a b@c:d", "github.com/moby/buildkit", "ext::sh -c x", "://"] {
        assert_eq!(parse(path), Ok(None), "{path}");
    }
}

#[test]
fn fragments_name_a_reference_and_a_directory() {
    for (source, reference, directory) in [
        ("git://h/x", None, ""),
        ("git://h/x#", None, ""),
        ("git://h/x#v1", Some("v1"), ""),
        ("git://h/x#v1:", Some("v1"), ""),
        ("git://h/x#:a/b", None, "a/b"),
        ("git@h:x#a/b:c/./d/", Some("a/b"), "c/d"),
        ("git@h:x#a:../../etc", Some("a"), "etc"),
        ("git@h:x?subdir=/a/..//b#a", Some("a"), "b"),
        ("https://h/x.git?tag=v1", Some("refs/tags/v1"), ""),
        ("https://h/x.git?tag=refs/tags/v1", Some("refs/tags/v1"), ""),
        ("https://h/x.git?branch=a%2Fb&subdir=c", Some("refs/heads/a/b"), "c"),
        ("https://h/x.git?ref=a#a", Some("a"), ""),
    ] {
        let git = git(source);
        assert_eq!((git.reference.as_deref(), git.directory.as_str()), (reference, directory), "{source}");
    }
}

#[test]
fn queries_have_the_keys_of_git_urls() {
    let whole = git("https://h/x.git?checksum=ABC&keep-git-dir=1&submodules=false&mtime=commit&ref=refs/heads/main");
    assert_eq!(whole.checksum.as_deref(), Some("abc"));
    assert_eq!((whole.keep_git_dir, whole.submodules, whole.mtime), (Some(true), false, MTime::Commit));
    assert_eq!(whole.commit(), None);
    let bare = git("https://h/x.git?keep-git-dir&submodules&mtime=checkout");
    assert_eq!((bare.keep_git_dir, bare.submodules, bare.mtime), (Some(true), true, MTime::Checkout));
    let known = git(&format!("https://h/x.git?fetch-by-commit&commit={COMMIT}&branch=main"));
    assert_eq!((known.commit(), known.reference.as_deref()), (Some(COMMIT), Some("refs/heads/main")));
    assert_eq!(git(&format!("git@h:x#{COMMIT}")).commit(), Some(COMMIT));
    assert_eq!(git("git@h:a/b.git").name(), "b");
}

#[test]
fn what_a_git_url_cannot_say_is_refused() {
    for (source, part) in [
        ("https://h/x.git?nothing=1", "unknown key \"nothing\""),
        ("https://h/x.git?ref=a&ref=a", "key \"ref\" more than once"),
        ("https://h/x.git?ref", "key \"ref\" of git URL"),
        ("https://h/x.git?subdir=", "has no value"),
        ("https://h/x.git?ref=a#b", "two different references"),
        ("https://h/x.git?tag=a&branch=a", "two different references"),
        ("https://h/x.git?ref=a&tag=a", "two different references"),
        ("https://h/x.git?subdir=a#:b", "two different directories"),
        ("https://h/x.git?checksum=a&commit=b", "two different checksums"),
        ("https://h/x.git?checksum=xyz", "hex digits"),
        ("https://h/x.git?mtime=now", "checkout or commit"),
        ("https://h/x.git?submodules=maybe", "true or false"),
        ("https://h/x.git?fetch-by-commit&branch=a", "needs a whole commit"),
        ("https://h/x.git?fetch-by-commit&checksum=ab", "needs a whole commit"),
        (&format!("https://h/x.git?checksum=ff#{COMMIT}"), "two different commits"),
    ] {
        let said = refused(source);
        assert!(said.contains(part), "{source}: {said}");
    }
    let near = parse("https://h/x.git?brnach=a").expect_err("a slip").advice();
    assert_eq!(near.as_deref(), Some("did you mean \"branch\"?"));
}

/// CVE-2019-13139, and protocols that run programs or read this machine's files.
#[test]
fn row_97_nothing_of_a_git_url_is_taken_for_an_option_or_a_program() {
    for source in [
        "git@h:x#-a",
        "git@h:x#--upload-pack=touch x",
        "https://h/x.git?ref=--upload-pack%3Dx",
        "https://h/x.git#a..b",
        "https://h/x.git#a^{}",
        "https://h/x.git#a b",
        "https://h/x.git#a%0ab?",
        "https://h/x.git?ref=a%0ab",
        "https://h/x.git#a@{0}",
        "https://h/x.git#.a",
        "https://h/x.git#a.lock",
        "git@-oProxyCommand=x:y",
        "git@-h:y",
        "-git@h:y",
        "git@h:-y",
        "ssh://-oProxyCommand=x/y",
        "ssh://-o@h/y",
        "ssh://h/-y",
        "ssh://h/--upload-pack=x",
        "git://-h/x",
        "file:///etc",
        "ext://sh",
        "ftp://h/x.git",
        "https://",
        "https://:80/x",
        "https://h$(x)/y",
        "https://h/a b.git",
    ] {
        // The second of these is no URL for want of a host.
        match parse(source) {
            Err(_) => {}
            Ok(None) => assert!(source.contains('='), "{source}"),
            found => panic!("{source}: {found:?}"),
        }
    }
}

#[test]
fn flags_of_add_and_keys_of_the_url_agree() {
    let with = |source: &str, keep_git_dir, checksum| git(source).with_flags(GitFlags { keep_git_dir, checksum });
    let found = with("git@h:x", Some(true), Some("AB")).expect("they agree");
    assert_eq!((found.keep_git_dir, found.checksum.as_deref()), (Some(true), Some("ab")));
    let found = with("git@h:x?keep-git-dir=false", None, None).expect("they agree");
    assert_eq!(found.keep_git_dir, Some(false));
    for (source, keep, checksum, part) in [
        ("git@h:x?keep-git-dir", Some(false), None, "contradict"),
        ("git@h:x?checksum=ab", None, Some("ac"), "two different checksums"),
        ("git@h:x", None, Some("sha256:ab"), "hex digits"),
        (&format!("git@h:x#{COMMIT}"), None, Some("ff"), "two different commits"),
    ] {
        let said = with(source, keep, checksum).expect_err(source).to_string();
        assert!(said.contains(part), "{source}: {said}");
    }
}

#[test]
fn checksums_of_files_have_an_algorithm_and_its_digits() {
    for (name, digits) in [("sha256", 64), ("sha384", 96), ("sha512", 128)] {
        let text = format!("{name}:{}", "b".repeat(digits));
        assert_eq!(Checksum::parse(&text).expect("it is one").to_string(), text);
        for wrong in [format!("{text}b"), text.replace('b', "B"), text.replace('b', "g")] {
            let said = Checksum::parse(&wrong).expect_err(&wrong).to_string();
            assert!(said.contains(&digits.to_string()), "{said}");
        }
    }
    for wrong in ["", "abc", "md5:abc", "sha256"] {
        assert!(matches!(Checksum::parse(wrong), Err(ChecksumError::Algorithm { .. })), "{wrong}");
    }
}

#[test]
fn row_115_credentials_of_urls_are_not_shown() {
    for (text, shown) in [
        ("ADD https://canary@h/x /y", "ADD https://xxxxx@h/x /y"),
        ("ADD http://name:canary@h:80/x.git#a /", "ADD http://xxxxx@h:80/x.git#a /"),
        ("https://a:canary%40@b@h/", "https://xxxxx@h/"),
        ("[\"http://n:canary@h\", \"/x\"]", "[\"http://xxxxx@h\", \"/x\"]"),
        ("ssh://git@h/x", "ssh://git@h/x"),
        ("ssh://git:canary@h/x", "ssh://xxxxx@h/x"),
        ("git@h:x and://nothing", "git@h:x and://nothing"),
        ("http://h/a@b", "http://h/a@b"),
    ] {
        assert_eq!(redact(text), shown, "{text}");
        assert!(!shown.contains("canary"));
    }
    for source in
        ["https://n:canary@h/x.git?nothing", "ftp://n:canary@h/", "https://n:canary@h/x.git#a..b", "http://n:canary@/x"]
    {
        let error = parse(source).expect_err(source);
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
    let found = parse("https://n:canary@h/x").expect("a URL");
    assert!(!format!("{found:?}").contains("canary"), "{found:?}");
}

proptest! {
    #[test]
    fn whatever_is_parsed_names_a_host_and_no_option(text in "(https?://|git://|ssh://|git@)?[-a-z0-9@:/#?&=.%\\[\\]_ ]{0,40}") {
        match parse_context(&text) {
            Ok(Some(Remote::Git(git))) => {
                prop_assert!(!git.host.is_empty() && !git.host.starts_with('-'), "{git:?}");
                prop_assert!(!git.remote.starts_with('-'), "{git:?}");
                prop_assert!(git.reference.is_none_or(|name| !name.starts_with('-') && !name.contains("..")));
                prop_assert!(git.directory.split('/').all(|part| part != ".."));
            }
            Ok(Some(Remote::Http(http))) => {
                prop_assert!(http.file_name.is_none_or(|name| !name.contains('/') && name != ".."));
            }
            Ok(None) | Err(_) => {}
        }
    }
}
