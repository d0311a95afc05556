//! Names of artifacts: when the run began, and something that no other run has.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `20261128t030000z-k3x9qa`: sorts by time, and can be the name of a file, of a key in a bucket and of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Id(String);

const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
const RANDOM: usize = 6;
/// `20261128t030000z`.
const TIME: usize = 16;

impl Id {
    /// One of a run that begins now.
    pub(crate) fn new(now: Timestamp) -> Self {
        let random: String = (0..RANDOM).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())])).collect();
        Self(format!("{}-{random}", now.strftime("%Y%m%dt%H%M%Sz")))
    }
}

impl FromStr for Id {
    type Err = String;

    /// # Errors
    /// It is none: whatever else lies there isn't touched.
    fn from_str(text: &str) -> Result<Self, String> {
        let shape = |(place, byte): (usize, &u8)| match place {
            8 => *byte == b't',
            15 => *byte == b'z',
            TIME => *byte == b'-',
            _ if place < TIME => byte.is_ascii_digit(),
            _ => LETTERS.contains(byte),
        };
        let good = text.len() == TIME + 1 + RANDOM && text.as_bytes().iter().enumerate().all(shape);
        if good { Ok(Self(text.to_owned())) } else { Err(format!("{text:?} is no name of a backup")) }
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl Display for Id {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_time_and_is_no_others() {
        let now: Timestamp = "2026-11-28T03:00:00.9Z".parse().expect("a time");
        let (one, other) = (Id::new(now), Id::new(now));
        assert!(one.to_string().starts_with("20261128t030000z-") && one != other);
        assert_eq!(one.to_string().parse(), Ok(one));
        for wrong in ["", "lost+found", "20261128t030000z", "20261128t030000z-../..", "20261128t030000z-aaaaaaa"] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
    }
}
