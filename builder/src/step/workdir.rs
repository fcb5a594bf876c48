//! WORKDIR: a directory that is made where it is missing, as the user of the stage.

use std::sync::Arc;

use strata_dockerfile::{Instruction, Word};

use super::copy::absolute;
use super::{Keyed, family, owner, through_cache};
use crate::error::Error;
use crate::key::Key;
use crate::peers::{Entries, Entry, Made, Placement, Tree};
use crate::progress::Running;
use crate::solve::{Build, StageWork};

/// Performs a WORKDIR.
pub async fn perform(
    build: &Arc<Build>,
    work: &mut StageWork,
    instruction: &Instruction,
    word: &Word,
    running: &Running,
) -> Result<(), Error> {
    let text = work.scope.expand(&build.file, word)?;
    if text.is_empty() {
        return Err(build.mistake(word.span, "the working directory is empty after expansion"));
    }
    let path = absolute(&work.draft.working_directory(), &text);
    let created_by = format!("WORKDIR {path}");
    let user = work.draft.config.config.user.clone();
    work.draft.config.config.working_dir = path.clone();
    let owner = match user.as_str() {
        "" | "0" | "root" => (0, 0),
        user => owner::resolve(build, work, user, word.span, running).await?,
    };
    let operation =
        Key::operation("workdir").part(&path).part(owner.0.to_le_bytes()).part(owner.1.to_le_bytes()).finish();
    let keyed = Keyed { operation, family: family(build, work, instruction), created_by, is_linked: false };
    through_cache(build, work, keyed, running, async |work, step, _| {
        // One that is there is left as it is.
        let entry = Entry::new(path.into_bytes(), Placement::Directory { explicit: false });
        let made = Made { owner, ..Made::default() };
        let parents = build.files(&work.draft, running).await?;
        let tree = Tree { parents, made, ..Tree::default() };
        build.store.write_tree(tree, Entries::of(vec![entry]), step, &build.lease).await
    })
    .await
}
