//! Certificates of the tests' own.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// A certificate with its key, both PEM.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A CA, and a file with its certificate.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

fn parameters(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut parameters = CertificateParams::new(names).expect("names");
    // Python asks for it since 3.13.
    parameters.use_authority_key_identifier_extension = true;
    parameters
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = parameters(&[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // To OpenSSL a certificate whose issuer has its own name is self-signed.
        parameters.distinguished_name.push(DnType::CommonName, "CA of a test");
        let key = KeyPair::generate().expect("a key");
        let folder = TempDir::new().expect("a temporary folder");
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        std::fs::write(folder.path().join("ca.crt"), pem).expect("written");
        Self { issuer: Issuer::new(parameters, key), folder }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters(names).signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

/// A certificate that is its own CA, as `openssl req -x509` makes it.
pub(crate) fn self_signed(names: &[&str]) -> Issued {
    let mut parameters = parameters(names);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    Issued { certificate: parameters.self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() }
}

impl Issued {
    /// Writes both into a folder: certificate and key.
    pub(crate) fn store(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
        std::fs::write(&certificate, &self.certificate).expect("written");
        std::fs::write(&key, &self.key).expect("written");
        (certificate, key)
    }
}
