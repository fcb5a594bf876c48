//! The template of a tag: text, and fields of the container in Go's form, "{{.Name}}/{{.ID}}".

use super::Facts;

/// What can be named, as in Docker.
const FIELDS: [&str; 9] =
    ["ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName", "Command", "Hostname"];

/// A tag before its fields are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// One of [`FIELDS`].
    Field(&'static str),
}

impl Tag {
    /// The id, short: what Docker has where nobody chose.
    pub fn usual() -> Self {
        Self(vec![Piece::Field("ID")])
    }

    /// Parses a template; otherwise says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) =
                after.split_once("}}").ok_or_else(|| format!("tag={text:?} has no end of a \"{{{{\""))?;
            pieces.push(Piece::Text(before.to_owned()));
            let name = inside.trim().strip_prefix('.');
            let field = name.and_then(|name| FIELDS.into_iter().find(|field| *field == name));
            pieces.push(Piece::Field(field.ok_or_else(|| {
                let known = FIELDS.map(|field| format!("{{{{.{field}}}}}")).join(", ");
                format!("tag={text:?}: {{{{{inside}}}}} is no field: there are {known}")
            })?));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The tag of a container.
    pub fn fill(&self, facts: &Facts<'_>) -> String {
        let one = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(field) => facts.field(field),
        };
        self.0.iter().map(one).collect()
    }
}
