//! The PEM files of one side of a connection: read, and seen to have changed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

use super::Error;

/// Where the certificates of one side are.
#[derive(Debug, Clone)]
pub struct Files {
    /// Who signs those of the other side. Absent: it shows none.
    pub authority: Option<PathBuf>,
    /// What this side shows, with those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Files {
    /// All three.
    pub(super) fn new(authority: &Path, certificate: &Path, key: &Path) -> Self {
        Self { authority: Some(authority.to_owned()), certificate: certificate.to_owned(), key: key.to_owned() }
    }

    fn all(&self) -> impl Iterator<Item = &Path> {
        [self.authority.as_deref(), Some(&*self.certificate), Some(&*self.key)].into_iter().flatten()
    }
}

/// Where the certificates of one side come from.
#[derive(Clone)]
pub(super) enum Source {
    Files(Files),
    Texts { authority: Vec<u8>, certificate: Vec<u8>, key: Vec<u8> },
}

/// What is in the files.
pub(super) struct Certificates {
    pub authorities: Option<Authorities>,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Where the first of the chain is, for errors.
    pub place: String,
}

/// Whose signatures are believed.
pub(super) struct Authorities {
    pub roots: RootCertStore,
    /// Where they are, for errors.
    pub place: String,
}

impl Certificates {
    /// TLS refuses the pair.
    pub fn refused(place: String) -> impl FnOnce(rustls::Error) -> Error {
        move |source| Error::Refused { what: "certificate", place, source }
    }
}

/// Which contents of the files there were, to see later whether they changed: file and times of each, where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marks(Vec<Option<[i64; 7]>>);

impl Source {
    /// Reads everything.
    pub fn read(&self) -> Result<Certificates, Error> {
        let texts = match self {
            Self::Texts { authority, certificate, key } => {
                let text = |what, bytes: &Vec<u8>| Text { what, place: "given".to_owned(), bytes: bytes.clone() };
                (Some(text(AUTHORITY, authority)), text(CERTIFICATE, certificate), text(KEY, key))
            }
            Self::Files(Files { authority, certificate, key }) => {
                let authority = authority.as_deref().map(|path| Text::read(AUTHORITY, path)).transpose()?;
                (authority, Text::read(CERTIFICATE, certificate)?, Text::read(KEY, key)?)
            }
        };
        let (authority, certificate, key) = texts;
        Ok(Certificates {
            authorities: authority.map(Text::authorities).transpose()?,
            chain: certificate.certificates()?,
            key: PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|source| key.broken(source))?,
            place: certificate.place,
        })
    }

    /// What the files are now.
    pub fn marks(&self) -> Marks {
        let Self::Files(files) = self else { return Marks::default() };
        let mark = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            let (device, inode, size) = (file.dev() as i64, file.ino() as i64, file.size() as i64);
            Some([device, inode, size, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()])
        };
        Marks(files.all().map(mark).collect())
    }
}

const AUTHORITY: &str = "certificate authority";
const CERTIFICATE: &str = "certificate";
const KEY: &str = "private key";

/// One of them.
struct Text {
    what: &'static str,
    place: String,
    bytes: Vec<u8>,
}

impl Text {
    fn read(what: &'static str, path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Read { what, path: path.to_owned(), source })?;
        Ok(Self { what, place: path.display().to_string(), bytes })
    }

    fn broken(&self, source: pem::Error) -> Error {
        Error::Pem { what: self.what, place: self.place.clone(), source }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Ok(found) if found.is_empty() => Err(self.broken(pem::Error::NoItemsFound)),
            Ok(found) => Ok(found),
            Err(source) => Err(self.broken(source)),
        }
    }

    fn authorities(self) -> Result<Authorities, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            let refused = |source| Error::Refused { what: self.what, place: self.place.clone(), source };
            roots.add(certificate).map_err(refused)?;
        }
        Ok(Authorities { roots, place: self.place })
    }
}
