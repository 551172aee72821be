//! Typed identifiers: never bare strings.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text is no name: names are letters, digits, `_`, `-` and `.`, begin with a letter or `_`, and have
/// at most 128 characters. They become table columns, metric labels and addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use letters, digits, `_`, `-` and `.`, beginning with a letter or `_`")]
pub struct BadName(pub String);

fn check_name(text: &str) -> Result<(), BadName> {
    let mut chars = text.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let goes_on = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if begins && goes_on && text.len() <= 128 { Ok(()) } else { Err(BadName(text.to_owned())) }
}

/// All names, interned. They come from manifests, so there are few, and they are used for as long as the process lives. Each is stored
/// once and never freed: a copy costs nothing, and two names are equal when their addresses are.
static NAMES: RwLock<BTreeSet<Kept>> = RwLock::new(BTreeSet::new());

/// An interned name: a pointer to its text, half the size of a `&str`.
#[derive(Clone, Copy)]
struct Kept(&'static &'static str);

impl Kept {
    fn known(text: &str) -> Option<Self> {
        NAMES.read().unwrap_or_else(PoisonError::into_inner).get(text).copied()
    }

    fn new(text: &str) -> Self {
        Self::known(text).unwrap_or_else(|| {
            let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have been faster.
            names.get(text).copied().unwrap_or_else(|| {
                let text: &'static str = Box::leak(text.into());
                let name = Self(Box::leak(Box::new(text)));
                names.insert(name);
                name
            })
        })
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}
impl Eq for Kept {}

impl Borrow<str> for Kept {
    fn borrow(&self) -> &str {
        self.0
    }
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other { Ordering::Equal } else { self.0.cmp(other.0) }
    }
}
impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(Kept);

        impl $name {
            /// Interns a text as a name. It is never freed: for texts that come from outside, such as a request, use
            /// [`Self::known`].
            ///
            /// # Errors
            /// [`BadName`] when the text has characters that a name may not have.
            pub fn new(text: impl AsRef<str>) -> Result<Self, BadName> {
                check_name(text.as_ref())?;
                Ok(Self(Kept::new(text.as_ref())))
            }

            /// The name of this text, if it has been interned; none when no manifest has such a name.
            pub fn known(text: &str) -> Option<Self> {
                Kept::known(text).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }
    };
}

name! {
    /// The name of a store, as its manifest gives it.
    StoreName
}
name! {
    /// The name of an entity, as its manifest gives it.
    EntityName
}
name! {
    /// The name of a field of an entity, key fields included.
    FieldName
}

/// A field's place in its [`super::Entity::fields`]. It holds for one compiled spec only: what is kept (state,
/// plan files) is written with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u16);

impl FieldId {
    /// The place as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A record's key in canonical form: each part as text, in the order the entity declares. Keys are ordered by
/// the bytes of their parts, which is the order every snapshot comes in. Copies share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordKey(Arc<[String]>);

impl RecordKey {
    /// A key of these parts.
    pub fn new(parts: Vec<String>) -> Self {
        Self(parts.into())
    }

    /// The parts, in the order of the entity's key.
    pub fn parts(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for RecordKey {
    /// `"C000127"`, or `"C000127", "SSAF"` for a composite key; quotes and control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", serde_json::Value::from(part.as_str()))?;
        }
        Ok(())
    }
}

/// One record of one entity; displayed as its address, `contacts["C000127"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// The record's entity.
    pub entity: EntityName,
    /// The record's key.
    pub key: RecordKey,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.entity, self.key)
    }
}

/// A store's own id of a record (a `SQLite` rowid, Twenty's uuid), opaque to everything but that store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreRecordId(pub String);

impl StoreRecordId {
    /// The id that a record's row is made with in a store that lets its ids be chosen: it follows from the record, so that a second try makes
    /// the same row, and a row that was made and forgotten is known again. A UUID of version 8.
    pub fn chosen(store: &StoreName, entity: &EntityName, key: &RecordKey) -> Self {
        let meaning = serde_json::json!([store.as_str(), entity.as_str(), key]);
        let hash = Sha256::digest(meaning.to_string().as_bytes());
        let mut bytes = [0_u8; 16];
        bytes.iter_mut().zip(hash.iter()).for_each(|(to, from)| *to = *from);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let text = hex(&bytes);
        Self(format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]))
    }
}

/// A record's version: 0 stands for a record that was never versioned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub i64);

impl Version {
    /// The version of a record that was never versioned.
    pub const NONE: Self = Self(0);

    /// The version after this one; it stays at the top of the range instead of wrapping.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident($text:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $text);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// The id of a conflict, made from its content, so that writing it twice writes it once.
    ConflictId(String)
}
text_id! {
    /// The id of a batch of writes: `<pass>-<number>`, unique within a state.
    BatchId(Arc<str>)
}
text_id! {
    /// The id of one intended write: `<batch>-<number>`.
    IntentId(Arc<str>)
}
text_id! {
    /// The id that a state file was born with; a copy of the file has the same one.
    StateId(String)
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Feeds whatever hashes itself to SHA-256.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

/// Sixteen hexadecimal digits of a hash over a value: enough to tell apart whatever one controller ever sees.
pub fn fingerprint_of(value: &impl Hash) -> String {
    let mut hasher = Fingerprint(Sha256::new());
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Sixteen hexadecimal digits of a hash over a text: enough to tell apart whatever one controller ever sees.
pub fn fingerprint(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use super::{EntityName, FieldName, StoreName};

    #[test]
    fn one_text_is_one_name_whoever_makes_it() {
        let made: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| StoreName::new("of_several_threads").expect("a name")))
            .collect();
        let here = StoreName::new(String::from("of_several_threads")).expect("a name");
        for made in made {
            assert_eq!(made.join().expect("no panic"), here);
        }
        let mut names = ["b", "a_longer_one", "a"].map(|name| FieldName::new(name).expect("a name"));
        names.sort();
        assert_eq!(
            names.map(|name| name.to_string()),
            ["a", "a_longer_one", "b"],
            "in the order of their texts"
        );
    }

    #[test]
    fn asking_for_a_name_makes_none() {
        assert_eq!(EntityName::known("nobody_named_this"), None);
        assert_eq!(EntityName::known("nobody_named_this"), None);
        let named = EntityName::new("somebody_named_this").expect("a name");
        assert_eq!(EntityName::known("somebody_named_this"), Some(named));
        assert!(EntityName::new("no name").is_err());
    }
}
