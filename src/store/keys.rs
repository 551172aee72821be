//! Keys, counted and found by stretches: what a look at changes asks of a store.

use crate::model::RecordKey;

/// A key as one text, in the order of keys: U+0001 ends a part and comes before every other character; where it stands in a part,
/// it is followed by U+0002.
pub(super) fn joined(key: &RecordKey) -> String {
    match key.parts() {
        [one] => one.clone(),
        parts => {
            let ended = parts.iter().map(|part| part.replace('\u{1}', "\u{1}\u{2}") + "\u{1}\u{1}");
            ended.collect()
        }
    }
}

/// How many keys there are before, between and after some bounds.
pub(super) fn counts(keys: &[RecordKey], bounds: &[RecordKey]) -> Vec<u64> {
    let mut counts = vec![0; bounds.len() + 1];
    for key in keys {
        if let Some(count) = counts.get_mut(bounds.partition_point(|bound| bound <= key)) {
            *count += 1;
        }
    }
    counts
}

/// The keys from one (inclusive) to another (exclusive).
pub(super) fn between(
    keys: &[RecordKey],
    from: Option<&RecordKey>,
    to: Option<&RecordKey>,
) -> Vec<RecordKey> {
    let within = |key: &&RecordKey| from.is_none_or(|from| *key >= from) && to.is_none_or(|to| *key < to);
    keys.iter().filter(within).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_keys_are_in_the_order_of_keys() {
        let texts = ["", "a", "a\u{1}", "a\u{1}\u{1}", "a\u{2}", "aa", "b"];
        let mut keys: Vec<RecordKey> = texts
            .iter()
            .flat_map(|a| texts.map(|b| RecordKey::new(vec![(*a).to_owned(), b.to_owned()])))
            .collect();
        keys.sort();
        assert!(keys.is_sorted_by(|a, b| joined(a) < joined(b)));
    }
}
