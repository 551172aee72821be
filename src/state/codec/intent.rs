//! Intents as bytes: those of one change together, for they resemble each other; and apart from them, in a few bytes each, how they
//! stand.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    BatchId, ByName, ByStore, Cell, EntityName, FieldName, Intent, IntentEnd, IntentId, IntentKind, RecordId,
    Shadow, StoreName, SyncMeta, Value,
};

use super::bytes::{Reader, put_bytes, put_varint, sum};
use super::meta::{put_meta, take_meta};
use super::squeeze::{squeeze, unsqueeze};
use super::{BadRecord, Dictionary, key_from_bytes, key_to_bytes, pack_shadows, read, value};

/// How an intent stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its id.
    pub id: IntentId,
    /// What it is to do.
    pub kind: IntentKind,
    /// How it ended; none: it has not.
    pub end: Option<IntentEnd>,
    /// Whether the same intent was noted again later: this one counts no more.
    pub replaced: bool,
}

impl Head {
    /// The head of an intent that was just noted.
    pub fn of(intent: &Intent) -> Self {
        Self { id: intent.id.clone(), kind: intent.kind, end: None, replaced: false }
    }

    /// Whether it has still to end.
    pub fn is_open(&self) -> bool {
        self.end.is_none() && !self.replaced
    }

    /// Whether its before-image is worth keeping. Before a create there was nothing.
    pub fn is_kept(&self) -> bool {
        self.end.is_some() && !self.replaced && self.kind != IntentKind::Create
    }
}

const REPLACED: u8 = 1 << 4;
const END_SHIFT: u8 = 2;

/// Heads as bytes. Ids differ from the one before in their last characters.
pub fn heads_to_bytes(heads: &[Head]) -> Vec<u8> {
    let mut out = Vec::with_capacity(heads.len() * 8);
    let mut last: &[u8] = &[];
    for head in heads {
        let id = head.id.0.as_bytes();
        let common = last.iter().zip(id).take_while(|(a, b)| a == b).count();
        put_varint(&mut out, common as u64);
        put_bytes(&mut out, id.get(common..).unwrap_or_default());
        let kind = match head.kind {
            IntentKind::Create => 0,
            IntentKind::Update => 1,
            IntentKind::Delete => 2_u8,
        };
        let end = match head.end {
            None => 0,
            Some(IntentEnd::Applied) => 1,
            Some(IntentEnd::NotApplied) => 2,
            Some(IntentEnd::Unresolved) => 3_u8,
        };
        out.push(kind | (end << END_SHIFT) | if head.replaced { REPLACED } else { 0 });
        last = id;
    }
    out
}

/// Heads from their bytes.
pub fn heads_from_bytes(bytes: &[u8]) -> Result<Vec<Head>, BadRecord> {
    let mut input = Reader::new(bytes);
    let mut heads: Vec<Head> = Vec::new();
    let mut id: Vec<u8> = Vec::new();
    while !input.is_empty() {
        let common = input.length()?;
        if common > id.len() {
            return Err(BadRecord);
        }
        id.truncate(common);
        id.extend(input.bytes()?);
        let byte = input.byte()?;
        heads.push(Head {
            id: IntentId(String::from_utf8(id.clone()).map_err(|_| BadRecord)?.into()),
            kind: match byte & 3 {
                0 => IntentKind::Create,
                1 => IntentKind::Update,
                2 => IntentKind::Delete,
                _ => return Err(BadRecord),
            },
            end: match (byte >> END_SHIFT) & 3 {
                0 => None,
                1 => Some(IntentEnd::Applied),
                2 => Some(IntentEnd::NotApplied),
                _ => Some(IntentEnd::Unresolved),
            },
            replaced: byte & REPLACED != 0,
        });
    }
    Ok(heads)
}

const RECEIPT: u8 = 1;
const META_AFTER: u8 = 1 << 1;
/// The batch is that of the intent before.
const SAME_BATCH: u8 = 1 << 2;
/// The shadows that follow are shared by several intents of one record; after them stands which stores' shadows are this intent's.
const SHARED: u8 = 1 << 3;
/// The record and the shared shadows are those of the intent before; only the list of stores follows.
const SAME_RECORD: u8 = 1 << 4;

/// Stands in place of a value: it is the one that the shadow to come holds. No kind of value has this number.
const OF_SHADOW: u8 = 12;

/// The shadows to come of some intents of one record.
type Shared<'i> = BTreeMap<&'i StoreName, &'i Arc<Shadow>>;

/// How many intents, from the first on, are of one record and have shadows that do not contradict each other; and those shadows.
fn together<I: Borrow<Intent>>(intents: &[I]) -> (usize, Shared<'_>) {
    let mut shared = Shared::new();
    let mut count = 0;
    for intent in intents {
        let intent: &Intent = intent.borrow();
        let first: &Intent = intents[0].borrow();
        let fits = |(store, shadow)| shared.get(store).is_none_or(|known| Arc::ptr_eq(known, shadow));
        if intent.record != first.record || !intent.advances.iter().all(fits) {
            break;
        }
        shared.extend(&intent.advances);
        count += 1;
    }
    (count, shared)
}

/// Intents as bytes, without what their heads say.
pub fn intents_to_bytes<I: Borrow<Intent>>(intents: &[I], dictionary: &mut Dictionary) -> Vec<u8> {
    let mut out = Vec::with_capacity(intents.len() * 512);
    let mut batch: Option<&BatchId> = None;
    let mut rest = intents;
    while !rest.is_empty() {
        let (count, shared) = together(rest);
        let (of_record, others) = rest.split_at(count);
        rest = others;
        for (at, intent) in of_record.iter().enumerate() {
            let intent: &Intent = intent.borrow();
            let same_batch = batch == Some(&intent.batch);
            let (is_first, is_shared) = (at == 0, count > 1);
            out.push(sum(&[
                (RECEIPT, intent.receipt),
                (META_AFTER, intent.meta_after.is_some()),
                (SAME_BATCH, same_batch),
                (SHARED, is_first && is_shared),
                (SAME_RECORD, !is_first),
            ]));
            if !same_batch {
                put_bytes(&mut out, intent.batch.0.as_bytes());
            }
            batch = Some(&intent.batch);
            put_varint(&mut out, dictionary.intern(intent.store.as_str()) as u64);
            if is_first {
                put_varint(&mut out, dictionary.intern(intent.record.entity.as_str()) as u64);
                put_bytes(&mut out, &key_to_bytes(&intent.record.key));
                let shadows = shared.iter().map(|(store, shadow)| (*store, &***shadow));
                put_bytes(&mut out, &pack_shadows(shadows, dictionary));
            }
            if is_shared {
                put_varint(&mut out, intent.advances.len() as u64);
                for store in intent.advances.keys() {
                    put_varint(&mut out, dictionary.intern(store.as_str()) as u64);
                }
            }
            let shadow = intent.advances.get(&intent.store).map(Arc::as_ref);
            put_fields(&mut out, &intent.before, shadow);
            put_fields(&mut out, &intent.after, shadow);
            put_meta(&mut out, &intent.meta_before, dictionary);
            if let Some(meta) = &intent.meta_after {
                put_meta(&mut out, meta, dictionary);
            }
        }
    }
    squeeze(&out)
}

/// Intents from their bytes and their heads.
pub fn intents_from_bytes(
    bytes: &[u8],
    heads: &[Head],
    dictionary: &mut Dictionary,
) -> Result<Vec<Intent>, BadRecord> {
    let bytes = unsqueeze(bytes)?;
    let mut input = Reader::new(&bytes);
    let mut intents: Vec<Intent> = Vec::with_capacity(heads.len());
    let mut shared: ByStore<Arc<Shadow>> = ByStore::new();
    for head in heads {
        let flags = input.byte()?;
        let has = |flag| flags & flag != 0;
        let batch = if has(SAME_BATCH) {
            intents.last().ok_or(BadRecord)?.batch.clone()
        } else {
            BatchId(input.text()?.into())
        };
        let store = take_store(&mut input, dictionary)?;
        let record = if has(SAME_RECORD) {
            intents.last().ok_or(BadRecord)?.record.clone()
        } else {
            let entity = EntityName::new(dictionary.name(input.length()?)?).map_err(|_| BadRecord)?;
            let key = key_from_bytes(input.bytes()?)?;
            let shadows = read(input.bytes()?, dictionary)?.stores;
            shared = shadows.into_iter().map(|(store, shadow)| (store, Arc::new(shadow))).collect();
            RecordId { entity, key }
        };
        let mut advances = ByStore::new();
        if has(SHARED) || has(SAME_RECORD) {
            for _ in 0..input.length()? {
                let store = take_store(&mut input, dictionary)?;
                let shadow = shared.get(&store).cloned().ok_or(BadRecord)?;
                advances.insert(store, shadow);
            }
        } else {
            advances.clone_from(&shared);
        }
        let shadow = advances.get(&store).map(Arc::as_ref);
        let before = take_fields(&mut input, shadow)?;
        let after = take_fields(&mut input, shadow)?;
        let meta_before: SyncMeta = take_meta(&mut input, dictionary)?;
        let meta_after = if has(META_AFTER) { Some(take_meta(&mut input, dictionary)?) } else { None };
        intents.push(Intent {
            id: head.id.clone(),
            batch,
            store,
            receipt: has(RECEIPT),
            record,
            kind: head.kind,
            before,
            after,
            meta_before,
            meta_after,
            advances,
        });
    }
    if input.is_empty() { Ok(intents) } else { Err(BadRecord) }
}

fn take_store(input: &mut Reader<'_>, dictionary: &Dictionary) -> Result<StoreName, BadRecord> {
    StoreName::new(dictionary.name(input.length()?)?).map_err(|_| BadRecord)
}

/// Writes fields with their values. A field that the shadow to come has as well is named by its place there, and nearly always has the same
/// value, which then is not written again.
fn put_fields(out: &mut Vec<u8>, fields: &ByName<Value>, shadow: Option<&Shadow>) {
    put_varint(out, fields.len() as u64);
    // Both are in the order of names.
    let mut known = shadow.into_iter().flat_map(|shadow| &shadow.fields).enumerate().peekable();
    for (name, value) in fields {
        while known.next_if(|(_, (theirs, _))| *theirs < name).is_some() {}
        let held = if let Some((at, (_, field))) = known.next_if(|(_, (theirs, _))| *theirs == name) {
            put_varint(out, at as u64 + 1);
            field.held.value()
        } else {
            put_varint(out, 0);
            put_bytes(out, name.as_str().as_bytes());
            None
        };
        if held == Some(value) {
            out.push(OF_SHADOW);
        } else {
            value::put(out, value);
        }
    }
}

fn take_fields(input: &mut Reader<'_>, shadow: Option<&Shadow>) -> Result<ByName<Value>, BadRecord> {
    let known: Vec<(&FieldName, &Cell)> = shadow
        .map(|shadow| shadow.fields.iter().map(|(name, field)| (name, &field.held)).collect())
        .unwrap_or_default();
    let mut fields = ByName::new();
    for _ in 0..input.length()? {
        let (name, held) = match input.length()?.checked_sub(1) {
            Some(at) => known.get(at).map(|(name, held)| ((*name).clone(), held.value())).ok_or(BadRecord)?,
            None => (FieldName::new(input.text()?).map_err(|_| BadRecord)?, None),
        };
        let value =
            if input.accept(OF_SHADOW) { held.cloned().ok_or(BadRecord)? } else { value::take(input)? };
        fields.insert(name, value);
    }
    Ok(fields)
}
