//! What several measures do with the command lines that have Docker's words.

use crate::{
    Outcome,
    engine::{Engine, Task},
    room::Done,
};

/// Containers that one command removes: it has to end in time.
const AT_A_TIME: usize = 25;
/// After an interruption one may appear late, and a removal may have been interrupted itself.
const PASSES: usize = 4;

/// Runs words to their successful end.
pub(super) fn line(engine: &dyn Engine, words: &[&str]) -> Outcome<Done> {
    let mut command = engine.line().ok_or("it has no command line")?;
    command.args(words);
    engine.finish(command)
}

/// Removes every container with this in its name, running or not.
pub(super) fn clear(engine: &dyn Engine, name: &str) -> Outcome<()> {
    let mut failed = None;
    for _ in 0..PASSES {
        let said = line(engine, &["ps", "-aq", "--no-trunc", "--filter", &format!("name={name}")])?.stdout;
        let ids: Vec<&str> = said.lines().collect();
        if ids.is_empty() {
            return Ok(());
        }
        for some in ids.chunks(AT_A_TIME) {
            let mut command = engine.command(Task::Remove(some[0])).ok_or("it removes no containers")?;
            command.args(&some[1..]);
            failed = engine.finish(command).err().or(failed);
        }
    }
    Err(failed.unwrap_or_else(|| format!("containers with {name} in their names come back").into()))
}
