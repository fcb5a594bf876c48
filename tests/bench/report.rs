//! The figures: tables for people, JSON for programs. What was not measured is in both, with its reason.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use crate::machine::Machine;

/// Ratios are ours to each peer's: of ctl, or of strata-oci where the peer is a runtime alone.
const OURS: &str = "ctl";
const OUR_RUNTIME: &str = "strata-oci";
const RUNTIMES: [&str; 3] = ["crun", "floor", "runc"];

/// A table of its own, under the heading that it has in the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// One container, and what services keep
    Containers,
    /// Builds
    Builds,
    /// Networks
    Networks,
    /// Many containers, and long ones
    Lives,
    /// Images
    Images,
}

impl Section {
    /// In the order of the README.
    const ALL: [Self; 5] = [Self::Containers, Self::Builds, Self::Networks, Self::Lives, Self::Images];

    fn heading(self) -> &'static str {
        match self {
            Self::Containers => "## Figures",
            Self::Builds => "### Figures of builds",
            Self::Networks => "### Figures of networks",
            Self::Lives => "### Figures of containers' lives",
            Self::Images => "### Figures of images",
        }
    }
}

/// What a figure counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    /// Of wall clock
    Milliseconds,
    /// Of memory
    Mebibytes,
    /// Of what the title says
    Percent,
    /// Of the clock, where it is quick
    Microseconds,
    /// More is better
    Gigabits,
    /// More is better
    PerSecond,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::Percent => "%",
            Self::Microseconds => "µs",
            Self::Gigabits => "Gbit/s",
            Self::PerSecond => "1/s",
        }
    }
}

/// What was measured in one place.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// A single one.
    pub(crate) fn of(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds one.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// Was nothing measured?
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one, or between the two in the middle.
    fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[middle] } else { (self.0[middle - 1] + self.0[middle]) / 2.0 }
    }
}

/// A place in the table.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// Figures
    Samples(Samples),
    /// The engine has no such thing
    Absent,
    /// It has, and it did not work
    Failed(String),
}

struct Row {
    section: Section,
    title: &'static str,
    unit: Unit,
    cells: BTreeMap<String, Cell>,
}

/// What is known so far.
pub(crate) struct Report {
    machine: Machine,
    runs: u32,
    engines: Vec<(String, String)>,
    missing: Vec<(String, String)>,
    section: Section,
    rows: Vec<Row>,
    leftovers: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub(crate) fn new(runs: u32) -> Self {
        let (machine, section) = (Machine::look(), Section::Containers);
        Self { machine, runs, engines: vec![], missing: vec![], section, rows: vec![], leftovers: vec![] }
    }

    /// An engine takes part.
    pub(crate) fn engine(&mut self, name: &str, version: &str) {
        if !self.engines.iter().any(|(known, _)| known == name) {
            self.engines.push((name.to_owned(), version.to_owned()));
        }
    }

    /// An engine does not.
    pub(crate) fn not_measured(&mut self, name: &str, reason: &str) {
        let missing = (name.to_owned(), reason.to_owned());
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }

    /// What is measured next is of this table.
    pub(crate) fn section(&mut self, section: Section) {
        self.section = section;
    }

    /// A measure was taken.
    pub(crate) fn row(&mut self, title: &'static str, unit: Unit, cells: BTreeMap<String, Cell>) {
        self.rows.push(Row { section: self.section, title, unit, cells });
    }

    /// Something could not be put away.
    pub(crate) fn leftovers(&mut self, found: Vec<String>) {
        self.leftovers.extend(found);
    }

    /// For people, a table for each section.
    pub(crate) fn tables(&self) -> String {
        let mut text = format!("\n{}\n", self.machine.line());
        for (name, version) in &self.engines {
            let _ = writeln!(text, "  {name}: {version}");
        }
        for (name, reason) in &self.missing {
            let _ = writeln!(text, "  {name}: not measured: {reason}");
        }
        let mut notes = vec![
            "ours/peer: of ctl; beside crun, runc and the floor of strata-oci, where it can do the same".to_owned(),
        ];
        for section in Section::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.section == section).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(
                text,
                "\n{}\n\n| {:<34} | {:<10} | {:>11} | {:>19} | {:>4} | {:>9} |",
                section.heading(),
                "median",
                "",
                "",
                "min..max",
                "runs",
                "ours/peer"
            );
            let _ = writeln!(text, "|{:-<36}|{:-<12}|{:->13}|{:->21}|{:->6}|{:->11}|", "", "", ":", ":", ":", ":");
            rows.into_iter().for_each(|row| self.table_rows(row, &mut text, &mut notes));
        }
        text.push('\n');
        notes.extend(self.leftovers.iter().map(|line| format!("left behind: {line}")));
        for note in notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }

    fn table_rows(&self, row: &Row, text: &mut String, notes: &mut Vec<String>) {
        let (mut title, mut absent) = (row.title, vec![]);
        for (name, _) in &self.engines {
            match row.cells.get(name) {
                Some(Cell::Samples(samples)) => {
                    let unit = row.unit.name();
                    let median = format!("{:.1} {unit}", samples.median());
                    let spread = format!("{:.1}..{:.1}", samples.0[0], samples.0[samples.0.len() - 1]);
                    let ratio = row.ratio(name).map_or(String::new(), |ratio| format!("{ratio:.3}"));
                    let runs = samples.0.len();
                    let _ = writeln!(
                        text,
                        "| {title:<34} | {name:<10} | {median:>11} | {spread:>19} | {runs:>4} | {ratio:>9} |"
                    );
                    title = "";
                }
                Some(Cell::Failed(reason)) => {
                    let _ = writeln!(
                        text,
                        "| {title:<34} | {name:<10} | {:>11} | {:>19} | {:>4} | {:>9} |",
                        "failed", "", "", ""
                    );
                    notes.push(format!("{}, {name}: failed: {reason}", row.title));
                    title = "";
                }
                Some(Cell::Absent) => absent.push(name.as_str()),
                None => notes.push(format!("{}, {name}: not measured", row.title)),
            }
        }
        if !absent.is_empty() {
            notes.push(format!("{}: not a thing of {}", row.title, absent.join(", ")));
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let pairs = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let report = json!({
            "machine": self.machine,
            "engines": pairs(&self.engines),
            "not_measured": pairs(&self.missing),
            "rounds_asked_for": self.runs,
            "measures": rows,
            "left_behind": self.leftovers,
        });
        format!("{report:#}\n")
    }
}

impl Row {
    fn median(&self, name: &str) -> Option<f64> {
        match self.cells.get(name)? {
            Cell::Samples(samples) => Some(samples.median()),
            Cell::Absent | Cell::Failed(_) => None,
        }
    }

    /// What this peer is compared with: a runtime alone with our runtime alone, where that can do the same.
    fn counterpart(&self, name: &str) -> Option<&'static str> {
        match name {
            OURS | OUR_RUNTIME => None,
            _ if RUNTIMES.contains(&name) && self.median(OUR_RUNTIME).is_some() => Some(OUR_RUNTIME),
            _ => Some(OURS),
        }
    }

    fn ratio(&self, name: &str) -> Option<f64> {
        let ratio = self.median(self.counterpart(name)?)? / self.median(name)?;
        // A peer whose processes did nothing at all has no part of it.
        ratio.is_finite().then_some(ratio)
    }

    fn json(&self) -> Value {
        let cell = |(name, cell): (&String, &Cell)| {
            let value = match cell {
                Cell::Samples(samples) => json!({
                    "median": rounded(samples.median()),
                    "min": rounded(samples.0[0]),
                    "max": rounded(samples.0[samples.0.len() - 1]),
                    "runs": samples.0.len(),
                    "samples": samples.0.iter().copied().map(rounded).collect::<Vec<_>>(),
                    "ours": self.counterpart(name),
                    "ratio_of_ours": self.ratio(name).map(rounded),
                }),
                Cell::Absent => json!({ "absent": true }),
                Cell::Failed(reason) => json!({ "failed": reason }),
            };
            (name.clone(), value)
        };
        json!({
            "name": self.title,
            "unit": self.unit.name(),
            "engines": self.cells.iter().map(cell).collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
