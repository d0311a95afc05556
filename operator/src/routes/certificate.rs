//! A certificate as a client is shown it.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What Traefik calls the certificate that it makes up where it has none for a host.
const DEFAULT: &str = "TRAEFIK DEFAULT CERT";
/// A certificate is renewed well before: with so much left somebody should look, or with a sixth of its time where that
/// is less.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A certificate, as far as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Common name of its issuer, or the whole name.
    pub issuer: String,
    /// Host names, `*.` included.
    pub names: Vec<String>,
    /// Traefik made it up.
    pub is_default: bool,
    /// Valid from.
    pub from: Timestamp,
    /// Valid until.
    pub until: Timestamp,
}

impl Certificate {
    /// Reads DER; `None` where it isn't a certificate.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let common = |name: &x509_parser::x509::X509Name<'_>| {
            let first = name.iter_common_name().next().and_then(|it| it.as_str().ok());
            first.map_or_else(|| name.to_string(), str::to_owned)
        };
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let validity = certificate.validity();
        Some(Self {
            issuer: common(certificate.issuer()),
            names: names.collect(),
            is_default: common(certificate.subject()) == DEFAULT,
            from: time(validity.not_before)?,
            until: time(validity.not_after)?,
        })
    }

    /// It is for this host.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = |name: &str| {
            let (suffix, parent) = (name.strip_prefix("*."), host.split_once('.').map(|(_, parent)| parent));
            suffix.is_some_and(|suffix| parent.is_some_and(|parent| parent.eq_ignore_ascii_case(suffix)))
        };
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host) || wildcard(name))
    }

    /// It should have been renewed by now.
    #[must_use]
    pub fn expires_soon(&self, now: Timestamp) -> bool {
        let sixth = self.from.duration_until(self.until) / 6;
        now.duration_until(self.until) < SOON.min(sixth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
    use rstest::rstest;

    fn certificate(name: &str, hosts: &[&str]) -> Certificate {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_before = date_time_ymd(2026, 1, 1);
        parameters.not_after = date_time_ymd(2026, 4, 1);
        let key = KeyPair::generate().expect("a key");
        Certificate::read(parameters.self_signed(&key).expect("a certificate").der()).expect("it can be read")
    }

    #[test]
    fn what_people_read_of_it() {
        let it = certificate("An Authority", &["api.example.com", "*.example.org"]);
        assert_eq!((it.issuer.as_str(), it.is_default), ("An Authority", false));
        assert_eq!(it.until.to_string(), "2026-04-01T00:00:00Z");
        let hosts =
            ["api.example.com", "API.example.com", "x.example.org", "example.org", "x.y.example.org", "b.example.com"];
        assert_eq!(hosts.map(|host| it.covers(host)), [true, true, true, false, false, false]);
        assert!(certificate("TRAEFIK DEFAULT CERT", &[]).is_default);
        assert_eq!(Certificate::read(b"no certificate"), None);
    }

    #[rstest]
    #[case::fresh("2026-01-02T00:00:00Z", false)]
    #[case::with_a_month_left("2026-03-01T00:00:00Z", false)]
    #[case::with_fifteen_days_left("2026-03-17T00:00:00Z", false)]
    #[case::with_thirteen_days_left("2026-03-19T00:00:00Z", true)]
    #[case::gone("2026-05-01T00:00:00Z", true)]
    fn it_is_told_in_time(#[case] now: &str, #[case] soon: bool) {
        assert_eq!(certificate("x", &[]).expires_soon(now.parse().expect("a time")), soon);
    }
}
