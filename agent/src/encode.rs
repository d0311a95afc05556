//! Text encodings that URLs, XML and node names need.

use std::fmt::Write as _;

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    out
}

/// Decodes percent-encoding; what is none stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = hex {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Escapes text for XML content.
pub(crate) fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Undoes [`xml`] and the two quotes.
pub(crate) fn xml_decode(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// A host as it stands in a URL: IPv6 addresses need brackets.
pub(crate) fn url_host(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delimiter_of_a_url_is_encoded() {
        assert_eq!(percent("p@ss:w/o?r#d%[]ü "), "p%40ss%3Aw%2Fo%3Fr%23d%25%5B%5D%C3%BC%20");
        assert_eq!(percent("aZ09-._~"), "aZ09-._~");
    }

    #[test]
    fn decoding_undoes_it_and_forgives() {
        assert_eq!(percent_decode(&percent("p@ss:ü%")), "p@ss:ü%");
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
        assert_eq!(percent_decode("%ü"), "%ü");
    }

    #[test]
    fn xml_round_trip() {
        let text = "a<b>&\"c'&lt;";
        assert_eq!(xml_decode(&xml(text)), text);
    }

    #[test]
    fn addresses_get_brackets() {
        assert_eq!(url_host("fd00::1"), "[fd00::1]");
        assert_eq!(url_host("redis"), "redis");
    }
}
