use super::*;

mod model;

fn file(text: &str) -> IgnoreFile {
    IgnoreFile::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

// The table of moby/patternmatcher: patternmatcher_test.go, TestMatches.
#[test]
fn single_patterns_match_as_in_moby() {
    let cases = [
        ("**", "file", true),
        ("**", "file/", true),
        ("**/", "file", true),
        ("**/", "file/", true),
        ("**", "/", true),
        ("**/", "/", true),
        ("**", "dir/file", true),
        ("**/", "dir/file", true),
        ("**", "dir/file/", true),
        ("**/", "dir/file/", true),
        ("**/**", "dir/file", true),
        ("**/**", "dir/file/", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/file/", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir/dir2/file/", true),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/file/", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**/dir2/**", "dir/dir2/dir3/file/", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**/file", "dir/file", true),
        ("**file", "dir/dir/file", true),
        ("**/file", "dir/dir/file", true),
        ("**/file*", "dir/dir/file", true),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abc.def", true),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\\\", "a\\", true),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc", false),
        ("abc/**", "abc/def", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        (
            "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
            "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
            true,
        ),
        ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", true),
        ("a\\*b", "a*b", true),
    ];
    for (pattern, path, expected) in cases {
        assert_eq!(file(pattern).matches(path).is_excluded(), expected, "{pattern} {path}");
    }
}

#[test]
fn the_last_line_that_matches_decides() {
    let cases = [
        ("!fileutils.go\n*.go", "fileutils.go", true),
        ("docs\n!docs/README.md", "docs/README.md", false),
        ("docs/\n!docs/README.md", "docs/README.md", false),
        ("docs/*\n!docs/README.md", "docs/README.md", false),
        ("*.go\n!fileutils.go", "fileutils.go", false),
        ("*.go", ".", false),
        ("**\n!util/docker/web", "util/docker/web/foo", false),
        ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
        ("*\n!src", "src/main.rs", false),
        ("*\n!src\nsrc/*.o", "src/main.o", true),
        ("", "anything", false),
    ];
    for (text, path, expected) in cases {
        assert_eq!(file(text).matches(path).is_excluded(), expected, "{text:?} {path}");
    }
}

#[test]
fn lines_are_cleaned_before_they_match() {
    let cases = [
        ("\u{feff}a", "a", true),
        ("  a  ", "a", true),
        ("/a/b", "a/b", true),
        ("a//b/", "a/b", true),
        ("./a", "a", true),
        ("a/../b", "b", true),
        ("#a", "#a", false),
        (" #a", "#a", true),
        ("a\r\nb", "a", true),
        ("*\n!  /a", "a", false),
        ("a", "/a", true),
        ("a", "./a", true),
        ("/", "a", false),
        (".", "a", false),
    ];
    for (text, path, expected) in cases {
        assert_eq!(file(text).matches(path).is_excluded(), expected, "{text:?} {path}");
    }
}

#[test]
fn the_line_that_excludes_a_path_is_named() {
    let ignore = file("# comment\n\n*.log\n!keep.log\n/target/\n");

    let pattern = ignore.matching_pattern("target/release/x").unwrap();

    assert_eq!((pattern.line, pattern.text.as_str()), (5, "/target/"));
    assert_eq!(ignore.matching_pattern("a.log").unwrap().line, 3);
    assert!(ignore.matching_pattern("keep.log").is_none());
    assert!(ignore.matching_pattern("src").is_none());
}

#[test]
fn a_directory_is_skipped_only_if_nothing_below_can_come_back() {
    let cases = [
        ("target", "target", Some(true)),
        ("target\n!target/keep", "target", Some(false)),
        ("target\n!other", "target", Some(true)),
        ("target\n!**/keep", "target", Some(false)),
        ("target\n!*/keep", "target", Some(false)),
        ("target\n!*.md", "target", Some(true)),
        ("target\n!t*/a/b", "target/a", Some(false)),
        ("target\n!t*/a/b", "target/c", Some(true)),
        ("!target/keep\ntarget", "target", Some(true)),
        ("*\n!src", "node_modules", Some(true)),
        ("*\n!src", "src", None),
        ("a\n!a/b/c", "a/b", Some(false)),
        ("a\n!a/b/c", "a/bb", Some(true)),
        ("a\n!**suffix", "a", Some(false)),
    ];
    for (text, path, whole) in cases {
        let expected = whole.map_or(Match::Included, |whole| Match::Excluded { whole });
        assert_eq!(file(text).matches(path), expected, "{text:?} {path}");
    }
}

#[test]
fn lines_that_cannot_be_used_are_refused_with_their_number() {
    assert_eq!(IgnoreFile::parse("a\n!\n").unwrap_err(), IgnoreError::EmptyNegation { line: 2 });
    let error = IgnoreFile::parse("a\n\n[").unwrap_err();
    assert_eq!(error.to_string(), "line 3: syntax error in pattern \"[\"");
}

#[test]
fn paths_are_cleaned_as_go_does() {
    let cases = [("", "."), ("a//b", "a/b"), ("a/./b/..", "a"), ("../a", "../a"), ("/../a", "/a"), ("a/..", ".")];
    for (path, expected) in cases {
        assert_eq!(clean(path), expected, "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn matching_never_panics(text in "[ab*?!/.\\[\\]\\\\\n^-]{0,20}", path in "[ab/.]{0,12}") {
        if let Ok(ignore) = IgnoreFile::parse(&text) {
            let _ = ignore.matches(&path);
        }
    }

    #[test]
    fn what_is_excluded_wholly_has_no_included_child(
        lines in proptest::collection::vec("!?[ab*/]{1,6}", 1..5),
        directory in "[ab](/[ab]){0,2}",
        below in "[ab](/[ab]){0,2}",
    ) {
        let text = lines.join("\n");
        if let Ok(ignore) = IgnoreFile::parse(&text) && ignore.matches(&directory) == (Match::Excluded { whole: true }) {
            let child = format!("{directory}/{below}");
            proptest::prop_assert!(ignore.matches(&child).is_excluded(), "{:?} {}", text, child);
        }
    }
}
