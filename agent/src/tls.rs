//! TLS to PostgreSQL and Redis: what is checked, against which roots, and errors that say what is wrong.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

/// What of the server's certificate must be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing: encrypted, to whomever.
    Nothing,
    /// It comes from a CA that is trusted.
    Chain,
    /// And it is for this host.
    ChainAndName,
}

/// Why there is no encrypted connection, or none without encryption.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TlsError {
    /// Signed by none of the roots, or not valid for another reason.
    #[error("the server's certificate is not trusted: {0}")]
    NotTrusted(String),
    /// Trusted, but somebody else's.
    #[error(
        "the server's certificate is not for {expected}; it names {}",
        if presented.is_empty() { "nobody (it has no subjectAltName)".to_owned() } else { presented.join(", ") }
    )]
    WrongName {
        /// The host that was asked for.
        expected: String,
        /// What the certificate says.
        presented: Vec<String>,
    },
    /// The server speaks plain text only.
    #[error("TLS is asked for, but the server offers none")]
    NotOffered,
    /// The server does not go on without TLS.
    #[error("the server wants TLS: {0}")]
    Wanted(String),
    /// Any other failure of the handshake.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
    /// A mode that checks, and nothing to check against.
    #[error("the server's certificate is to be checked, but the CA file {0} is absent or empty")]
    NoCa(PathBuf),
    /// The file is there and of no use.
    #[error("the CA file {path} cannot be used: {reason}")]
    BadCa {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl TlsError {
    /// One word for programs, as reports have it: the configuration is wrong, or the server.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoCa(_) | Self::BadCa { .. } => "ConfigInvalid",
            _ => "TlsFailed",
        }
    }

    /// Finds what TLS said among an error's causes.
    pub(crate) fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<rustls::Error>() {
                return Some(found.into());
            }
            // An `io::Error` is transparent: its source is that of the error in it. So is an
            // `Arc`, in which the Redis library keeps its causes.
            next = if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
                Some(&**shared)
            } else if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
                Some(inner)
            } else {
                error.source()
            };
        }
        None
    }
}

impl From<&rustls::Error> for TlsError {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::NotValidForNameContext { expected, presented } => Self::WrongName {
                    expected: expected.to_str().into_owned(),
                    presented: presented.iter().map(|name| plain_name(name)).collect(),
                },
                CertificateError::UnknownIssuer => Self::NotTrusted("no CA that is trusted has signed it".to_owned()),
                CertificateError::Other(other) if is(other, "UnsupportedCertVersion") => Self::NotTrusted(
                    "it is of X.509 version 1, which has no subjectAltName; version 3 is needed".to_owned(),
                ),
                CertificateError::Other(other) if is(other, "CaUsedAsEndEntity") => {
                    Self::NotTrusted("it is a CA's own, and the CA file doesn't hold this very certificate".to_owned())
                }
                other => Self::NotTrusted(other.to_string()),
            },
            // Plain text where a TLS record should begin.
            rustls::Error::InvalidMessage(_) => Self::NotOffered,
            rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired) => {
                Self::Handshake("the server asks for a client certificate, which is not supported".to_owned())
            }
            other => Self::Handshake(other.to_string()),
        }
    }
}

/// `DnsName("db.example.org")` and the like, without its dressing.
fn plain_name(name: &str) -> String {
    name.split('"').nth(1).unwrap_or(name).to_owned()
}

/// rustls hands webpki's rarer errors on without their type.
fn is(error: &rustls::OtherError, name: &str) -> bool {
    format!("{:?}", error.0) == name
}

/// The certificates in a CA file; `None` where it is absent or blank.
///
/// # Errors
/// When it cannot be read or holds no certificate.
pub(crate) fn certificates(path: &Path) -> Result<Option<Vec<CertificateDer<'static>>>, TlsError> {
    let bad = |reason: String| TlsError::BadCa { path: path.to_owned(), reason };
    let pem = match std::fs::read(path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(error.to_string())),
    };
    if pem.trim_ascii().is_empty() {
        return Ok(None);
    }
    let found = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(format!("it is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(bad("it holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
    if usable == 0 {
        return Err(bad("no certificate in it can be read".to_owned()));
    }
    Ok(Some(found))
}

/// The certificates of the file, for a check that has no other roots.
///
/// # Errors
/// When there are none.
pub(crate) fn required_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(path)?.ok_or_else(|| TlsError::NoCa(path.to_owned()))
}

/// What public servers are checked against: Mozilla's roots, which are built in because
/// the image that the agent comes in has none, and those of the image that it runs in.
pub(crate) fn public_certificates() -> Vec<CertificateDer<'static>> {
    let mut roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec();
    roots.extend(rustls_native_certs::load_native_certs().certs);
    roots
}

/// A client that checks this much against these roots.
pub(crate) fn client(check: Check, roots: Vec<CertificateDer<'static>>) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new(check, roots, &provider);
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

/// rustls' own checks, of which a mode may want fewer.
#[derive(Debug)]
struct Verifier {
    check: Check,
    store: RootCertStore,
    roots: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(check: Check, roots: Vec<CertificateDer<'static>>, provider: &CryptoProvider) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        Self { check, store, roots, algorithms: provider.signature_verification_algorithms }
    }

    fn chain(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let algorithms = self.algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(parsed, &self.store, intermediates, now, algorithms) {
            // A server's self-signed certificate as its own CA, as PostgreSQL's manual makes it:
            // OpenSSL takes it, webpki doesn't. It has looked at the dates before it says so.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if is(&other, "CaUsedAsEndEntity") && self.roots.contains(certificate) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check != Check::Nothing {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            self.chain(end_entity, &parsed, intermediates, now)?;
            if self.check == Check::ChainAndName {
                verify_server_name(&parsed, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Of a certificate that may be anybody's the signature proves nothing.
        if self.check == Check::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, content).expect("written");
        (folder, path)
    }

    #[test]
    fn absent_and_blank_files_hold_no_ca() {
        let (_folder, blank) = file(" \n");
        assert_eq!(certificates(&blank), Ok(None));
        assert_eq!(certificates(Path::new("/nonexistent/ca")), Ok(None));
        assert_eq!(required_certificates(&blank), Err(TlsError::NoCa(blank.clone())));
    }

    const BROKEN: &str = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    const EMPTY: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn what_is_no_certificate_is_said() {
        for content in ["hello", BROKEN, EMPTY] {
            let (_folder, path) = file(content);
            let error = certificates(&path).expect_err(content);
            assert!(error.reason() == "ConfigInvalid" && error.to_string().contains("ca.crt"), "{error}");
        }
    }

    #[test]
    fn the_public_roots_are_built_in_and_all_usable() {
        let mut store = RootCertStore::empty();
        let (usable, useless) = store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec());
        assert!(usable > 100 && useless == 0, "{usable} {useless}");
    }

    #[test]
    fn the_cause_is_found_wherever_it_stands() {
        let cause = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = std::io::Error::other(std::io::Error::other(cause));
        let found = TlsError::find(&error);
        assert!(matches!(found, Some(TlsError::NotTrusted(_))), "{found:?}");
        assert_eq!(TlsError::find(&std::io::Error::other("x")), None);
    }
}
