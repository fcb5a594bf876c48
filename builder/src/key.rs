//! Cache keys: what a step does and the digests of what it reads. Lengths go in with every part, so that no two
//! lists of parts give the same bytes.

use crate::context::Blake3;

/// Changes whenever a step of the same key would make something else.
const GENERATION: &str = "strata build 2";

/// A key in the making.
#[derive(Debug)]
pub struct Key {
    hasher: blake3::Hasher,
}

impl Key {
    /// Starts what a step of this kind does and reads, whatever it stands on.
    pub fn operation(kind: &str) -> Self {
        Self::root("operation").part(kind)
    }

    /// The key of a step that does `operation` on top of `parent`.
    pub fn step(parent: &Blake3, operation: &Blake3) -> Blake3 {
        Self::root("step").part(parent).part(operation).finish()
    }

    /// The key of a step that does `operation` and stands on nothing: its layer is the same on any other.
    pub fn alone(operation: &Blake3) -> Blake3 {
        Self::root("step alone").part(operation).finish()
    }

    /// Starts a key of its own kind.
    pub fn root(kind: &str) -> Self {
        Self { hasher: blake3::Hasher::new() }.part(GENERATION).part(kind)
    }

    /// Adds a part.
    pub fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        self
    }

    /// Adds a list.
    pub fn list<T: AsRef<[u8]>>(mut self, parts: impl IntoIterator<Item = T>) -> Self {
        let parts: Vec<T> = parts.into_iter().collect();
        self.hasher.update(&(parts.len() as u64).to_le_bytes());
        parts.into_iter().fold(self, |key, part| key.part(part))
    }

    /// The finished key.
    pub fn finish(self) -> Blake3 {
        *self.hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let one = Key::root("k").part("ab").part("c").finish();
        let other = Key::root("k").part("a").part("bc").finish();

        assert_ne!(one, other);
    }

    #[test]
    fn lists_do_not_run_together() {
        let one = Key::root("k").list(["a"]).list(["b", "c"]).finish();
        let other = Key::root("k").list(["a", "b"]).list(["c"]).finish();

        assert_ne!(one, other);
    }
}
