//! Differences that are explained. A line of `differences.txt` is `JUDGE | ASPECT | CASE | LINE | REASON`; `*` stands for
//! anything in the first four, `?` for one character. One that explains nothing any more is a complaint, too.

use std::cell::Cell;

use crate::verdict::Verdict;

struct Difference {
    patterns: [String; 4],
    text: String,
    is_used: Cell<bool>,
}

pub struct Differences(Vec<Difference>);

impl Differences {
    pub fn read() -> Self {
        let text = include_str!("differences.txt");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(Difference::read).collect())
    }

    /// What is not explained; in a run of all cases also what is explained in vain.
    pub fn complaints(&self, verdicts: &[Verdict], is_whole: bool) -> Vec<String> {
        let mut complaints = vec![];
        for verdict in verdicts {
            let failures = verdict.failures.iter().map(|failure| format!("  {failure}"));
            let lines = verdict
                .lines
                .iter()
                .filter(|line| !self.explains([&line.judge, &line.aspect, &verdict.case, &line.text]));
            let lines = lines.map(|line| format!("  {} {}: {}", line.judge, line.aspect, line.text));
            let all: Vec<String> = failures.chain(lines).collect();
            if !all.is_empty() {
                complaints.push(format!("{}\n{}", verdict.case, all.join("\n")));
            }
        }
        if is_whole {
            let unused = self.0.iter().filter(|difference| !difference.is_used.get());
            complaints.extend(unused.map(|difference| format!("explained in vain: {}", difference.text)));
        }
        complaints
    }

    fn explains(&self, line: [&str; 4]) -> bool {
        // All that fit count as used: a broad one does not hide that a narrow one still occurs.
        let fitting = self
            .0
            .iter()
            .filter(|difference| difference.patterns.iter().zip(line).all(|(pattern, text)| fits(pattern, text)));
        fitting.inspect(|difference| difference.is_used.set(true)).count() > 0
    }
}

impl Difference {
    fn read(line: &str) -> Self {
        let parts: Vec<&str> = line.splitn(5, " | ").collect();
        let [judge, aspect, case, text, _reason] = parts[..] else {
            panic!("no JUDGE | ASPECT | CASE | LINE | REASON: {line}")
        };
        let patterns = [judge, aspect, case, text].map(|part| part.trim().to_owned());
        Self { patterns, text: line.to_owned(), is_used: Cell::new(false) }
    }
}

/// Does the whole text fit a pattern?
fn fits(pattern: &str, text: &str) -> bool {
    let mut letters = text.chars();
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => fits(&pattern[1..], text) || (letters.next().is_some() && fits(pattern, letters.as_str())),
        Some(c) => {
            letters.next().is_some_and(|first| c == '?' || c == first)
                && fits(&pattern[c.len_utf8()..], letters.as_str())
        }
    }
}

#[test]
fn stars_stand_for_anything() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abcd", false),
        ("*b*", "abc", true),
        ("a", "ab", false),
        ("?b", "ab", true),
    ] {
        assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
    }
}
