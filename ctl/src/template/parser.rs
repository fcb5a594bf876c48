//! From words to a tree.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::Value;

use super::Problem;
use super::functions::Function;
use super::lexer::{Kind, Piece, Token};

/// The deepest nesting of a template: of `if`, `range` and `with`, and of parentheses.
const DEEPEST: usize = 50;

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Break,
    Continue,
    /// One way or the other.
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// What is printed; or a variable that is set.
    Output(Pipeline),
    /// Once for each.
    Range {
        over: Pipeline,
        each: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Text(String),
    /// With another dot, when there is something.
    With {
        dot: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// Commands, each of which gets what came before as its last argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// The variables that get the value; `range` has up to two.
    pub variables: Vec<String>,
    /// The variables are there already.
    pub assigns: bool,
    /// One at least.
    pub commands: Vec<Command>,
    /// Bytes of the template before it.
    pub at: usize,
}

/// A value, a function with its arguments, or a field with arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// One at least.
    pub operands: Vec<Operand>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    /// Where it starts.
    pub root: Root,
    /// The way from there.
    pub path: Vec<String>,
    /// Bytes of the template before it.
    pub at: usize,
}

/// Where a value starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    Dot,
    Function(Function),
    Group(Box<Pipeline>),
    Literal(Value),
    Variable(String),
}

/// Parses a template.
pub fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, Problem> {
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0, ranges: 0, variables: vec!["$".to_owned()] };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Source => Ok(nodes),
        End::Else(_, at) => Err(Problem::new(at, "there is an else without an if, a range or a with")),
        End::Closed(at) => Err(Problem::new(at, "there is an end without an if, a range or a with")),
    }
}

/// Collects the fields of the object itself.
pub fn fields(nodes: &[Node], found: &mut Vec<String>) {
    for node in nodes {
        match node {
            Node::Break | Node::Continue | Node::Text(_) => {}
            Node::Output(pipeline) => fields_of(pipeline, found),
            Node::If { condition: pipeline, then, otherwise }
            | Node::Range { over: pipeline, each: then, otherwise }
            | Node::With { dot: pipeline, then, otherwise } => {
                fields_of(pipeline, found);
                fields(then, found);
                fields(otherwise, found);
            }
        }
    }
}

fn fields_of(pipeline: &Pipeline, found: &mut Vec<String>) {
    for operand in pipeline.commands.iter().flat_map(|command| &command.operands) {
        match &operand.root {
            Root::Group(inner) => fields_of(inner, found),
            Root::Dot => found.extend(operand.path.first().filter(|name| !found.contains(name)).cloned()),
            Root::Variable(name) if name == "$" => {
                found.extend(operand.path.first().filter(|name| !found.contains(name)).cloned());
            }
            Root::Function(_) | Root::Literal(_) | Root::Variable(_) => {}
        }
    }
}

/// Why a list of nodes ends.
enum End {
    /// The words behind the else.
    Else(Vec<Token>, usize),
    Closed(usize),
    Source,
}

struct Parser {
    pieces: IntoIter<Piece>,
    depth: usize,
    ranges: usize,
    /// Those that can be seen here.
    variables: Vec<String>,
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, End), Problem> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, at) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, at) => (tokens, at),
            };
            let keyword = match tokens.first().map(|token| &token.kind) {
                None => return Err(Problem::new(at, "there is nothing between {{ and }}")),
                Some(Kind::Name(name)) => name.clone(),
                Some(_) => String::new(),
            };
            let mut rest = tokens.get(1..).unwrap_or_default().to_vec();
            match keyword.as_str() {
                "if" | "range" | "with" => nodes.push(self.block(&keyword, rest, at)?),
                "else" => return Ok((nodes, End::Else(rest, at))),
                "end" if rest.is_empty() => return Ok((nodes, End::Closed(at))),
                "break" | "continue" if rest.is_empty() && self.ranges > 0 => {
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "break" | "continue" if rest.is_empty() => {
                    return Err(Problem::new(at, format!("there is a {keyword} outside of a range")));
                }
                "end" | "break" | "continue" => {
                    let at = rest.remove(0).at;
                    return Err(Problem::new(at, format!("{keyword} stands alone")));
                }
                "define" | "template" | "block" => {
                    let what = format!("{keyword} is not available: a format is one template");
                    return Err(Problem::new(at, what));
                }
                _ => nodes.push(Node::Output(self.pipeline(tokens, at, 1)?)),
            }
        }
        Ok((nodes, End::Source))
    }

    /// An `if`, a `range` or a `with`, to its end.
    fn block(&mut self, keyword: &str, tokens: Vec<Token>, at: usize) -> Result<Node, Problem> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Problem::new(at, format!("it is nested more than {DEEPEST} deep")));
        }
        let outside = self.variables.len();
        let pipeline = self.pipeline(tokens, at, if keyword == "range" { 2 } else { 1 })?;
        let own = self.variables.len();
        self.ranges += usize::from(keyword == "range");
        let (then, end) = self.nodes()?;
        self.ranges -= usize::from(keyword == "range");
        self.variables.truncate(own);
        let otherwise = self.otherwise(keyword, end, at)?;
        self.variables.truncate(outside);
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { condition: pipeline, then, otherwise },
            "range" => Node::Range { over: pipeline, each: then, otherwise },
            _ => Node::With { dot: pipeline, then, otherwise },
        })
    }

    /// What stands behind the first part of a block, to the end of the block.
    fn otherwise(&mut self, keyword: &str, end: End, start: usize) -> Result<Vec<Node>, Problem> {
        let never_closed = || Problem::new(start, format!("{keyword} has no end: {{{{end}}}} is missing"));
        match end {
            End::Closed(_) => Ok(Vec::new()),
            End::Source => Err(never_closed()),
            End::Else(tokens, _) if tokens.is_empty() => match self.nodes()? {
                (nodes, End::Closed(_)) => Ok(nodes),
                (_, End::Source) => Err(never_closed()),
                (_, End::Else(_, at)) => Err(Problem::new(at, format!("{keyword} has an else already"))),
            },
            // "else if" is an if in the else, which ends both.
            End::Else(mut tokens, at) => match &tokens.remove(0).kind {
                Kind::Name(name) if name == keyword && keyword != "range" => {
                    let name = name.clone();
                    let block = self.block(&name, tokens, at)?;
                    Ok(vec![block])
                }
                _ => Err(Problem::new(at, format!("behind the else of {keyword} there is something else"))),
            },
        }
    }

    fn pipeline(&mut self, tokens: Vec<Token>, at: usize, most: usize) -> Result<Pipeline, Problem> {
        let mut tokens = tokens.into_iter().peekable();
        let (variables, assigns) = self.targets(&mut tokens, most)?;
        let mut pipeline = self.commands(&mut tokens, at, 0)?;
        if let Some(token) = tokens.next() {
            return Err(Problem::new(token.at, "there is a ) without a ("));
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        (pipeline.variables, pipeline.assigns) = (variables, assigns);
        Ok(pipeline)
    }

    /// "$a :=", "$a, $b :=", "$a =": the variables, and whether they are there already.
    fn targets(&self, tokens: &mut Peekable<IntoIter<Token>>, most: usize) -> Result<(Vec<String>, bool), Problem> {
        let ahead: Vec<Token> = tokens.clone().take(4).collect();
        let names = |count: usize| {
            let taken = ahead.iter().step_by(2).take(count);
            taken.map(|token| match &token.kind {
                Kind::Variable(name) => Some(name.clone()),
                _ => None,
            })
        };
        let sign = |at: usize| ahead.get(at).map(|token| &token.kind);
        let count = match (sign(1), sign(3)) {
            (Some(Kind::Declare | Kind::Assign), _) => 1,
            (Some(Kind::Comma), Some(Kind::Declare | Kind::Assign)) => 2,
            _ => return Ok((Vec::new(), false)),
        };
        let at = ahead[0].at;
        if count > most {
            return Err(Problem::new(at, "only range sets two variables"));
        }
        let Some(variables) = names(count).collect::<Option<Vec<_>>>() else {
            return Err(Problem::new(at, "only a variable such as $x can be set"));
        };
        let assigns = sign(2 * count - 1) == Some(&Kind::Assign);
        if let Some(unknown) = variables.iter().find(|name| assigns && !self.variables.contains(name)) {
            return Err(Problem::new(at, format!("there is no variable {unknown}; := makes one")));
        }
        for _ in 0..2 * count {
            tokens.next();
        }
        Ok((variables, assigns))
    }

    /// Commands with pipes between them, up to the end or a closing parenthesis, which is left.
    fn commands(&self, tokens: &mut Peekable<IntoIter<Token>>, at: usize, depth: usize) -> Result<Pipeline, Problem> {
        if depth > DEEPEST {
            return Err(Problem::new(at, format!("it is nested more than {DEEPEST} deep")));
        }
        let mut commands = vec![];
        loop {
            let operands = self.operands(tokens, depth)?;
            let next = tokens.peek().map(|token| (token.kind.clone(), token.at));
            let Some(first) = operands.first() else {
                let at = next.map_or(at, |(_, at)| at);
                return Err(Problem::new(at, "a value or a function is missing"));
            };
            let takes = matches!(first.root, Root::Function(_)) || !first.path.is_empty();
            if !takes && operands.len() > 1 {
                return Err(Problem::new(first.at, "it takes no arguments: only functions and fields do"));
            }
            if !takes && !commands.is_empty() {
                return Err(Problem::new(first.at, "a pipe leads to a function, and this is none"));
            }
            commands.push(Command { operands });
            match next {
                Some((Kind::Pipe, _)) => tokens.next(),
                _ => return Ok(Pipeline { variables: Vec::new(), assigns: false, commands, at }),
            };
        }
    }

    /// What stands between two pipes.
    fn operands(&self, tokens: &mut Peekable<IntoIter<Token>>, depth: usize) -> Result<Vec<Operand>, Problem> {
        let mut operands: Vec<Operand> = vec![];
        while let Some(token) = tokens.next_if(|token| !matches!(token.kind, Kind::Pipe | Kind::Close)) {
            let Token { kind, at, is_glued } = token;
            let root = match kind {
                // ".A.B", "$x.A", "(…).A" are one way.
                Kind::Field(name) => match operands.last_mut() {
                    Some(last) if is_glued && !matches!(last.root, Root::Literal(_) | Root::Function(_)) => {
                        last.path.push(name);
                        continue;
                    }
                    _ => {
                        operands.push(Operand { root: Root::Dot, path: vec![name], at });
                        continue;
                    }
                },
                Kind::Dot => Root::Dot,
                Kind::Literal(value) => Root::Literal(value),
                Kind::Name(name) => Root::Function(function(&name, at)?),
                Kind::Open => {
                    let inner = self.commands(tokens, at, depth + 1)?;
                    if tokens.next().is_none() {
                        return Err(Problem::new(at, "a ( is never closed"));
                    }
                    Root::Group(Box::new(inner))
                }
                Kind::Variable(name) if self.variables.contains(&name) => Root::Variable(name),
                Kind::Variable(name) => return Err(Problem::new(at, format!("there is no variable {name}"))),
                Kind::Assign | Kind::Declare => {
                    return Err(Problem::new(at, "only a variable such as $x at the start can be set"));
                }
                Kind::Comma => return Err(Problem::new(at, "a comma stands only between the two variables of range")),
                Kind::Pipe | Kind::Close => return Err(Problem::new(at, "it is not expected here")),
            };
            operands.push(Operand { root, path: Vec::new(), at });
        }
        Ok(operands)
    }
}

fn function(name: &str, at: usize) -> Result<Function, Problem> {
    Function::named(name).ok_or_else(|| {
        let known = Function::names();
        let near = strata_dockerfile::nearest(name, known.iter().copied());
        let hint = match near {
            Some(near) => format!("; did you mean {near}?"),
            None => format!("; .{name} would be a field, and there are {}", known.join(", ")),
        };
        Problem::new(at, format!("there is no function {name:?}{hint}"))
    })
}
