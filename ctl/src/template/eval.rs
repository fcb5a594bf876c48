//! Fills a template.

use std::borrow::Cow;

use serde_json::Value;

use super::Problem;
use super::functions::Function;
use super::parser::{Command, Node, Operand, Pipeline, Root};
use super::shape::{self, Shape, is_true, kind, shown};

/// The most values that are looked at: a `range` in a `range` in a `range` ends.
const MOST_STEPS: usize = 1_000_000;
/// The most bytes of output.
const MOST_BYTES: usize = 64 << 20;

/// A template that is being filled.
pub struct Filling<'a> {
    whole: Found<'a>,
    methods: &'a Value,
    is_head: bool,
    steps: usize,
    text: String,
    variables: Vec<(&'a str, Found<'a>)>,
}

/// A value, and what is known of the field that it is from.
#[derive(Debug, Clone)]
struct Found<'a> {
    value: Cow<'a, Value>,
    shape: Shape,
    /// A key that a map does not have.
    is_missing: bool,
}

impl<'a> Found<'a> {
    fn own(value: impl Into<Value>) -> Self {
        Self { value: Cow::Owned(value.into()), shape: Shape::Plain, is_missing: false }
    }

    fn of(value: &'a Value) -> Self {
        Self { value: Cow::Borrowed(value), shape: Shape::Plain, is_missing: false }
    }

    fn shown(&self) -> String {
        match (&*self.value, self.shape) {
            _ if self.is_missing => "<no value>".to_owned(),
            (Value::Null, Shape::List) => "[]".to_owned(),
            (Value::Null, Shape::Map) => "map[]".to_owned(),
            (value, _) => shown(value),
        }
    }
}

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    Break,
    Continue,
    Next,
}

impl<'a> Filling<'a> {
    /// Of an object.
    pub fn new(value: &'a Value, methods: &'a Value) -> Self {
        let whole = Found::of(value);
        Self { whole, methods, is_head: false, steps: 0, text: String::new(), variables: Vec::new() }
    }

    /// Of the heads of columns.
    pub fn of_heads(heads: &'a Value) -> Self {
        Self { is_head: true, ..Self::new(heads, &Value::Null) }
    }

    /// Fills the nodes.
    pub fn render(mut self, nodes: &'a [Node]) -> Result<String, Problem> {
        let dot = self.whole.clone();
        self.variables.push(("$", dot.clone()));
        self.nodes(nodes, &dot)?;
        Ok(self.text)
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Found<'a>) -> Result<Flow, Problem> {
        for node in nodes {
            let flow = match node {
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
                Node::Text(text) => self.push(text, 0)?,
                Node::Output(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    match pipeline.variables.first() {
                        Some(name) => self.set(name, pipeline.assigns, value),
                        None => self.push(&value.shown(), pipeline.at)?,
                    }
                }
                Node::If { condition, then, otherwise } => self.choice(condition, then, otherwise, dot, false)?,
                Node::With { dot: pipeline, then, otherwise } => self.choice(pipeline, then, otherwise, dot, true)?,
                Node::Range { over, each, otherwise } => self.range(over, each, otherwise, dot)?,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn push(&mut self, text: &str, at: usize) -> Result<Flow, Problem> {
        if self.text.len() + text.len() > MOST_BYTES {
            return Err(Problem::new(at, format!("the output is longer than {} MiB", MOST_BYTES >> 20)));
        }
        self.text.push_str(text);
        Ok(Flow::Next)
    }

    fn set(&mut self, name: &'a str, assigns: bool, value: Found<'a>) -> Flow {
        match self.variables.iter_mut().rev().find(|(own, _)| assigns && *own == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name, value)),
        }
        Flow::Next
    }

    /// An `if`; or a `with`, whose value is the dot.
    fn choice(
        &mut self,
        pipeline: &'a Pipeline,
        then: &'a [Node],
        otherwise: &'a [Node],
        dot: &Found<'a>,
        is_with: bool,
    ) -> Result<Flow, Problem> {
        let outside = self.variables.len();
        let value = self.pipeline(pipeline, dot)?;
        if let Some(name) = pipeline.variables.first() {
            self.set(name, pipeline.assigns, value.clone());
        }
        let flow = match is_true(&value.value) {
            true => self.nodes(then, if is_with { &value } else { dot }),
            false => self.nodes(otherwise, dot),
        };
        self.variables.truncate(outside);
        flow
    }

    fn range(
        &mut self,
        over: &'a Pipeline,
        each: &'a [Node],
        otherwise: &'a [Node],
        dot: &Found<'a>,
    ) -> Result<Flow, Problem> {
        let outside = self.variables.len();
        let value = self.pipeline(over, dot)?;
        let items = items(&value, self.is_head).map_err(|what| Problem::new(over.at, what))?;
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            self.step(over.at)?;
            match over.variables.as_slice() {
                [] => {}
                [one] => drop(self.set(one, over.assigns, item.clone())),
                [first, second, ..] => {
                    self.set(first, over.assigns, Found::own(key));
                    self.set(second, over.assigns, item.clone());
                }
            }
            let flow = self.nodes(each, &item)?;
            self.variables.truncate(outside);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn step(&mut self, at: usize) -> Result<(), Problem> {
        self.steps += 1;
        match self.steps > MOST_STEPS {
            true => Err(Problem::new(at, format!("it takes more than {MOST_STEPS} steps"))),
            false => Ok(()),
        }
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Found<'a>) -> Result<Found<'a>, Problem> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        last.ok_or_else(|| Problem::new(pipeline.at, "a value is missing"))
    }

    fn command(
        &mut self,
        command: &'a Command,
        dot: &Found<'a>,
        last: Option<Found<'a>>,
    ) -> Result<Found<'a>, Problem> {
        let Some((first, others)) = command.operands.split_first() else { return Ok(Found::of(&Value::Null)) };
        if let Root::Function(function @ (Function::And | Function::Or)) = first.root {
            return self.short(function, others, dot, last, first.at);
        }
        let mut args = others.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
        args.extend(last);
        match first.root {
            Root::Function(function) => self.call(function, &args, others, first.at),
            _ if args.is_empty() => self.operand(first, dot),
            _ => self.method(first, &args),
        }
    }

    /// `and` and `or`: the first argument that decides, or the last.
    fn short(
        &mut self,
        function: Function,
        operands: &'a [Operand],
        dot: &Found<'a>,
        last: Option<Found<'a>>,
        at: usize,
    ) -> Result<Found<'a>, Problem> {
        let mut value = None;
        for operand in operands {
            let found = self.operand(operand, dot)?;
            if is_true(&found.value) == (function == Function::Or) {
                return Ok(found);
            }
            value = Some(found);
        }
        last.or(value).ok_or_else(|| Problem::new(at, format!("{} takes values", function.name())))
    }

    fn call(
        &mut self,
        function: Function,
        args: &[Found<'a>],
        operands: &'a [Operand],
        at: usize,
    ) -> Result<Found<'a>, Problem> {
        self.step(at)?;
        let decides = matches!(
            function,
            Function::Not | Function::Eq | Function::Ne | Function::Lt | Function::Le | Function::Gt | Function::Ge
        );
        if self.is_head && !decides {
            // The head of a column is that of its field, whatever is made of the values.
            let is_field = |at: usize| operands.get(at).is_none_or(|operand| !matches!(operand.root, Root::Literal(_)));
            let field = args.iter().enumerate().find(|(at, _)| is_field(*at)).map(|(_, found)| found);
            return Ok(field.or(args.first()).cloned().unwrap_or_else(|| Found::own("")));
        }
        let values: Vec<Value> = args.iter().map(|found| found.value.clone().into_owned()).collect();
        match function.call(&values) {
            Ok(value) => Ok(Found::own(value)),
            Err(_) if self.is_head => Ok(Found::own(false)),
            Err(what) => Err(Problem::new(at, what)),
        }
    }

    /// A field that is asked with an argument: `.Label "x"`.
    fn method(&mut self, operand: &'a Operand, args: &[Found<'a>]) -> Result<Found<'a>, Problem> {
        let name = operand.path.last().map(String::as_str).unwrap_or_default();
        let of = match (&operand.root, operand.path.len(), args) {
            (Root::Dot, 1, [argument]) => argument.value.as_str(),
            (Root::Variable(variable), 1, [argument]) if variable == "$" => argument.value.as_str(),
            _ => None,
        };
        match (of, self.methods.get(name)) {
            (Some(key), _) if self.is_head => Ok(Found::own(label_head(key))),
            (Some(key), Some(values)) => Ok(values.get(key).map_or_else(|| Found::own(""), |v| Found::own(v.clone()))),
            _ => Err(Problem::new(operand.at, format!(".{} takes no argument", operand.path.join(".")))),
        }
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Found<'a>) -> Result<Found<'a>, Problem> {
        self.step(operand.at)?;
        let mut found = match &operand.root {
            Root::Dot => dot.clone(),
            Root::Function(function) => self.call(*function, &[], &[], operand.at)?,
            Root::Group(pipeline) => self.pipeline(pipeline, dot)?,
            Root::Literal(value) => Found::of(value),
            Root::Variable(name) => {
                let known = self.variables.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.clone());
                known.ok_or_else(|| Problem::new(operand.at, format!("there is no variable {name} here")))?
            }
        };
        for (depth, name) in operand.path.iter().enumerate() {
            let way = || operand.path[..=depth].join(".");
            found = match self.is_head {
                true => Found::own(found.value.get(name).and_then(Value::as_str).unwrap_or(name).to_uppercase()),
                false => field(&found, name, &way()).map_err(|what| Problem::new(operand.at, what))?,
            };
        }
        Ok(found)
    }
}

/// What `range` goes through: keys and values.
fn items<'a>(found: &Found<'a>, is_head: bool) -> Result<Vec<(Value, Found<'a>)>, String> {
    if is_head {
        return Ok(vec![(0.into(), found.clone())]);
    }
    let numbered = |(at, item): (usize, Found<'a>)| (at.into(), item);
    match &found.value {
        Cow::Borrowed(Value::Array(items)) => Ok(items.iter().map(Found::of).enumerate().map(numbered).collect()),
        Cow::Borrowed(Value::Object(fields)) => {
            let mut pairs: Vec<_> = fields.iter().map(|(key, item)| (key.clone().into(), Found::of(item))).collect();
            pairs.sort_by(|(one, _), (other, _): &(Value, _)| one.as_str().cmp(&other.as_str()));
            Ok(pairs)
        }
        Cow::Owned(Value::Array(items)) => {
            Ok(items.iter().cloned().map(Found::own).enumerate().map(numbered).collect())
        }
        Cow::Owned(Value::Object(fields)) => {
            Ok(fields.iter().map(|(key, item)| (key.clone().into(), Found::own(item.clone()))).collect())
        }
        value => match &**value {
            Value::Null => Ok(Vec::new()),
            Value::Number(number) => match number.as_u64() {
                Some(count) if count <= MOST_STEPS as u64 => {
                    Ok((0..count).map(|at| (at.into(), Found::own(at))).collect())
                }
                _ => Err(format!("range goes up to {MOST_STEPS}")),
            },
            other => Err(format!("range goes through lists and objects, and this is {}", kind(other))),
        },
    }
}

/// A field of a value. What a map of labels does not have is no mistake; what a record does not have is.
fn field<'a>(found: &Found<'a>, name: &str, way: &str) -> Result<Found<'a>, String> {
    let Value::Object(fields) = &*found.value else {
        let before = way.strip_suffix(name).unwrap_or(way).trim_end_matches('.');
        let of = if before.is_empty() { "what the dot is".to_owned() } else { format!(".{before}") };
        return Err(format!("there is no field .{way}: {of} is {}", kind(&found.value)));
    };
    let shape = Shape::of(name);
    if !fields.contains_key(name) {
        let is_missing = found.shape == Shape::Map;
        if is_missing || shape::is_optional(name) {
            return Ok(Found { value: Cow::Owned(Value::Null), shape, is_missing });
        }
        let known: Vec<&str> = fields.keys().map(String::as_str).collect();
        let near = strata_dockerfile::nearest(name, known.iter().copied());
        let near = near.map(|near| format!("; did you mean .{near}?")).unwrap_or_default();
        return Err(format!("there is no field .{way}; there are {}{near}", known.join(", ")));
    }
    let value = match &found.value {
        Cow::Borrowed(Value::Object(fields)) => fields.get(name).map(Cow::Borrowed),
        owned => owned.get(name).cloned().map(Cow::Owned),
    };
    Ok(Found { value: value.unwrap_or(Cow::Owned(Value::Null)), shape, is_missing: false })
}

/// The head of a column of labels: the last part of the label's name.
fn label_head(label: &str) -> String {
    label.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ").to_uppercase()
}
