//! The same work on many things, on all cores.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Things that a thread takes at a time.
const TOGETHER: usize = 8;

/// Microseconds of work for which a thread is worth its making.
const WORTH: usize = 500;

/// The cores that this process may use: asked for once, as the answer is in files of cgroups.
pub static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// What the work makes of each thing, in their order. All of it takes about so many microseconds.
pub fn map<T: Sync, R: Send>(things: &[T], micros: usize, work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let part = || {
        let mut done = Vec::new();
        loop {
            let first = next.fetch_add(TOGETHER, Ordering::Relaxed);
            let Some(rest) = things.get(first..).filter(|rest| !rest.is_empty()) else { return done };
            let some = rest.iter().take(TOGETHER).enumerate();
            done.push((first, some.map(|(place, thing)| work(first + place, thing)).collect::<Vec<R>>()));
        }
    };
    let threads = (1 + micros / WORTH).min(*CORES).min(things.len().div_ceil(TOGETHER));
    let mut parts = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(part)).collect();
        let mut parts = part();
        for other in others {
            parts.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        parts
    });
    parts.sort_unstable_by_key(|(first, _)| *first);
    parts.into_iter().flat_map(|(_, done)| done).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_made_has_the_order_of_what_it_is_made_of() {
        for (count, micros) in [(0, 0), (1, 9000), (7, 9000), (8, 9000), (9, 9000), (1000, 0), (1000, 9000)] {
            let things: Vec<usize> = (0..count).collect();
            let made = super::map(&things, micros, |place, thing| (place, thing * 2));
            assert!(made.iter().enumerate().all(|(place, made)| *made == (place, place * 2)) && made.len() == count);
        }
    }
}
