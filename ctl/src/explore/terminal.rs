//! The view on the terminal.

use super::Image;
use super::screen::Screen;
use crate::error::{Error, Result};
use crate::full_screen::{FullScreen, Next, Palette};

/// Shows an image until the user has seen enough. Returns the exit code.
pub async fn show(image: Image) -> Result<u8> {
    let helped = |error: Error| error.hint("`--plain` shows a summary, `--json` everything");
    let mut screen = Screen::new(image, Palette::of_environment());
    let mut full = FullScreen::take().map_err(helped)?;
    loop {
        full.draw(&mut screen).map_err(helped)?;
        match full.listen(&mut screen).await? {
            Next::Stay | Next::Act => {}
            Next::Leave => return Ok(0),
            Next::Suspend => full.suspend()?,
        }
    }
}
