//! The way to the services, which is made anew when it is broken.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::explore::text::line;
use crate::platform::{Choice, Platform};

/// Where the services are, as far as it is known to work.
pub struct Link {
    choice: Choice,
    platform: Mutex<Arc<Platform>>,
}

impl Link {
    /// The services that were chosen. Nothing is connected yet.
    pub fn open(choice: &Choice) -> Result<Self> {
        Ok(Self { choice: choice.clone(), platform: Mutex::new(Arc::new(choice.open()?)) })
    }

    /// The way that is in use.
    pub fn platform(&self) -> Arc<Platform> {
        self.platform.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says that a way did not work: the next who asks gets another one, that is connected anew; services of this host are
    /// started when they do not run.
    pub fn is_broken(&self, platform: &Arc<Platform>) {
        let mut current = self.platform.lock().unwrap_or_else(PoisonError::into_inner);
        // Others may have said so before.
        if Arc::ptr_eq(&current, platform)
            && let Ok(next) = self.choice.open()
        {
            *current = Arc::new(next);
        }
    }
}

/// An error as one line, with the first thing that helps.
pub fn said(error: &Error) -> String {
    let text = match error.hints.first() {
        Some(hint) => format!("{} ({hint})", error.message),
        None => error.message.clone(),
    };
    line(&text)
}
