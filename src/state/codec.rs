//! How memories and keys are written into a state: small, and in the order of keys.
//!
//! A record is remembered once for every store, and nearly always the stores agree. So one shadow (the one with the most
//! fields) is written in full, and the others say where they differ from it. Names that come again in every record (stores,
//! the fields of an entity with their mapping tags) stand once in a dictionary that the state keeps beside the records.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Cell, FieldName, FieldShadow, MappingTag, Memory, RecordKey, Shadow, StoreName, StoreRecordId, SyncMeta,
    SyncStatus, Timestamp, Value, Version,
};

mod bytes;
mod value;

use bytes::{Reader, put_bytes, put_signed, put_varint};

/// The format's number, the first byte of every memory.
const FORMAT: u8 = 1;

/// Names beyond this many are written out where they stand: applications may put anything into `last_updated_by`, and the
/// dictionary is held in memory.
const NAMES_AT_MOST: usize = 10_000;

/// What was read is no memory that this program wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of the state cannot be read")]
pub struct BadRecord;

type Layout = Arc<Vec<(FieldName, MappingTag)>>;

/// Names by number, in the order they were first met.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    names: Vec<String>,
    ids: BTreeMap<String, usize>,
    layouts: BTreeMap<usize, Layout>,
}

impl Dictionary {
    /// How many names there are; the next one gets this number.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names from a number on.
    pub fn since(&self, id: usize) -> &[String] {
        self.names.get(id..).unwrap_or_default()
    }

    /// Adds a name as the next number.
    pub fn push(&mut self, name: String) {
        self.ids.insert(name.clone(), self.names.len());
        self.names.push(name);
    }

    /// Forgets the names from a number on.
    pub fn truncate(&mut self, len: usize) {
        for name in self.names.drain(len.min(self.names.len())..) {
            self.ids.remove(&name);
        }
        self.layouts.retain(|id, _| *id < len);
    }

    fn intern(&mut self, name: &str) -> usize {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.push(name.to_owned());
        self.names.len() - 1
    }

    fn name(&self, id: usize) -> Result<&str, BadRecord> {
        self.names.get(id).map(String::as_str).ok_or(BadRecord)
    }

    fn intern_layout(&mut self, shadow: &Shadow) -> usize {
        let layout: Vec<(&str, u32)> =
            shadow.fields.iter().map(|(name, field)| (name.as_str(), field.tag.0)).collect();
        self.intern(&serde_json::to_string(&layout).unwrap_or_default())
    }

    fn layout(&mut self, id: usize) -> Result<Layout, BadRecord> {
        if let Some(layout) = self.layouts.get(&id) {
            return Ok(Arc::clone(layout));
        }
        let layout: Vec<(FieldName, MappingTag)> =
            serde_json::from_str(self.name(id)?).map_err(|_| BadRecord)?;
        let layout = Arc::new(layout);
        self.layouts.insert(id, Arc::clone(&layout));
        Ok(layout)
    }
}

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

/// A memory as bytes.
pub fn encode(memory: &Memory, dictionary: &mut Dictionary) -> Vec<u8> {
    let mut out = vec![FORMAT];
    // The fullest shadow first; of equals the first by name, so that equal memories are equal bytes.
    let fullest =
        memory.stores.iter().max_by(|a, b| a.1.fields.len().cmp(&b.1.fields.len()).then(b.0.cmp(a.0)));
    let Some((base_name, base)) = fullest else { return out };
    put_shadow(&mut out, base_name, base, None, dictionary);
    for (name, shadow) in memory.stores.iter().filter(|(name, _)| *name != base_name) {
        put_shadow(&mut out, name, shadow, Some(base), dictionary);
    }
    out
}

/// A memory from its bytes.
pub fn decode(bytes: &[u8], dictionary: &mut Dictionary) -> Result<Memory, BadRecord> {
    let mut input = Reader::new(bytes);
    if input.byte()? != FORMAT {
        return Err(BadRecord);
    }
    let mut memory = Memory::default();
    let mut base: Option<StoreName> = None;
    while !input.is_empty() {
        let (name, shadow) = {
            let base = base.as_ref().and_then(|name| memory.stores.get(name));
            take_shadow(&mut input, base, dictionary)?
        };
        base.get_or_insert_with(|| name.clone());
        memory.stores.insert(name, shadow);
    }
    Ok(memory)
}

// What a shadow says of itself in its first byte.
const PRESENT: u8 = 1;
const HAS_STORE_ID: u8 = 1 << 1;
const HAS_UPDATED: u8 = 1 << 2;
const META_OF_BASE: u8 = 1 << 3;
const UPDATED_OF_BASE: u8 = 1 << 4;
/// All fields hold what the base holds, and stand for it.
const FIELDS_OF_BASE: u8 = 1 << 5;
/// All fields have the version that they have in the base.
const VERSIONS_OF_BASE: u8 = 1 << 6;
/// All fields stand for what they hold, readable and sure.
const PLAIN: u8 = 1 << 7;

// What a field says of itself, unless its shadow says it for all.
const HELD_OF_BASE: u8 = 1;
const UNREADABLE: u8 = 1 << 1;
const STANDS_FOR: u8 = 1 << 2;
const STANDS_FOR_BASE: u8 = 1 << 3;
const OTHER_VERSION: u8 = 1 << 4;
const UNSURE: u8 = 1 << 5;

fn is_plain(field: &FieldShadow) -> bool {
    field.stands_for.is_none() && !field.unsure && field.held.value().is_some()
}

fn put_shadow(
    out: &mut Vec<u8>,
    name: &StoreName,
    shadow: &Shadow,
    base: Option<&Shadow>,
    dictionary: &mut Dictionary,
) {
    let of_base = |name: &FieldName| base.and_then(|base| base.fields.get(name));
    let same = |name: &FieldName, field: &FieldShadow| {
        is_plain(field) && of_base(name).is_some_and(|base| base.held == field.held)
    };
    let all = |test: &dyn Fn(&FieldName, &FieldShadow) -> bool| shadow.fields.iter().all(|(n, f)| test(n, f));
    let common = common_version(shadow);
    let fields_of_base = base.is_some() && all(&same);
    let versions_of_base =
        base.is_some() && all(&|name, field| of_base(name).is_some_and(|base| base.version == field.version));
    let versions_settled = versions_of_base || all(&|_, field| field.version == common);
    let plain = !fields_of_base && versions_settled && all(&|_, field| is_plain(field));
    let meta_of_base = base.is_some_and(|base| base.meta == shadow.meta);
    let updated_of_base = shadow.updated.is_some() && base.is_some_and(|base| base.updated == shadow.updated);
    let settled = fields_of_base && versions_settled;
    let flags = [
        (PRESENT, shadow.present),
        (HAS_STORE_ID, shadow.store_id.is_some()),
        (HAS_UPDATED, shadow.updated.is_some() && !updated_of_base),
        (META_OF_BASE, meta_of_base),
        (UPDATED_OF_BASE, updated_of_base),
        (FIELDS_OF_BASE, settled),
        (VERSIONS_OF_BASE, versions_of_base),
        (PLAIN, plain),
    ];
    put_varint(out, dictionary.intern(name.as_str()) as u64);
    out.push(flags.iter().filter(|(_, on)| *on).fold(0, |sum, (flag, _)| sum | flag));
    if let Some(id) = &shadow.store_id {
        put_bytes(out, id.0.as_bytes());
    }
    if let Some(updated) = shadow.updated.filter(|_| !updated_of_base) {
        put_signed(out, updated.micros());
    }
    if !meta_of_base {
        put_meta(out, &shadow.meta, dictionary);
    }
    put_varint(out, dictionary.intern_layout(shadow) as u64);
    if !versions_of_base {
        put_signed(out, common.0);
    }
    for (name, field) in &shadow.fields {
        if plain {
            value::put(out, field.held.value().unwrap_or(&Value::Null));
        } else if !settled {
            let version = if versions_of_base { field.version } else { common };
            put_field(out, field, of_base(name), version, dictionary);
        }
    }
}

/// The version that most fields have; of equally many the highest.
fn common_version(shadow: &Shadow) -> Version {
    let mut counts: BTreeMap<Version, usize> = BTreeMap::new();
    for field in shadow.fields.values() {
        *counts.entry(field.version).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(version, count)| (*count, *version)).map_or(Version::NONE, |(v, _)| v)
}

fn put_field(
    out: &mut Vec<u8>,
    field: &FieldShadow,
    base: Option<&FieldShadow>,
    expected: Version,
    dictionary: &mut Dictionary,
) {
    let base_held = base.and_then(|base| base.held.value());
    let held = field.held.value();
    let held_of_base = held.is_some() && held == base_held;
    let stands_for_base = field.stands_for.is_some() && field.stands_for.as_ref() == base_held;
    let flags = [
        (HELD_OF_BASE, held_of_base),
        (UNREADABLE, held.is_none()),
        (STANDS_FOR, field.stands_for.is_some() && !stands_for_base),
        (STANDS_FOR_BASE, stands_for_base),
        (OTHER_VERSION, field.version != expected),
        (UNSURE, field.unsure),
    ];
    out.push(flags.iter().filter(|(_, on)| *on).fold(0, |sum, (flag, _)| sum | flag));
    match &field.held {
        Cell::Value(_) if held_of_base => {}
        Cell::Value(held) => value::put(out, held),
        Cell::Unreadable { why, fingerprint } => {
            out.extend(fingerprint.to_le_bytes());
            put_name(out, why, dictionary);
        }
    }
    if let Some(value) = field.stands_for.as_ref().filter(|_| !stands_for_base) {
        value::put(out, value);
    }
    if field.version != expected {
        put_signed(out, field.version.0);
    }
}

/// A name by its number, counted from one; nought before a name that is written out.
fn put_name(out: &mut Vec<u8>, name: &str, dictionary: &mut Dictionary) {
    if dictionary.len() < NAMES_AT_MOST || dictionary.ids.contains_key(name) {
        put_varint(out, dictionary.intern(name) as u64 + 1);
    } else {
        put_varint(out, 0);
        put_bytes(out, name.as_bytes());
    }
}

fn take_name(input: &mut Reader<'_>, dictionary: &Dictionary) -> Result<String, BadRecord> {
    match input.length()?.checked_sub(1) {
        Some(id) => dictionary.name(id).map(str::to_owned),
        None => input.text(),
    }
}

const HAS_VERSION: u8 = 1;
const HAS_TIME: u8 = 1 << 1;
const HAS_BY: u8 = 1 << 2;
const HAS_SOURCES: u8 = 1 << 3;
const HAS_ERRORS: u8 = 1 << 4;
const STATUS_SHIFT: u8 = 5;

fn put_meta(out: &mut Vec<u8>, meta: &SyncMeta, dictionary: &mut Dictionary) {
    let status = match meta.sync_status {
        None => 0,
        Some(SyncStatus::Synced) => 1,
        Some(SyncStatus::Pending) => 2,
        Some(SyncStatus::Conflict) => 3_u8,
    };
    let flags = [
        (HAS_VERSION, meta.version.is_some()),
        (HAS_TIME, meta.last_updated.is_some()),
        (HAS_BY, meta.last_updated_by.is_some()),
        (HAS_SOURCES, !meta.source_systems.is_empty()),
        (HAS_ERRORS, !meta.sync_errors.is_empty()),
    ];
    out.push(flags.iter().filter(|(_, on)| *on).fold(status << STATUS_SHIFT, |sum, (flag, _)| sum | flag));
    if let Some(version) = meta.version {
        put_signed(out, version.0);
    }
    if let Some(time) = meta.last_updated {
        put_signed(out, time.micros());
    }
    if let Some(by) = &meta.last_updated_by {
        put_name(out, by, dictionary);
    }
    if !meta.source_systems.is_empty() {
        put_varint(out, meta.source_systems.len() as u64);
        for source in &meta.source_systems {
            put_name(out, source, dictionary);
        }
    }
    if !meta.sync_errors.is_empty() {
        put_bytes(out, &serde_json::to_vec(&meta.sync_errors).unwrap_or_default());
    }
}

fn take_meta(input: &mut Reader<'_>, dictionary: &Dictionary) -> Result<SyncMeta, BadRecord> {
    let flags = input.byte()?;
    let has = |flag| flags & flag != 0;
    let mut meta = SyncMeta {
        sync_status: match flags >> STATUS_SHIFT {
            0 => None,
            1 => Some(SyncStatus::Synced),
            2 => Some(SyncStatus::Pending),
            3 => Some(SyncStatus::Conflict),
            _ => return Err(BadRecord),
        },
        ..SyncMeta::default()
    };
    if has(HAS_VERSION) {
        meta.version = Some(Version(input.signed()?));
    }
    if has(HAS_TIME) {
        meta.last_updated = Some(take_time(input)?);
    }
    if has(HAS_BY) {
        meta.last_updated_by = Some(take_name(input, dictionary)?);
    }
    if has(HAS_SOURCES) {
        for _ in 0..input.length()? {
            meta.source_systems.push(take_name(input, dictionary)?);
        }
    }
    if has(HAS_ERRORS) {
        meta.sync_errors = serde_json::from_slice(input.bytes()?).map_err(|_| BadRecord)?;
    }
    Ok(meta)
}

fn take_time(input: &mut Reader<'_>) -> Result<Timestamp, BadRecord> {
    Timestamp::from_micros(input.signed()?).ok_or(BadRecord)
}

fn take_shadow(
    input: &mut Reader<'_>,
    base: Option<&Shadow>,
    dictionary: &mut Dictionary,
) -> Result<(StoreName, Shadow), BadRecord> {
    let name = StoreName::new(dictionary.name(input.length()?)?).map_err(|_| BadRecord)?;
    let flags = input.byte()?;
    let has = |flag| flags & flag != 0;
    let mut shadow = Shadow { present: has(PRESENT), ..Shadow::default() };
    if has(HAS_STORE_ID) {
        shadow.store_id = Some(StoreRecordId(input.text()?));
    }
    if has(HAS_UPDATED) {
        shadow.updated = Some(take_time(input)?);
    } else if has(UPDATED_OF_BASE) {
        shadow.updated = base.ok_or(BadRecord)?.updated;
    }
    shadow.meta =
        if has(META_OF_BASE) { base.ok_or(BadRecord)?.meta.clone() } else { take_meta(input, dictionary)? };
    let layout = input.length()?;
    let layout = dictionary.layout(layout)?;
    let common = if has(VERSIONS_OF_BASE) { None } else { Some(Version(input.signed()?)) };
    let mut fields = Vec::with_capacity(layout.len());
    for (name, tag) in layout.iter() {
        let of_base = base.and_then(|base| base.fields.get(name));
        let version = match common {
            Some(version) => version,
            None => of_base.ok_or(BadRecord)?.version,
        };
        let field = if has(FIELDS_OF_BASE) {
            let held = of_base.ok_or(BadRecord)?.held.clone();
            FieldShadow { held, stands_for: None, version, tag: *tag, unsure: false }
        } else if has(PLAIN) {
            let held = Cell::Value(value::take(input)?);
            FieldShadow { held, stands_for: None, version, tag: *tag, unsure: false }
        } else {
            take_field(input, of_base, version, *tag, dictionary)?
        };
        fields.push((name.clone(), field));
    }
    shadow.fields = fields.into_iter().collect();
    Ok((name, shadow))
}

fn take_field(
    input: &mut Reader<'_>,
    base: Option<&FieldShadow>,
    expected: Version,
    tag: MappingTag,
    dictionary: &Dictionary,
) -> Result<FieldShadow, BadRecord> {
    let flags = input.byte()?;
    let has = |flag| flags & flag != 0;
    let base_held = || base.and_then(|base| base.held.value()).cloned().ok_or(BadRecord);
    let held = if has(HELD_OF_BASE) {
        Cell::Value(base_held()?)
    } else if has(UNREADABLE) {
        let fingerprint = input.fixed()?;
        Cell::Unreadable { fingerprint, why: take_name(input, dictionary)? }
    } else {
        Cell::Value(value::take(input)?)
    };
    let stands_for = match (has(STANDS_FOR), has(STANDS_FOR_BASE)) {
        (true, _) => Some(value::take(input)?),
        (_, true) => Some(base_held()?),
        _ => None,
    };
    let version = if has(OTHER_VERSION) { Version(input.signed()?) } else { expected };
    Ok(FieldShadow { held, stands_for, version, tag, unsure: has(UNSURE) })
}

#[cfg(test)]
mod tests;
