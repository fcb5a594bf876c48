//! `create`: the container is there, its process waits at the FIFO for `start`.

use crate::{
    Global,
    container::{Ends, Make, claim, make},
};

/// Makes the container; this program ends, its caller's subreaper inherits the process.
pub fn create(global: &Global, options: &Make) -> Result<(), String> {
    let claim = claim(global, options)?;
    let made = make(global, &claim, options, Ends::Created)?;
    made.process.go().map_err(|failure| failure.to_string())?;
    options.write_pid_file(made.state.pid)?;
    claim.keep();
    Ok(())
}
