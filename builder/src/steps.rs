//! The steps of a build: their numbers, in the order in which they were announced, and their names for people.

use std::collections::BTreeMap;
use std::sync::Mutex;

use strata_dockerfile::remote::redact;
use strata_dockerfile::{Dockerfile, Instruction};

use crate::graph::{self, Origin};

/// A place of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Its FROM.
    From,
    /// A trigger of the image or stage that it starts from.
    Trigger(usize),
    /// One of its instructions.
    Instruction(usize),
}

/// Numbers of steps, from 1.
#[derive(Debug, Default)]
pub struct Steps {
    numbers: Mutex<BTreeMap<(usize, Place), u32>>,
}

impl Steps {
    /// The number of a step, which it keeps.
    pub fn number(&self, stage: usize, place: Place) -> u32 {
        let mut numbers = self.numbers.lock().expect("no holder of this lock panics");
        let next = numbers.len() as u32 + 1;
        *numbers.entry((stage, place)).or_insert(next)
    }

    /// The number of a step that no instruction is.
    pub fn other(&self) -> u32 {
        let count = self.count();
        // No file has so many stages.
        self.number(usize::MAX - count as usize, Place::From)
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.numbers.lock().expect("no holder of this lock panics").len() as u32
    }
}

/// Name of a step: `[builder 2/6] RUN make`. `triggers` are those that the stage runs before its own instructions.
pub fn name(
    file: &Dockerfile,
    base: &Origin,
    stage: usize,
    (place, triggers): (Place, &[Instruction]),
    text: &str,
) -> String {
    let stage = &file.stages[stage];
    let layers = |list: &[Instruction]| list.iter().filter(|one| graph::makes_layer(&one.kind)).count();
    let bases = usize::from(matches!(base, Origin::Image(_) | Origin::Context(_)));
    let total = bases + layers(triggers) + layers(&stage.instructions);
    let (number, prefix) = match place {
        Place::From => (1, ""),
        Place::Trigger(at) => (bases + 1 + layers(&triggers[..at]), "ONBUILD "),
        Place::Instruction(at) => (bases + 1 + layers(triggers) + layers(&stage.instructions[..at]), ""),
    };
    let name = match &stage.name {
        Some(name) => format!("{} ", name.value),
        None if file.stages.len() > 1 => format!("stage-{} ", stage.index),
        None => String::new(),
    };
    let width = total.to_string().len();
    format!("[{name}{number:width$}/{total}] {prefix}{}", redact(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Dockerfile {
        strata_dockerfile::parse(text, "Dockerfile").expect("the text is a Dockerfile")
    }

    #[test]
    fn steps_keep_their_numbers() {
        let steps = Steps::default();

        let first = steps.number(0, Place::From);
        let second = steps.number(1, Place::Instruction(3));

        assert_eq!((first, second, steps.number(0, Place::From), steps.count()), (1, 2, 1, 2));
    }

    #[test]
    fn names_count_what_makes_layers_and_where_a_stage_starts() {
        let two = file("FROM a AS one\nENV x=y\nRUN true\nFROM one\nCOPY . /\n");
        let triggers = file("FROM a\nRUN first\nENV x=y\n").stages[0].instructions.clone();
        let image = Origin::Image("a".to_owned());
        let many = file(&format!("FROM a\n{}", "RUN true\n".repeat(11)));

        let cases = [
            (&two, &image, 0, Place::From, &[][..], "[one 1/2] x"),
            (&two, &image, 0, Place::Instruction(1), &[], "[one 2/2] x"),
            (&two, &Origin::Stage(0), 1, Place::Instruction(0), &[], "[stage-1 1/1] x"),
            (&two, &image, 0, Place::Trigger(0), &triggers[..], "[one 2/3] ONBUILD x"),
            (&two, &image, 0, Place::Instruction(1), &triggers[..], "[one 3/3] x"),
            (&many, &image, 0, Place::From, &[], "[ 1/12] x"),
        ];
        for (file, base, stage, place, triggers, expected) in cases {
            assert_eq!(name(file, base, stage, (place, triggers), "x"), expected);
        }
    }
}
