//! What comes of one case: the lines in which we differ from its judges.

use std::{fs, path::Path};

use crate::{
    case::Case,
    engines::{Engine, Ours},
    image::Description,
};

/// Lines that differ, by judge and aspect.
pub struct Verdict {
    pub case: String,
    pub lines: Vec<Line>,
    /// What fails the test whatever the differences say.
    pub failures: Vec<String>,
}

/// A line that one side has alone.
pub struct Line {
    pub judge: String,
    pub aspect: String,
    /// `-` before what only the judge has, `+` before what only we have.
    pub text: String,
}

/// Builds a case by everybody and compares.
pub fn of(case: &Case, ours: &Ours, judges: &[&dyn Engine], work: &Path) -> Verdict {
    let context = work.join(format!("context-{}", case.name));
    case.write(&context);
    let mut verdict = Verdict { case: case.name.clone(), lines: vec![], failures: vec![] };
    let built = ours.build(case, &context, &case.name);
    match (&case.fails, built.code) {
        (Some(words), code) => {
            if code == 0 {
                verdict.failures.push("it was built, and must fail".to_owned());
            }
            let missing = words.iter().filter(|word| !built.stderr.contains(word.as_str()));
            verdict.failures.extend(missing.map(|word| format!("no {word:?} in {built:?}")));
            for judge in judges.iter().filter(|judge| case.judges.iter().any(|name| name == judge.name())) {
                if judge.build(case, &context, &case.name).code == 0 {
                    verdict.failures.push(format!("{} builds it", judge.name()));
                }
            }
        }
        (None, 0) => compare(case, ours, judges, &context, &mut verdict),
        (None, _) => verdict.failures.push(format!("{built:?}")),
    }
    let _ = fs::remove_dir_all(context);
    verdict
}

fn compare(case: &Case, ours: &Ours, judges: &[&dyn Engine], context: &Path, verdict: &mut Verdict) {
    let mine = description(ours, &case.name, context);
    for (aspect, expected) in &case.golden {
        differ(verdict, "golden", aspect, expected, &golden(case, &mine, aspect));
    }
    for judge in judges.iter().filter(|judge| case.judges.iter().any(|name| name == judge.name())) {
        let built = judge.build(case, context, &case.name);
        if built.code != 0 {
            verdict.failures.push(format!("{} does not build it: {built:?}", judge.name()));
            continue;
        }
        let theirs = description(*judge, &case.name, context);
        for (aspect, lines) in &mine.aspects {
            differ(verdict, judge.name(), aspect, &theirs.aspects[aspect], lines);
        }
    }
}

fn description(engine: &dyn Engine, name: &str, context: &Path) -> Description {
    let archive = context.with_extension(format!("{}.tar", engine.name()));
    let _ = fs::remove_file(&archive);
    engine.save(name, &archive);
    let description = Description::read(&archive);
    let _ = fs::remove_file(&archive);
    description
}

/// What a golden description is about: of a tree that came from a base, only what is not the base's.
fn golden(case: &Case, mine: &Description, aspect: &str) -> Vec<String> {
    let is_own =
        |line: &&String| aspect != "tree" || !crate::bases::is_of_mini(line) || case.golden[aspect].contains(line);
    mine.aspects[aspect].iter().filter(is_own).cloned().collect()
}

fn differ(verdict: &mut Verdict, judge: &str, aspect: &str, theirs: &[String], ours: &[String]) {
    let mut add = |sign: char, line: &String| {
        let text = format!("{sign}{line}");
        verdict.lines.push(Line { judge: judge.to_owned(), aspect: aspect.to_owned(), text });
    };
    theirs.iter().filter(|line| !ours.contains(line)).for_each(|line| add('-', line));
    ours.iter().filter(|line| !theirs.contains(line)).for_each(|line| add('+', line));
}
