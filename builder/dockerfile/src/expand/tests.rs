use super::*;

mod model;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "HOME" => "/root",
        "EMPTY" => "",
        "FILE" => "archive.tar.gz",
        "PATH" => "/usr/local/bin:/usr/bin",
        "TWO" => "a b",
        "LINES" => "one\ntwo",
        "star" => "a*b*c",
        _ => return None,
    };
    Some(value.to_owned())
}

fn case(word: &str, expected: &str) {
    assert_eq!(expand(word, '\\', &env).as_deref(), Ok(expected), "{word}");
}

#[test]
fn words_expand_as_in_the_reference_frontend() {
    let cases = [
        ("", ""),
        ("plain", "plain"),
        ("$HOME", "/root"),
        ("${HOME}/x", "/root/x"),
        ("$HOMEX", ""),
        ("'$HOME'", "$HOME"),
        ("\"$HOME\"", "/root"),
        ("\\$HOME", "$HOME"),
        ("\"\\$HOME\"", "$HOME"),
        ("\"a\\b\"", "a\\b"),
        ("\"a\\\\b\"", "a\\b"),
        ("a\\b", "ab"),
        ("trailing\\", "trailing"),
        ("a'b c'd", "ab cd"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1x", "x"),
        ("$$", ""),
        ("${HOME:-d}", "/root"),
        ("${NOPE:-d}", "d"),
        ("${NOPE-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${HOME:+w}", "w"),
        ("${EMPTY:+w}", ""),
        ("${EMPTY+w}", "w"),
        ("${NOPE+w}", ""),
        ("${HOME:?no}", "/root"),
        ("${EMPTY?no}", ""),
        ("${NOPE:-${NOPE:-$HOME}}", "/root"),
        ("${NOPE:-\"a b\"}", "a b"),
        ("${NOPE:-a\\}b}", "a}b"),
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "archive.tar"),
        ("${FILE%%.*}", "archive"),
        ("${FILE#nope}", "archive.tar.gz"),
        ("${FILE#????}", "ive.tar.gz"),
        ("${star#*\\*}", "b*c"),
        ("${FILE/r/R}", "aRchive.tar.gz"),
        ("${FILE//r/R}", "aRchive.taR.gz"),
        ("${FILE//./}", "archivetargz"),
        ("${FILE/*./X}", "Xgz"),
        ("${PATH//\\//_}", "_usr_local_bin:_usr_bin"),
        ("${NOPE/a/b}", ""),
        ("${LINES#*}", "one\ntwo"),
        ("${LINES##*}", "\ntwo"),
        ("<<EOF", "<<EOF"),
        ("ünï$HOME", "ünï/root"),
    ];
    for (word, expected) in cases {
        case(word, expected);
    }
}

#[test]
fn the_escape_character_follows_the_directive() {
    assert_eq!(expand("C:\\x`$HOME", '`', &env).as_deref(), Ok("C:\\x$HOME"));
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("'open", "a ' is never closed"),
        ("\"open", "a \" is never closed"),
        ("${HOME", "a ${ is never closed with }"),
        ("${", "a ${ is never closed with }"),
        ("${HOME:-x", "a ${ is never closed with }"),
        ("${}", "bad substitution: a variable name must follow ${"),
        ("${HOME=x}", "unsupported modifier \"=\" in ${HOME…}"),
        ("${HOME:#x}", "unsupported modifier \":#\" in ${HOME…}"),
        ("${HOME/x}", "${HOME/…} lacks its second /"),
        ("${NOPE?}", "NOPE: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NOPE:?say why}", "NOPE: say why"),
        ("${HOME#\\a}", "invalid pattern \"\\\\a\": only *, ?, \\, / and } can be escaped"),
    ];
    for (word, expected) in cases {
        let error = expand(word, '\\', &env).expect_err(word);
        assert_eq!(error.to_string(), expected, "{word}");
    }
}

#[test]
fn words_split_at_blanks_that_are_not_quoted() {
    let cases: &[(&str, &[&str])] = &[
        ("80 443/tcp", &["80", "443/tcp"]),
        ("$TWO", &["a", "b"]),
        ("\"$TWO\"", &["a b"]),
        ("x$TWO", &["xa", "b"]),
        ("a\\ b", &["a b"]),
        ("'a b' c", &["a b", "c"]),
        ("$NOPE", &[]),
        ("8${NOPE:-0 9}", &["80", "9"]),
        ("  a  ", &["a"]),
    ];
    for (word, expected) in cases {
        assert_eq!(expand_words(word, '\\', &env).unwrap(), *expected, "{word}");
    }
}

#[test]
fn documents_keep_their_quotes() {
    let text = "echo \"it's $HOME\" '${HOME}' \\$HOME\n";

    let expanded = expand_document(text, &env).unwrap();

    assert_eq!(expanded, "echo \"it's /root\" '/root' $HOME\n");
}

#[test]
fn references_include_those_of_modifiers_and_no_quoted_ones() {
    let cases: &[(&str, &[&str])] = &[
        ("plain", &[]),
        ("$A ${B} '$C' \\$D \"$E\" $A", &["A", "B", "E"]),
        ("${A:-${B:+$C}}", &["C", "B", "A"]),
        ("${A:?$B} $C", &["B", "A", "C"]),
        ("${A/$B/$C}", &["B", "C", "A"]),
        ("$A ${B", &["A"]),
    ];
    for (word, expected) in cases {
        assert_eq!(references(word, '\\'), *expected, "{word}");
    }
}

#[test]
fn documents_reference_variables_in_quotes_too() {
    assert_eq!(document_references("'$A' \"${B:-$C}\" \\$D it's $E"), ["A", "C", "B", "E"]);
}

#[test]
fn nesting_without_end_is_refused() {
    let word = "${a:-".repeat(100_000);

    assert_eq!(expand(&word, '\\', &env), Err(ExpandError::TooDeep));
}

#[test]
fn a_pattern_that_would_take_minutes_is_refused() {
    let long = "a".repeat(100_000);
    let lookup = |_: &str| Some(long.clone());

    let result = expand("${v//*b/x}", '\\', &lookup);

    assert_eq!(result, Err(ExpandError::TooComplex { pattern: "*b".into() }));
}

proptest::proptest! {
    #[test]
    fn expansion_never_panics(word in "[$a{}:?#%/'\"\\\\<` *+-]{0,24}|\\PC{0,40}") {
        let _ = expand(&word, '\\', &env);
        let _ = expand_words(&word, '`', &|_| Some("v a".into()));
        let _ = expand_document(&word, &|_| Some("aa".into()));
        let _ = references(&word, '\\');
    }

    #[test]
    fn a_word_without_special_characters_is_itself(word in "[a-zA-Z0-9_./:@ -]{0,30}") {
        proptest::prop_assert_eq!(expand(&word, '\\', &env), Ok(word));
    }
}
