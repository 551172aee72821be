//! How memories, keys and intents are written into a state: small, and in the order of keys.
//!
//! A record is remembered once for every store, and nearly always the stores agree. So one shadow (the one with the most
//! fields) is written in full, and the others say where they differ from it. Names that come again in every record (stores,
//! the fields of an entity with their mapping tags) stand once in a dictionary that the state keeps beside the records.
//!
//! A value has one text here, so shadows can be told apart and put together without making values of their bytes.

use std::borrow::Cow;

use crate::model::{Memory, RecordKey, Shadow, StoreName};

mod bytes;
mod content;
mod dictionary;
mod intent;
mod meta;
mod row;
mod shadow;
mod squeeze;
mod value;

pub use dictionary::Dictionary;
pub use intent::{Head, heads_from_bytes, heads_to_bytes, intents_from_bytes, intents_to_bytes};
pub use row::{put_row, take_row};

use content::Numbered;
use shadow::{Raw, pack, unpack};
use squeeze::{squeeze, unsqueeze};

/// What was read is no memory that this program wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of the state cannot be read")]
pub struct BadRecord;

/// A key as bytes whose order is the order of keys: within a part a NUL is `00 FF`, and `00 01`, which is below any byte
/// that a part can go on with, ends each part.
pub fn key_to_bytes(key: &RecordKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.parts().iter().map(|part| part.len() + 2).sum());
    for part in key.parts() {
        for byte in part.bytes() {
            bytes.push(byte);
            if byte == 0 {
                bytes.push(0xff);
            }
        }
        bytes.extend([0, 1]);
    }
    bytes
}

/// A key from its bytes.
pub fn key_from_bytes(bytes: &[u8]) -> Result<RecordKey, BadRecord> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, if byte == 0 { bytes.next() } else { None }) {
            (0, Some(0xff)) => part.push(0),
            (0, Some(1)) => parts.push(String::from_utf8(std::mem::take(&mut part)).map_err(|_| BadRecord)?),
            (0, _) => return Err(BadRecord),
            (byte, _) => part.push(byte),
        }
    }
    if part.is_empty() { Ok(RecordKey::new(parts)) } else { Err(BadRecord) }
}

/// Some shadows of a record, written down but not yet made small: what a change sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadows(Vec<u8>);

impl Shadows {
    /// Writes shadows down. Of several of one store the last one counts.
    pub fn new<'s>(
        shadows: impl IntoIterator<Item = (&'s StoreName, &'s Shadow)>,
        dictionary: &mut Dictionary,
    ) -> Self {
        let shadows: std::collections::BTreeMap<_, _> = shadows.into_iter().collect();
        Self(pack_shadows(shadows, dictionary))
    }
}

/// The bytes of shadows, which come in the order of their stores' names.
fn pack_shadows<'s>(
    shadows: impl IntoIterator<Item = (&'s StoreName, &'s Shadow)>,
    dictionary: &mut Dictionary,
) -> Vec<u8> {
    let numbered = shadows.into_iter().map(|(store, shadow)| Numbered::new(store, shadow, dictionary));
    pack(&numbered.collect::<Vec<_>>(), dictionary)
}

/// A memory as bytes that were not made small: for what is soon read again.
pub fn spell(memory: &Memory, dictionary: &mut Dictionary) -> Vec<u8> {
    pack_shadows(&memory.stores, dictionary)
}

/// A memory as bytes.
pub fn encode(memory: &Memory, dictionary: &mut Dictionary) -> Vec<u8> {
    squeeze(&spell(memory, dictionary))
}

/// A memory from its bytes.
pub fn decode(bytes: &[u8], dictionary: &mut Dictionary) -> Result<Memory, BadRecord> {
    read(&unsqueeze(bytes)?, dictionary)
}

/// The stores that a memory says have the record, from its bytes.
pub fn places(bytes: &[u8], dictionary: &mut Dictionary) -> Result<Vec<StoreName>, BadRecord> {
    let bytes = unsqueeze(bytes)?;
    let raws = unpack(&bytes, dictionary)?;
    raws.iter().filter(|raw| raw.present).map(|raw| raw.name(dictionary)).collect()
}

/// A memory from bytes that were not made small.
pub fn read(bytes: &[u8], dictionary: &mut Dictionary) -> Result<Memory, BadRecord> {
    let mut memory = Memory::default();
    let raws = unpack(bytes, dictionary)?;
    for raw in &raws {
        let base = raws.first().filter(|base| base.store != raw.store);
        let shadow = {
            let known = base.and_then(|base| dictionary.name(base.store).ok());
            let known = known.and_then(|name| StoreName::new(name).ok());
            let known = known.and_then(|name| memory.stores.get(&name));
            raw.shadow(base.zip(known), dictionary)?
        };
        memory.stores.insert(raw.name(dictionary)?, shadow);
    }
    Ok(memory)
}

/// A memory's bytes once some shadows are set and then some forgotten; none: nothing is left of it.
pub fn change(
    old: Option<&[u8]>,
    set: &Shadows,
    forget: &[StoreName],
    dictionary: &mut Dictionary,
) -> Result<Option<Vec<u8>>, BadRecord> {
    if old.is_none() && forget.is_empty() {
        return Ok(Some(squeeze(&set.0)).filter(|_| !set.0.is_empty()));
    }
    let old = old.map_or(Ok(Cow::Borrowed(&[][..])), unsqueeze)?;
    let set = unpack(&set.0, dictionary)?;
    let mut kept: Vec<Raw<'_>> = unpack(&old, dictionary)?;
    kept.retain(|raw| set.iter().all(|new| new.store != raw.store));
    kept.extend(set);
    let mut named = Vec::with_capacity(kept.len());
    for raw in kept {
        let name = raw.name(dictionary)?;
        if !forget.contains(&name) {
            named.push((name, raw));
        }
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let raws: Vec<Raw<'_>> = named.into_iter().map(|(_, raw)| raw).collect();
    Ok((!raws.is_empty()).then(|| squeeze(&pack(&raws, dictionary))))
}

#[cfg(test)]
mod tests;
