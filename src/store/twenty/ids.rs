//! The ids that records are made with: chosen, so that a second try makes the same record, and finds it there.

use sha2::{Digest, Sha256};

use crate::model::{EntityName, RecordKey, StoreName};

/// A UUID (version 8) made of the store, the entity and the key.
pub(super) fn chosen(store: &StoreName, entity: &EntityName, key: &RecordKey) -> String {
    let mut hash = Sha256::new();
    for text in [store.as_str(), entity.as_str()].into_iter().chain(key.parts().iter().map(String::as_str)) {
        // With the length before it: `a, bc` is not `ab, c`.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    let mut bytes: Vec<u8> = hash.finalize().into_iter().take(16).collect();
    if let Some(version) = bytes.get_mut(6) {
        *version = (*version & 0x0f) | 0x80;
    }
    if let Some(variant) = bytes.get_mut(8) {
        *variant = (*variant & 0x3f) | 0x80;
    }
    let text = crate::model::hex(&bytes);
    let mut id = String::with_capacity(36);
    for (at, digit) in text.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}

/// Another one, for a record whose own is another record's by now.
pub(super) fn chosen_again(store: &StoreName, entity: &EntityName, key: &RecordKey) -> String {
    let again = key.parts().iter().cloned().chain(["again".to_owned()]);
    chosen(store, entity, &RecordKey::new(again.collect()))
}

/// Whether a text can be an id: other texts are not sent where one is wanted, for the server would fail.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_one_id() {
        let (store, entity) =
            (StoreName::new("crm").expect("a name"), EntityName::new("contacts").expect("a name"));
        let id = |parts: &[&str]| {
            chosen(&store, &entity, &RecordKey::new(parts.iter().map(|part| (*part).to_owned()).collect()))
        };
        assert_eq!(id(&["C1"]), id(&["C1"]));
        assert!(is_id(&id(&["C1"])) && !is_id("C1"));
        assert_eq!(&id(&["C1"])[14..15], "8");
        let all = [id(&["C1"]), id(&["C2"]), id(&["a", "bc"]), id(&["ab", "c"])];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }
}
