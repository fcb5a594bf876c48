//! Shell patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and escapes, no brackets.
//! Matching walks the set of reachable positions, so it cannot blow up; very large work is refused.

use super::ExpandError;

/// Steps one expansion may take: seconds at most.
const MAX_STEPS: usize = 50_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    Any,
    Star,
}

pub(super) struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(c),
                    _ => return Err(ExpandError::InvalidPattern { pattern: text.to_owned() }),
                },
                c => Token::Char(c),
            });
        }
        // A star after a star adds nothing.
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        Ok(Self { text: text.to_owned(), tokens })
    }

    pub(super) fn trim_start(&self, value: &str, longest: bool) -> Result<String, ExpandError> {
        let chars: Vec<char> = value.chars().collect();
        let cut = match_at(&self.tokens, &chars, 0, longest, &mut self.budget())?.unwrap_or(0);
        Ok(chars[cut..].iter().collect())
    }

    pub(super) fn trim_end(&self, value: &str, longest: bool) -> Result<String, ExpandError> {
        let chars: Vec<char> = value.chars().rev().collect();
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let cut = match_at(&tokens, &chars, 0, longest, &mut self.budget())?.unwrap_or(0);
        Ok(chars[cut..].iter().rev().collect())
    }

    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> Result<String, ExpandError> {
        let chars: Vec<char> = value.chars().collect();
        let mut budget = self.budget();
        let mut result = String::new();
        let mut at = 0;
        let mut previous_end = None;
        while at <= chars.len() {
            let end = match_at(&self.tokens, &chars, at, true, &mut budget)?;
            // As Go's ReplaceAll: no empty match right after a match.
            let end = end.filter(|&end| end > at || previous_end != Some(at));
            let next = match end {
                Some(end) => {
                    result.push_str(replacement);
                    previous_end = Some(end);
                    end
                }
                None => at,
            };
            if end.is_some() && !all {
                result.extend(&chars[next..]);
                return Ok(result);
            }
            if next == at {
                result.extend(chars.get(at));
                at += 1;
            } else {
                at = next;
            }
        }
        Ok(result)
    }

    fn budget(&self) -> Budget<'_> {
        Budget { steps: MAX_STEPS, pattern: &self.text }
    }
}

struct Budget<'a> {
    steps: usize,
    pattern: &'a str,
}

impl Budget<'_> {
    fn spend(&mut self, steps: usize) -> Result<(), ExpandError> {
        let error = || ExpandError::TooComplex { pattern: self.pattern.to_owned() };
        self.steps = self.steps.checked_sub(steps).ok_or_else(error)?;
        Ok(())
    }
}

/// Where a match that begins at `start` ends: the nearest or the farthest place.
fn match_at(
    tokens: &[Token],
    chars: &[char],
    start: usize,
    longest: bool,
    budget: &mut Budget<'_>,
) -> Result<Option<usize>, ExpandError> {
    let mut ends = vec![start];
    for token in tokens {
        budget.spend(ends.len() + 1)?;
        ends = match token {
            Token::Char(c) => advance(&ends, |at| chars.get(at) == Some(c)),
            Token::Any => advance(&ends, |at| chars.get(at).is_some_and(|&c| c != '\n')),
            Token::Star => {
                let reached = star(&ends, chars);
                budget.spend(reached.len())?;
                reached
            }
        };
        if ends.is_empty() {
            return Ok(None);
        }
    }
    Ok(if longest { ends.last().copied() } else { ends.first().copied() })
}

fn advance(ends: &[usize], accepts: impl Fn(usize) -> bool) -> Vec<usize> {
    ends.iter().copied().filter(|&at| accepts(at)).map(|at| at + 1).collect()
}

/// All places a star reaches from `ends` (sorted): up to the end of the line.
fn star(ends: &[usize], chars: &[char]) -> Vec<usize> {
    let mut reached = Vec::new();
    let mut next = 0;
    for &end in ends {
        if end < next {
            continue;
        }
        let mut at = end;
        reached.push(at);
        while chars.get(at).is_some_and(|&c| c != '\n') {
            at += 1;
            reached.push(at);
        }
        next = at + 1;
    }
    reached
}
