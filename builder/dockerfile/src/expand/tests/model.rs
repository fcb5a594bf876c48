//! Expansion agrees with a slow model: words are made of parts, each part knows how it is written and what it means.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A part of a word.
#[derive(Debug, Clone)]
enum Part {
    /// Plain characters.
    Text(String),
    /// `\$`
    Escaped(char),
    /// `'…'`
    Single(String),
    /// `"…"`
    Double(Vec<Part>),
    /// `$name`
    Bare(String),
    /// `${name}`
    Braced(String),
    /// `${name:-word}` and its kin.
    Modified(String, &'static str, Vec<Part>),
    /// `${name#pattern}` and its kin.
    Trimmed(String, &'static str, String),
    /// `${name/pattern/text}`
    Replaced(String, bool, String, String),
}

type Values = BTreeMap<String, String>;

fn write(parts: &[Part]) -> String {
    parts.iter().map(written).collect()
}

fn written(part: &Part) -> String {
    match part {
        Part::Text(text) => text.clone(),
        Part::Escaped(c) => format!("\\{c}"),
        Part::Single(text) => format!("'{text}'"),
        Part::Double(parts) => format!("\"{}\"", write(parts)),
        Part::Bare(name) => format!("${name}"),
        Part::Braced(name) => format!("${{{name}}}"),
        Part::Modified(name, modifier, word) => format!("${{{name}{modifier}{}}}", write(word)),
        Part::Trimmed(name, modifier, pattern) => format!("${{{name}{modifier}{pattern}}}"),
        Part::Replaced(name, all, pattern, text) => {
            format!("${{{name}/{}{pattern}/{text}}}", if *all { "/" } else { "" })
        }
    }
}

fn mean(parts: &[Part], values: &Values) -> String {
    parts.iter().map(|part| meaning(part, values)).collect()
}

fn meaning(part: &Part, values: &Values) -> String {
    let value = |name: &String| values.get(name).cloned().unwrap_or_default();
    match part {
        Part::Text(text) | Part::Single(text) => text.clone(),
        Part::Escaped(c) => c.to_string(),
        Part::Double(parts) => mean(parts, values),
        Part::Bare(name) | Part::Braced(name) => value(name),
        Part::Modified(name, modifier, word) => {
            let found = values.get(name).filter(|value| !modifier.starts_with(':') || !value.is_empty());
            match (modifier.ends_with('-'), found) {
                (true, Some(value)) => value.clone(),
                (true, None) | (false, Some(_)) => mean(word, values),
                (false, None) => String::new(),
            }
        }
        Part::Trimmed(name, modifier, pattern) => trim(&value(name), modifier, pattern),
        Part::Replaced(name, all, pattern, text) => replace(&value(name), *all, pattern, text),
    }
}

/// Whether a pattern of `*`, `?` and letters matches a whole text.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| fits(&pattern[1..], &text[at..]))
        }
        Some(c) => {
            text.chars().next().is_some_and(|first| c == '?' || c == first)
                && fits(&pattern[c.len_utf8()..], &text[text.chars().next().unwrap().len_utf8()..])
        }
    }
}

fn trim(value: &str, modifier: &str, pattern: &str) -> String {
    let mut cuts: Vec<usize> = (0..=value.len()).collect();
    if modifier.len() == 2 {
        cuts.reverse();
    }
    if modifier.starts_with('#') {
        return cuts.iter().find(|at| fits(pattern, &value[..**at])).map_or(value, |at| &value[*at..]).to_owned();
    }
    let from_end = cuts.iter().map(|length| value.len() - length);
    from_end.into_iter().find(|at| fits(pattern, &value[*at..])).map_or(value, |at| &value[..at]).to_owned()
}

fn replace(value: &str, all: bool, pattern: &str, text: &str) -> String {
    let mut result = String::new();
    let mut at = 0;
    while at < value.len() {
        match (at..=value.len()).rev().find(|end| *end > at && fits(pattern, &value[at..*end])) {
            Some(end) => {
                result.push_str(text);
                at = end;
                if !all {
                    break;
                }
            }
            None => {
                result.push_str(&value[at..=at]);
                at += 1;
            }
        }
    }
    result + &value[at..]
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "empty", "unset"]).prop_map(str::to_owned)
}

fn parts(is_quoted: bool) -> BoxedStrategy<Vec<Part>> {
    let word = |parts| vec(parts, 0..3);
    let leaf = prop_oneof![
        // A name would run on into letters that follow it.
        "[./:=@-]{1,4}".prop_map(Part::Text),
        prop::sample::select(vec!['$', '"', '\\']).prop_map(Part::Escaped),
        name().prop_map(Part::Bare),
        name().prop_map(Part::Braced),
        (name(), prop::sample::select(vec!["#", "##", "%", "%%"]), "[xy?*]{1,3}")
            .prop_map(|(n, m, p)| Part::Trimmed(n, m, p)),
        // An empty match is where engines differ: the pattern starts with a letter.
        (name(), any::<bool>(), "[xy][xy?*]{0,2}", "[a-z]{0,3}")
            .prop_map(|(n, all, p, t)| Part::Replaced(n, all, p, t)),
    ];
    let tree = leaf.prop_recursive(3, 16, 3, move |inner| {
        let modifier = prop::sample::select(vec!["-", ":-", "+", ":+"]);
        (name(), modifier, word(inner)).prop_map(|(n, m, w)| Part::Modified(n, m, w))
    });
    match is_quoted {
        true => vec(tree, 0..5).boxed(),
        false => {
            let quoted = vec(tree.clone(), 0..4).prop_map(Part::Double);
            vec(prop_oneof![4 => tree, 1 => quoted, 1 => "[a-z$\" \\\\]{0,5}".prop_map(Part::Single)], 0..5).boxed()
        }
    }
}

fn values() -> impl Strategy<Value = Values> {
    ("[xyz]{0,6}", "[xyz./]{0,6}").prop_map(|(a, b)| {
        [("a", a), ("b", b), ("empty", String::new())]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn expansion_agrees_with_the_model(parts in parts(false), values in values()) {
        let word = write(&parts);

        let expanded = expand(&word, '\\', &|name| values.get(name).cloned());

        prop_assert_eq!(expanded, Ok(mean(&parts, &values)), "{}", word);
    }

    #[test]
    fn documents_agree_with_the_model(parts in parts(true), values in values()) {
        let word = write(&parts);

        let expanded = expand_document(&word, &|name| values.get(name).cloned());

        prop_assert_eq!(expanded, Ok(mean(&parts, &values)), "{}", word);
    }
}
