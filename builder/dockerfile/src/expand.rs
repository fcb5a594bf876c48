//! Expansion of variables in one word or a list of words, as Docker's frontend does it ("mimics a shell"):
//! quotes, escapes, `$v`, `${v}` and its modifiers. The lexer also splits lines into words for heredocs.
//! Depth and work are bounded: the text may come from anyone.

mod pattern;

use thiserror::Error;

use pattern::Pattern;

/// Deepest nesting of `${a:-${b:-…}}`.
const MAX_DEPTH: usize = 64;

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpandError {
    /// A quote without its partner.
    #[error("a {quote} is never closed")]
    UnclosedQuote {
        /// The quote.
        quote: char,
    },
    /// `${` without `}`.
    #[error("a ${{ is never closed with }}")]
    UnclosedBrace,
    /// `${v/pattern` without the second `/`.
    #[error("${{{name}/…}} lacks its second /")]
    MissingSlash {
        /// The variable.
        name: String,
    },
    /// `${}`, `${:…`, `${{`.
    #[error("bad substitution: a variable name must follow ${{")]
    BadSubstitution,
    /// `${v=…}` and other things shells know.
    #[error("unsupported modifier {modifier:?} in ${{{name}…}}")]
    UnsupportedModifier {
        /// The variable.
        name: String,
        /// What followed its name.
        modifier: String,
    },
    /// `${v?}` and `${v:?}` of a variable without value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text after `?`, or what is wrong.
        message: String,
    },
    /// A backslash before something that needs none.
    #[error("invalid pattern {pattern:?}: only *, ?, \\, / and }} can be escaped")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
    },
    /// Nested too deeply.
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// A pattern that would take too long on this value.
    #[error("pattern {pattern:?} takes too long to match")]
    TooComplex {
        /// The pattern.
        pattern: String,
    },
}

/// How a variable is looked up; `None` is unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands `word` to one text; quotes and escapes are removed. `escape` is [`crate::Directives::escape`].
pub fn expand(word: &str, escape: char, env: Lookup<'_>) -> Result<String, ExpandError> {
    Ok(Lexer::new(word, escape, env).run()?.0)
}

/// Expands `word` and splits the result at blanks that are neither quoted nor escaped: for `EXPOSE`.
pub fn expand_words(word: &str, escape: char, env: Lookup<'_>) -> Result<Vec<String>, ExpandError> {
    let (_, words) = Lexer::new(word, escape, env).run()?;
    Ok(words.into_iter().map(|word| word.text).collect())
}

/// Expands the body of a heredoc of COPY or ADD: quotes stay, and the escape is a backslash whatever the directive says.
pub fn expand_document(text: &str, env: Lookup<'_>) -> Result<String, ExpandError> {
    let mut lexer = Lexer::new(text, '\\', env);
    lexer.quotes = Quotes::Ordinary;
    Ok(lexer.run()?.0)
}

/// The variables whose values can change what `word` expands to, each once, in order; those in the words of
/// modifiers included. Of a word that cannot be expanded: those before the mistake.
pub fn references(word: &str, escape: char) -> Vec<String> {
    survey(word, escape, Quotes::Removed)
}

/// The variables that [`expand_document`] reads: those in quotes too.
pub fn document_references(text: &str) -> Vec<String> {
    survey(text, '\\', Quotes::Ordinary)
}

fn survey(text: &str, escape: char, quotes: Quotes) -> Vec<String> {
    let mut lexer = Lexer::new(text, escape, &|_| None);
    lexer.is_survey = true;
    lexer.quotes = quotes;
    // The mistake is reported when the text is expanded.
    let _ = lexer.run();
    lexer.references
}

/// A word of a line, and its place in it, counted in characters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineWord {
    pub text: String,
    pub start: usize,
    pub end: usize,
}

/// Splits a line into shell words with quotes and escapes kept and nothing expanded.
pub(crate) fn raw_words(line: &str) -> Result<Vec<LineWord>, ExpandError> {
    let mut lexer = Lexer::new(line, '\\', &|_| None);
    lexer.quotes = Quotes::Kept;
    lexer.raw_escapes = true;
    lexer.keep_unset = true;
    Ok(lexer.run()?.1)
}

/// Splits a line into shell words; variables stay as they are.
pub(crate) fn plain_words(line: &str, quotes: Quotes) -> Result<Vec<LineWord>, ExpandError> {
    let mut lexer = Lexer::new(line, '\\', &|_| None);
    lexer.quotes = quotes;
    lexer.keep_unset = true;
    Ok(lexer.run()?.1)
}

/// What becomes of quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// They protect, and disappear.
    Removed,
    /// They protect, and stay.
    Kept,
    /// They are characters like others.
    Ordinary,
}

struct Lexer<'a> {
    input: Vec<char>,
    at: usize,
    escape: char,
    env: Lookup<'a>,
    quotes: Quotes,
    raw_escapes: bool,
    keep_unset: bool,
    is_survey: bool,
    references: Vec<String>,
    depth: usize,
}

#[derive(Default)]
struct Words {
    done: Vec<LineWord>,
    text: String,
    start: Option<usize>,
}

impl Words {
    fn push_text(&mut self, text: &str, start: usize) {
        self.start.get_or_insert(start);
        self.text.push_str(text);
    }

    fn push_split(&mut self, text: &str, start: usize) {
        for c in text.chars() {
            match c.is_whitespace() {
                true => self.finish(start),
                false => self.push_text(c.encode_utf8(&mut [0; 4]), start),
            }
        }
    }

    fn finish(&mut self, end: usize) {
        if !self.text.is_empty() {
            let start = self.start.unwrap_or(end);
            self.done.push(LineWord { text: std::mem::take(&mut self.text), start, end });
            self.start = None;
        }
    }
}

type Expanded = (String, Vec<LineWord>);

impl<'a> Lexer<'a> {
    fn new(input: &str, escape: char, env: Lookup<'a>) -> Self {
        Self {
            input: input.chars().collect(),
            at: 0,
            escape,
            env,
            quotes: Quotes::Removed,
            raw_escapes: false,
            keep_unset: false,
            is_survey: false,
            references: Vec::new(),
            depth: 0,
        }
    }

    fn run(&mut self) -> Result<Expanded, ExpandError> {
        self.until(None, self.raw_escapes)
    }

    fn peek(&self) -> Option<char> {
        self.input.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Expands up to `stop`, which is consumed, or to the end of the input.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Expanded, ExpandError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandError::TooDeep);
        }
        let saved = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until_inner(stop);
        self.raw_escapes = saved;
        self.depth -= 1;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<Expanded, ExpandError> {
        let mut result = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            let start = self.at;
            if Some(c) == stop {
                self.at += 1;
                words.finish(start);
                return Ok((result, words.done));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    result.push_str(&value);
                    words.push_split(&value, start);
                }
                '<' => {
                    let text = self.angle();
                    result.push_str(&text);
                    words.push_text(&text, start);
                }
                '\'' | '"' if self.quotes != Quotes::Ordinary => {
                    let text = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    result.push_str(&text);
                    words.push_text(&text, start);
                }
                _ => self.ordinary(&mut result, &mut words),
            }
        }
        match stop {
            Some(_) => Err(ExpandError::UnclosedBrace),
            None => {
                words.finish(self.at);
                Ok((result, words.done))
            }
        }
    }

    fn ordinary(&mut self, result: &mut String, words: &mut Words) {
        let start = self.at;
        let Some(c) = self.next() else { return };
        if c != self.escape {
            result.push(c);
            words.push_split(c.encode_utf8(&mut [0; 4]), start);
            return;
        }
        let mut text = String::new();
        if self.raw_escapes {
            text.push(c);
        }
        text.extend(self.next());
        result.push_str(&text);
        words.push_text(&text, start);
    }

    /// `<`, or `<<` and the blanks after it: a heredoc marker may have them before its name.
    fn angle(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.at += 1;
        let mut text = "<<".to_owned();
        while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
            text.push(c);
            self.at += 1;
        }
        text
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        self.at += 1;
        let rest = &self.input[self.at..];
        let length = rest.iter().position(|&c| c == '\'').ok_or(ExpandError::UnclosedQuote { quote: '\'' })?;
        let inner: String = rest[..length].iter().collect();
        self.at += length + 1;
        Ok(if self.quotes == Quotes::Kept { format!("'{inner}'") } else { inner })
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        self.at += 1;
        let mut text = String::new();
        if self.quotes == Quotes::Kept {
            text.push('"');
        }
        loop {
            match self.peek().ok_or(ExpandError::UnclosedQuote { quote: '"' })? {
                '"' => {
                    self.at += 1;
                    if self.quotes == Quotes::Kept {
                        text.push('"');
                    }
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                c if c == self.escape => self.escaped_in_quotes(c, &mut text),
                c => {
                    self.at += 1;
                    text.push(c);
                }
            }
        }
    }

    // Inside double quotes the escape works on ", $ and itself only, and stays before anything else.
    fn escaped_in_quotes(&mut self, escape: char, text: &mut String) {
        self.at += 1;
        if self.raw_escapes {
            text.push(escape);
        }
        match self.peek() {
            None => {}
            Some(c) if c == '"' || c == '$' || c == escape => {
                self.at += 1;
                text.push(c);
            }
            Some(_) => text.push(escape),
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value(&name);
            return Ok(value.unwrap_or_else(|| if self.keep_unset { format!("${name}") } else { String::new() }));
        }
        self.at += 1;
        match self.peek() {
            None => return Err(ExpandError::UnclosedBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next().ok_or(ExpandError::UnclosedBrace)? {
            '}' => {
                let value = self.value(&name);
                Ok(value.unwrap_or_else(|| if self.keep_unset { format!("${{{name}}}") } else { String::new() }))
            }
            ':' => {
                let modifier = self.next().ok_or(ExpandError::UnclosedBrace)?;
                self.modified(name, modifier, true)
            }
            '/' => self.replaced(name),
            modifier => self.modified(name, modifier, false),
        }
    }

    /// `${name-word}` and its kin; `:` makes an empty value count as unset.
    fn modified(&mut self, name: String, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let is_pattern = matches!(modifier, '#' | '%');
        if !matches!(modifier, '-' | '+' | '?' | '#' | '%') || (colon && is_pattern) {
            let modifier = if colon { format!(":{modifier}") } else { modifier.to_string() };
            return Err(ExpandError::UnsupportedModifier { name, modifier });
        }
        let (word, _) = self.until(Some('}'), is_pattern)?;
        let value = self.value(&name);
        if self.keep_unset && value.is_none() {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let is_empty = value.as_deref() == Some("");
        let value = value.filter(|value| !(colon && value.is_empty()));
        match modifier {
            '-' => Ok(value.unwrap_or(word)),
            '+' => Ok(value.map(|_| word).unwrap_or_default()),
            '?' => match value {
                Some(value) => Ok(value),
                None if self.is_survey => Ok(String::new()),
                None if !word.is_empty() => Err(ExpandError::Required { name, message: word }),
                None => {
                    let what = if is_empty { "empty" } else { "unset" };
                    Err(ExpandError::Required { name, message: format!("is not allowed to be {what}") })
                }
            },
            _ => {
                let longest = word.starts_with(modifier);
                let pattern = Pattern::parse(if longest { &word[1..] } else { &word })?;
                let value = value.unwrap_or_default();
                if modifier == '#' { pattern.trim_start(&value, longest) } else { pattern.trim_end(&value, longest) }
            }
        }
    }

    /// `${name/pattern/replacement}`, and with `//` all of them.
    fn replaced(&mut self, name: String) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let missing = |_| ExpandError::MissingSlash { name: name.clone() };
        let (pattern, _) = match self.until(Some('/'), true) {
            Err(error @ ExpandError::UnclosedBrace) if self.peek().is_none() => return Err(missing(error)),
            other => other?,
        };
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = self.value(&name);
        if self.keep_unset && value.is_none() {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        Pattern::parse(&pattern)?.replace(&value.unwrap_or_default(), &replacement, all)
    }

    fn value(&mut self, name: &str) -> Option<String> {
        if self.is_survey && !self.references.iter().any(|known| known == name) {
            self.references.push(name.to_owned());
        }
        (self.env)(name)
    }

    /// A name, the digits of a positional parameter, or one special parameter; empty if none follows.
    fn name(&mut self) -> String {
        let start = self.at;
        let rest = &self.input[start..];
        let length = match rest.first() {
            Some(c) if c.is_ascii_digit() => rest.iter().take_while(|c| c.is_ascii_digit()).count(),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
        };
        self.at += length;
        self.input[start..self.at].iter().collect()
    }
}

#[cfg(test)]
mod tests;
