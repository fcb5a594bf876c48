//! "Did you mean": the known word nearest to a misspelt one.

/// The candidate that differs least from `word`, if it differs little: case does not count, swapped neighbours are
/// one mistake. Of equally near ones the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    let limit = match word.len() {
        0 => return None,
        1..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    let distances = candidates.into_iter().map(|candidate| {
        let letters: Vec<char> = candidate.to_lowercase().chars().collect();
        (distance(&word, &letters), candidate)
    });
    let near = distances.filter(|&(distance, candidate)| distance <= limit && distance < candidate.chars().count());
    near.min_by_key(|&(distance, _)| distance).map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_words_find_their_neighbour() {
        let words = ["RUN", "COPY", "FROM", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "CMD"];
        let cases = [
            ("RNU", Some("RUN")),
            ("cpoy", Some("COPY")),
            ("FORM", Some("FROM")),
            ("ENTRY_POINT", Some("ENTRYPOINT")),
            ("HEALTCHEK", Some("HEALTHCHECK")),
            ("XYZZY", None),
            ("", None),
            ("apt-get", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
    }
}
