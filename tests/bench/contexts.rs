//! Build contexts that are made only where they are measured: many files, long chains, a graph, much data.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use crate::{Outcome, work::content};

/// Files of the largest context.
const MANY: usize = 100_000;
/// Files of the one in which a file changes.
const TEN: usize = 10_000;
/// Files in one directory.
const TOGETHER: usize = 100;
/// Files of the large COPY, of 100 MB each.
const LARGE: usize = 5;
const LARGE_BYTES: usize = 100_000_000;
/// Stages of the graph that stand side by side, and how many of them copy something first.
const STAGES: usize = 20;
const INPUTS: usize = 9;

/// A context with 100,000 files.
pub(crate) fn many(dir: &Path) -> Outcome<()> {
    files(dir, MANY)?;
    Ok(fs::write(dir.join("Dockerfile"), "FROM guest\nCOPY . /app\n")?)
}

/// A context with 10,000 files, and a program to run after they are copied.
pub(crate) fn ten(dir: &Path) -> Outcome<()> {
    files(dir, TEN)?;
    let text = "FROM guest\nCOPY . /app\nRUN [\"/guest\", \"write\", \"/made\", \"x\"]\n";
    Ok(fs::write(dir.join("Dockerfile"), text)?)
}

/// A file of those.
pub(crate) fn name(number: usize) -> String {
    format!("d{:03}/f{:02}", number / TOGETHER, number % TOGETHER)
}

fn files(dir: &Path, number: usize) -> Outcome<()> {
    for at in 0..number {
        let path = dir.join(name(at));
        if at % TOGETHER == 0 {
            fs::create_dir_all(path.parent().unwrap_or(dir))?;
        }
        fs::write(path, &content(at)[..1024])?;
    }
    Ok(())
}

/// A context with 500 MB; each round has other bytes.
pub(crate) fn large(dir: &Path, round: u32) -> Outcome<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("Dockerfile"), "FROM guest\nCOPY . /app\n")?;
    for at in 0..LARGE {
        let path = dir.join(format!("part{at}"));
        let mut file = File::options().write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() == 0 {
            let mut block = content(at).repeat(1 << 10);
            block.truncate(1_000_000);
            for number in 0..LARGE_BYTES / block.len() {
                write!(file, "{number:16}")?;
                file.write_all(&block[16..])?;
            }
        }
        file.seek(SeekFrom::Start(0))?;
        write!(file, "{round:16}")?;
    }
    Ok(())
}

/// A context of 20 stages side by side with a RUN each, some with a COPY before it, and a last one that copies from all:
/// 20 RUN and 29 COPY. No stage does what another does.
pub(crate) fn graph(dir: &Path) -> Outcome<()> {
    fs::create_dir_all(dir)?;
    let (mut stages, mut last) = (String::new(), "FROM guest\n".to_owned());
    for stage in 0..STAGES {
        // Writing to a string does not fail.
        let _ = writeln!(stages, "FROM guest AS s{stage}");
        if stage < INPUTS {
            fs::write(dir.join(format!("in{stage}")), format!("input {stage}\n"))?;
            let _ = writeln!(stages, "COPY in{stage} /");
        }
        let _ = writeln!(stages, "RUN [\"/guest\", \"write\", \"/out{stage}\", \"x\"]");
        let _ = writeln!(last, "COPY --from=s{stage} /out{stage} /");
    }
    Ok(fs::write(dir.join("Dockerfile"), stages + &last)?)
}

/// A context of so many RUN steps.
pub(crate) fn steps(dir: &Path, number: usize) -> Outcome<()> {
    fs::create_dir_all(dir)?;
    Ok(fs::write(dir.join("Dockerfile"), run_steps(number))?)
}

/// A Dockerfile of so many RUN steps.
pub(crate) fn run_steps(number: usize) -> String {
    let mut text = "FROM guest\n".to_owned();
    for step in 1..=number {
        // Writing to a string does not fail.
        let _ = writeln!(text, "RUN [\"/guest\", \"write\", \"/f{step}\", \"x\"]");
    }
    text
}
