//! A pipe with a name, which this service and the monitors of its containers have open to write: who reads it hears of the
//! end of the last of them. So what containers need of this service stays when it is killed, and goes when nobody is left.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::{errno::Errno, sys::stat::Mode, unistd::mkfifo};

/// The pipe, open to write.
#[derive(Debug)]
pub(super) struct Lifeline {
    path: PathBuf,
    end: File,
}

impl Lifeline {
    /// Opens the pipe, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Open to read as well: without a reader nobody can open it to write alone. fifo(7)
        let end = File::options().read(true).write(true).open(path)?;
        Ok(Self { path: path.to_owned(), end })
    }

    /// For a process that is to keep what hangs on it. Nothing is ever written.
    pub(super) fn hold(&self) -> io::Result<File> {
        self.end.try_clone()
    }

    /// For a process that hangs on it.
    pub(super) fn hang(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn who_hangs_on_it_hears_of_the_end_of_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lifeline");
        let line = Lifeline::open(&path).unwrap();
        let mut hanging = line.hang().unwrap();
        let monitor = line.hold().unwrap();
        drop(line);
        // The next service.
        let line = Lifeline::open(&path).unwrap();
        drop(monitor);

        let reader = std::thread::spawn(move || hanging.read(&mut [0]).unwrap());
        assert!(!reader.is_finished());
        drop(line);
        assert_eq!(reader.join().unwrap(), 0);
    }
}
