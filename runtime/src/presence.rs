//! Says "somebody is here" while containers run: this service must not stop for idleness, nor may its store.
//! The session on the store begins only after a while, so that short runs do not pay for it.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Makes a token that keeps this service from stopping.
type Busy = Box<dyn Fn() -> Box<dyn Any + Send> + Send + Sync>;

/// Begins a session on the store that ends with the token.
type Session = Box<dyn Fn(CancellationToken) + Send + Sync>;

/// Counts running containers.
pub struct Presence(Arc<Inner>);

struct Inner {
    busy: Busy,
    session: Session,
    running: Mutex<Option<(usize, CancellationToken)>>,
}

/// One running container.
pub struct Present {
    inner: Arc<Inner>,
    _busy: Box<dyn Any + Send>,
}

impl Presence {
    /// A count of none.
    pub fn new(
        busy: impl Fn() -> Box<dyn Any + Send> + Send + Sync + 'static,
        session: impl Fn(CancellationToken) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { busy: Box::new(busy), session: Box::new(session), running: Mutex::new(None) }))
    }

    /// Counts one more, until the value is dropped.
    pub fn enter(&self) -> Present {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.as_mut() {
            Some((count, _)) => *count += 1,
            None => {
                let token = CancellationToken::new();
                (self.0.session)(token.clone());
                *running = Some((1, token));
            }
        }
        Present { inner: self.0.clone(), _busy: (self.0.busy)() }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, token)) = running.as_mut() {
            *count -= 1;
            if *count == 0 {
                token.cancel();
                *running = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_from_the_first_container_to_the_last() {
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let seen = tokens.clone();
        let presence = Presence::new(|| Box::new(()), move |token| seen.lock().unwrap().push(token));

        let (first, second) = (presence.enter(), presence.enter());
        drop(first);
        assert!(!tokens.lock().unwrap()[0].is_cancelled());
        drop(second);
        assert!(tokens.lock().unwrap()[0].is_cancelled());
        let _third = presence.enter();

        let tokens = tokens.lock().unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(!tokens[1].is_cancelled());
    }
}
