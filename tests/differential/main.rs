//! The same Dockerfiles built by us and by others: BuildKit (Debian's docker.io) and buildah where they know what a file
//! uses, and against descriptions written from the reference frontend's rules. Trees, configs and histories are compared
//! line by line; a line that differs is explained in `differences.txt`, or it fails the test.
//!
//! Every case is compared with its description; others build all of them with `STRATA_CASES=all`, as `make test-all` does,
//! and otherwise a sample that is the same in every run.
//!
//! `profile` compares what containers may do by default.

mod bases;
mod case;
mod differences;
mod engines;
mod image;
mod profile;
mod verdict;

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use case::Case;
use differences::Differences;
use engines::{Buildah, Docker, Engine, Ours};
use verdict::Verdict;

/// One case in so many is built by others, too.
const SAMPLE: usize = 4;

#[test]
fn images_are_those_of_the_judges() {
    let cases = chosen();
    let work =
        tempfile::Builder::new().prefix("strata-differential-").tempdir_in("/var/tmp").expect("/var/tmp is there");
    let bases = bases::write(work.path());
    let ours = Ours::start();
    let docker = Docker::start(work.path());
    let buildah = Buildah::start(work.path());
    let engines: [&dyn Engine; 3] = [&ours, &docker, &buildah];
    thread::scope(|scope| {
        for engine in engines {
            scope.spawn(|| bases.iter().for_each(|base| engine.load(base)));
        }
    });

    let verdicts = judge(&cases, &ours, &[&docker, &buildah], work.path());

    let differences = Differences::read();
    let is_whole = cases.len() == case::all().len() && cases.iter().all(|(_, is_judged)| *is_judged);
    let complaints = differences.complaints(&verdicts, is_whole);
    assert!(complaints.is_empty(), "{} of {} cases:\n{}", complaints.len(), cases.len(), complaints.join("\n"));
}

/// All cases, and whether others build them, too: all of them with STRATA_CASES=all, else a sample. STRATA_CASE names one.
fn chosen() -> Vec<(Case, bool)> {
    let all = case::all().into_iter().enumerate();
    if let Ok(name) = std::env::var("STRATA_CASE") {
        return all.filter(|(_, case)| case.name.contains(&name)).map(|(_, case)| (case, true)).collect();
    }
    let is_whole = std::env::var("STRATA_CASES").is_ok_and(|cases| cases == "all");
    let all = all.map(|(index, case)| (case, is_whole || index % SAMPLE == 0));
    all.filter(|(case, is_judged)| *is_judged || case.is_described()).collect()
}

/// Builds every case, several at once.
fn judge(cases: &[(Case, bool)], ours: &Ours, judges: &[&dyn Engine], work: &std::path::Path) -> Vec<Verdict> {
    let next = Mutex::new(cases.iter());
    let verdicts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some((case, is_judged)) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                        return;
                    };
                    let verdict = verdict::of(case, ours, if *is_judged { judges } else { &[] }, work);
                    verdicts.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
                }
            });
        }
    });
    verdicts.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn there_are_at_least_150_cases_and_each_has_a_judge() {
    let cases = case::all();

    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).for_each(|pair| assert_ne!(pair[0], pair[1], "two cases of one name"));
    for case in &cases {
        assert!(
            !case.judges.is_empty() || !case.golden.is_empty() || case.fails.is_some(),
            "nobody judges {}",
            case.name
        );
    }
}
