//! `run`: create, start, and in the foreground stay with the process until its end.

use crate::{
    Global,
    console::Console,
    container::{Ends, Make, claim, make},
    foreground::{Signals, wait},
    notify::Notify,
    state::is_alive,
};

use super::delete::delete;

/// Makes a container, waits for its end and removes it.
#[derive(clap::Args)]
pub struct Run {
    #[command(flatten)]
    make: Make,
    /// Does not wait for the end.
    #[arg(short, long)]
    detach: bool,
    /// Leaves the stopped container.
    #[arg(long)]
    keep: bool,
    /// Does not take the container's orphans as children.
    #[arg(long)]
    no_subreaper: bool,
}

impl Run {
    pub fn run(&self, global: &Global) -> Result<u8, String> {
        let claim = claim(global, &self.make)?;
        if self.detach {
            let made = make(global, &claim, &self.make, Ends::Detached)?;
            let notify = Notify::listen(&made.state.directory, Some(made.state.pid))?;
            made.process.execute().map_err(|failure| failure.to_string())?;
            claim.run_poststart()?;
            self.make.write_pid_file(made.state.pid)?;
            claim.keep();
            let is_alive = || is_alive(made.state.pid, made.state.start_time);
            return notify.map_or(Ok(()), |notify| notify.wait(is_alive)).map(|()| 0);
        }
        let signals = Signals::block()?;
        if !self.no_subreaper {
            rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
                .map_err(|error| format!("cannot become a subreaper: {error}"))?;
        }
        let mut made = make(global, &claim, &self.make, Ends::Foreground)?;
        let pid = made.state.pid;
        let notify = Notify::listen(&made.state.directory, None)?;
        let mut console = made.process.take_terminal().map(Console::new).transpose()?;
        made.process.execute().map_err(|failure| failure.to_string())?;
        claim.run_poststart()?;
        self.make.write_pid_file(pid)?;
        let outcome = wait(pid, &signals, console.as_mut(), notify);
        drop(console);
        if self.keep {
            claim.keep();
            return outcome;
        }
        let removed = delete(&global.root()?, &self.make.id, true);
        claim.keep();
        outcome.and_then(|code| removed.map(|()| code))
    }
}
