//! Dockerfiles: text to a typed, spanned tree; expansion of variables; `.dockerignore`.
//! Pure: nothing here reads a file, an environment or a clock. Every node knows the bytes it came from,
//! so that whoever acts on it can say where in the file something is wrong ([`Diagnostic::at`]).

mod ast;
mod check;
pub mod device;
mod diagnostic;
mod directive;
pub mod expand;
mod flag;
pub mod glob;
mod heredoc;
pub mod ignore;
mod line;
pub mod meta;
pub mod mount;
mod parse;
pub mod remote;
mod statement;
mod suggest;
mod word;

pub use ast::{
    Add, ArgDeclaration, CommandForm, Copy, Directives, Dockerfile, Flag, Healthcheck, Heredoc, Instruction, KeyValue,
    Kind, Onbuild, ProbeCommand, Run, Script, Span, Spanned, Stage, Word,
};
pub use check::{Check, CheckError, Rules};
pub use diagnostic::{Diagnostic, Source};
pub use expand::{ExpandError, expand, expand_words, references};
pub use parse::{parse, parse_trigger};
pub use suggest::nearest;
