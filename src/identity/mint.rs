//! Keys for new records.

use sha2::{Digest, Sha256};

use crate::model::{EntityName, RecordKey, StoreName, StoreRecordId};

/// Letters and digits that are not taken for one another.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The key of the record that is made from a row: the same whenever it is asked for.
pub fn minted(entity: &EntityName, store: &StoreName, id: &StoreRecordId) -> RecordKey {
    key_of(&serde_json::json!(["row", entity.as_str(), store.as_str(), id.0]))
}

/// The key of the record that is made from an element of a parent: the same in every store. `again` tells records apart that began with the
/// same value.
pub(super) fn minted_element(
    entity: &EntityName,
    parent: &RecordKey,
    kind: &str,
    normal: &str,
    again: u8,
) -> RecordKey {
    key_of(&serde_json::json!(["element", entity.as_str(), parent, kind, normal, again]))
}

/// Eighty bits of a hash, in four groups of four letters.
fn key_of(meaning: &serde_json::Value) -> RecordKey {
    let hash = Sha256::digest(meaning.to_string().as_bytes());
    let mut text = String::with_capacity(19);
    let mut bits: u32 = 0;
    let mut held = 0;
    let mut letters = 0;
    for byte in hash.iter().take(10) {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            if letters > 0 && letters % 4 == 0 {
                text.push('-');
            }
            let letter = LETTERS.get(((bits >> held) & 31) as usize).copied().unwrap_or(b'0');
            text.push(char::from(letter));
            letters += 1;
        }
    }
    RecordKey::new(vec![text])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_given_the_same_key_every_time() {
        let (entity, store) =
            (EntityName::new("people").expect("a name"), StoreName::new("crm").expect("a name"));
        let of = |id: &str| minted(&entity, &store, &StoreRecordId(id.to_owned()));
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        let text = of("a").parts()[0].clone();
        assert_eq!((text.len(), text.matches('-').count()), (19, 3), "{text}");
    }
}
