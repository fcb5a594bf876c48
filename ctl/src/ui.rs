//! `ctl ui`: containers with their logs, figures and processes, images with their layers, volumes and networks, on the whole
//! screen.
//!
//! `screen` is a machine without a terminal and without connections: keys and news go in; pictures, wishes and what is to be
//! followed come out. `watch` and `follow` bring the news, `act` does what is wished, and here they meet.

mod act;
mod action;
mod follow;
mod item;
mod link;
mod listing;
mod log;
mod pane;
mod screen;
mod update;
mod usage;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::Explore;
use crate::command::explore;
use crate::error::{Error, Result};
use crate::full_screen::{FullScreen, Next, Palette};
use crate::platform::Choice;
use crate::{render, terminal, tunnel};
use action::Wish;
use link::{Link, said};
use screen::Screen;
use update::Update;

/// News that wait for the view. Who brings more waits, too.
const MOST_WAITING: usize = 64;
/// News taken before the picture is drawn again.
const MOST_NEWS: usize = 256;
/// Times that are shown go on by so much.
const SECOND: Duration = Duration::from_secs(1);

/// Shows what there is until the user has seen enough. Returns the exit code.
pub async fn run(choice: &Choice) -> Result<u8> {
    if !terminal::is_input() || !terminal::shows_escapes(true) {
        let error = Error::usage("`ctl ui` needs a terminal, which standard input or standard output is not");
        return Err(error
            .hint("`ctl ps -a`, `ctl stats --no-stream`, `ctl logs` and `ctl images` print the same")
            .hint("`--format json` is for programs"));
    }
    // What cannot be reached is said on an ordinary terminal, on which ssh is heard too.
    let first = choice.open()?;
    first.containers().await?;
    first.images().await?;
    tunnel::silence();
    let (sender, mut updates) = mpsc::channel(MOST_WAITING);
    let mut view = View {
        choice,
        link: Arc::new(Link::open(choice)?),
        screen: Screen::new(&first.name, Palette::of_environment()),
        tasks: JoinSet::new(),
        follower: None,
        updates: sender,
    };
    drop(first);
    watch::begin(&mut view.tasks, &view.link, &view.updates);
    view.show(&mut FullScreen::take()?, &mut updates).await
}

struct View<'a> {
    choice: &'a Choice,
    link: Arc<Link>,
    screen: Screen,
    /// All that works beside the view; it ends with it.
    tasks: JoinSet<()>,
    /// Who brings what the lower pane shows.
    follower: Option<AbortHandle>,
    updates: Sender<Update>,
}

/// What the view waits for.
enum Heard {
    Keys(Next),
    News(Update),
    Clock,
    Ended(Result<(), JoinError>),
}

impl View<'_> {
    async fn show(&mut self, full: &mut FullScreen, updates: &mut Receiver<Update>) -> Result<u8> {
        let mut clock = interval(SECOND);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            full.draw(&mut self.screen)?;
            if self.turn() {
                // What was in the pane is not of what is selected now.
                full.draw(&mut self.screen)?;
            }
            let screen = &mut self.screen;
            let heard = tokio::select! {
                next = full.listen(screen) => Heard::Keys(next?),
                Some(update) = updates.recv() => Heard::News(update),
                _ = clock.tick() => Heard::Clock,
                Some(ended) = self.tasks.join_next() => Heard::Ended(ended),
            };
            match heard {
                Heard::Keys(Next::Stay) => {}
                Heard::Keys(Next::Act) => self.grant(full).await?,
                Heard::Keys(Next::Suspend) => full.suspend()?,
                Heard::Keys(Next::Leave) => return Ok(0),
                Heard::News(update) => {
                    self.screen.take(update);
                    for _ in 0..MOST_NEWS {
                        let Ok(update) = updates.try_recv() else { break };
                        self.screen.take(update);
                    }
                }
                Heard::Clock => self.screen.tick(Timestamp::now()),
                // The terminal was given back when it happened, with the words to it.
                Heard::Ended(Err(error)) if error.is_panic() => {
                    return Err(Error::new("a part of the view has failed: see above"));
                }
                Heard::Ended(_) => {}
            }
        }
    }

    /// Follows what the lower pane shows now. Returns whether that is something else than before.
    fn turn(&mut self) -> bool {
        let Some((number, subject)) = self.screen.turn() else { return false };
        if let Some(before) = self.follower.take() {
            before.abort();
        }
        self.follower = subject
            .map(|subject| self.tasks.spawn(follow::follow(self.link.clone(), subject, number, self.updates.clone())));
        true
    }

    /// Does what the view wishes.
    async fn grant(&mut self, full: &mut FullScreen) -> Result<()> {
        for wish in self.screen.take_wishes() {
            match wish {
                Wish::Do(action) => {
                    self.tasks.spawn(act::perform(self.link.clone(), action, self.updates.clone()));
                }
                Wish::Shell(id, name) => {
                    let shell = async {
                        render::note(format!("A shell in {name}: when it ends, the view is back."));
                        act::shell(self.choice, &id).await
                    };
                    match full.lend(shell).await? {
                        Ok(None) => {}
                        Ok(Some(complaint)) => self.screen.complain(complaint),
                        Err(error) => self.screen.complain(said(&error)),
                    }
                }
                Wish::Explore(reference) => {
                    let args = Explore {
                        image: reference,
                        plain: false,
                        json: false,
                        ci: false,
                        lowest_efficiency: None,
                        highest_wasted_bytes: None,
                        highest_user_wasted_percent: None,
                    };
                    let platform = self.link.platform();
                    match full.lend(explore::run(&platform, &args)).await? {
                        Ok(_) => {}
                        // A signal has ended it.
                        Err(error) if error.message.is_empty() => return Err(error),
                        Err(error) => self.screen.complain(said(&error)),
                    }
                }
            }
        }
        Ok(())
    }
}
