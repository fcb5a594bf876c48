//! Templates of `--format`, as Go's text/template has them and Docker's users write them: text, fields, pipes, variables,
//! `if`, `range`, `with`, comments, trimmed blanks, and the functions of Go and of Docker.
//!
//! A template is parsed when the command line is, so that a mistake is told before anything is asked. What it may cost is
//! bounded: nesting, steps and output, whatever somebody put together as a format.

mod eval;
mod functions;
mod lexer;
mod parser;
mod printf;
mod shape;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use serde_json::Value;

pub use functions::url_query;
use parser::Node;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    nodes: Vec<Node>,
    source: String,
}

impl Template {
    /// Fills it with the fields of an object. `methods` has what is asked with an argument, `.Label "x"`: an object for each.
    ///
    /// # Errors
    ///
    /// One sentence with the place in the template: a field that is not there (and those that are), a function that cannot
    /// take what it got, or too much work or output.
    pub fn render(&self, value: &Value, methods: &Value) -> Result<String, String> {
        eval::Filling::new(value, methods).render(&self.nodes).map_err(|problem| problem.told(&self.source))
    }

    /// Fills it with the heads of columns: fields are texts, functions leave them as they are.
    pub fn head(&self, heads: &Value) -> Result<String, String> {
        eval::Filling::of_heads(heads).render(&self.nodes).map_err(|problem| problem.told(&self.source))
    }

    /// The fields of the object itself that it names, in order; each once.
    pub fn fields(&self) -> Vec<String> {
        let mut found = Vec::new();
        parser::fields(&self.nodes, &mut found);
        found
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let told = |problem: Problem| problem.told(text);
        let pieces = lexer::pieces(text).map_err(told)?;
        let nodes = parser::parse(pieces).map_err(told)?;
        Ok(Self { nodes, source: text.to_owned() })
    }
}

/// What is wrong, and where in the template.
#[derive(Debug)]
struct Problem {
    /// Bytes before it.
    at: usize,
    /// One sentence.
    what: String,
}

impl Problem {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }

    /// With the place as people count: from 1, in characters.
    fn told(&self, source: &str) -> String {
        let before = source.get(..self.at).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        match source.contains('\n') {
            true => format!("line {line}, column {column}: {}", self.what),
            false => format!("column {column}: {}", self.what),
        }
    }
}
