//! Markers of here-documents: which words of a line are one, and what they say.
//! The rule is BuildKit's: a shell word that matches `^(\d*)<<(-?)\s*([^<]*)$` and names exactly one word.

use crate::expand::{self, Quotes};

/// What a `<<NAME` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub name: String,
    pub file_descriptor: Option<u32>,
    pub expand: bool,
    pub strip_tabs: bool,
}

/// Reads one word as a marker.
pub(crate) fn parse_marker(word: &str) -> Option<Marker> {
    let (digits, rest) = word.split_at(word.find(|c: char| !c.is_ascii_digit())?);
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let [plain] = &expand::plain_words(rest, Quotes::Removed).ok()?[..] else { return None };
    let [quoted] = &expand::plain_words(rest, Quotes::Kept).ok()?[..] else { return None };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(Marker {
        name: plain.text.clone(),
        file_descriptor: digits.parse().ok(),
        expand: quotes(&plain.text) == quotes(&quoted.text),
        strip_tabs,
    })
}

/// Whether a whole command is nothing but one marker.
pub(crate) fn is_marker(command: &str) -> bool {
    parse_marker(command).is_some()
}

/// The markers of a line and their byte ranges in it. A line that is no list of shell words has none.
pub(crate) fn markers(line: &str) -> Vec<(Marker, usize, usize)> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let offsets: Vec<usize> = line.char_indices().map(|(at, _)| at).chain([line.len()]).collect();
    let words = expand::raw_words(line).unwrap_or_default();
    let found = words.iter().filter_map(|word| Some((parse_marker(&word.text)?, word)));
    found.map(|(marker, word)| (marker, offsets[word.start], offsets[word.end])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        markers(line).into_iter().map(|(marker, _, _)| marker.name).collect()
    }

    #[test]
    fn markers_are_found_where_a_shell_would_find_them() {
        let cases: &[(&str, &[&str])] = &[
            ("RUN <<EOF", &["EOF"]),
            ("RUN cat <<EOF > /x", &["EOF"]),
            ("RUN cat <<-EOF1 <<EOF2", &["EOF1", "EOF2"]),
            ("RUN python3 <<'PY'", &["PY"]),
            ("RUN cat << EOF", &["EOF"]),
            ("RUN cat 3<<EOF", &["EOF"]),
            ("RUN cat <<<EOF", &[]),
            ("RUN echo $((1<<2))", &[]),
            ("RUN echo '<<EOF'", &[]),
            ("RUN echo \\<<EOF", &[]),
            ("RUN echo a<<EOF", &[]),
            ("RUN echo it's <<EOF", &[]),
            ("RUN cat <<\"E F\"", &["E F"]),
        ];
        for (line, expected) in cases {
            assert_eq!(names(line), *expected, "{line}");
        }
    }

    #[test]
    fn quotes_dashes_and_numbers_of_a_marker_are_read() {
        let marker = parse_marker("3<<-\"EOF\"").unwrap();

        assert_eq!(marker, Marker { name: "EOF".into(), file_descriptor: Some(3), expand: false, strip_tabs: true });
        assert!(parse_marker("<<EOF").unwrap().expand);
    }
}
