//! A tar writer for tests that can also lie.

/// An archive under construction.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    /// Adds a file.
    pub fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.lie(name, bytes.len() as u64, bytes)
    }

    /// Adds a file whose header announces another size than it has.
    pub fn lie(mut self, name: &str, size: u64, bytes: &[u8]) -> Self {
        self.header(name, "", b'0', size);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Adds an entry without content: a link, a directory, a device.
    pub fn node(mut self, name: &str, flag: u8, link: &str) -> Self {
        self.header(name, link, flag, 0);
        self
    }

    /// Ends the archive.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    fn header(&mut self, name: &str, link: &str, flag: u8, size: u64) {
        assert!(name.len() <= 100 && link.len() <= 100, "tests use short names");
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{size:011o}").as_bytes());
        put(136, b"14000000000");
        put(148, b"        ");
        put(156, &[flag]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
    }
}
