//! Shadows as bytes. What is read becomes a [`Raw`] shadow first, whose values are bytes still.

use crate::model::{
    Cell, FieldShadow, MappingTag, Shadow, StoreName, StoreRecordId, Timestamp, Unreadable, Version,
};

use super::bytes::{Reader, put_bytes, put_signed, put_varint, sum, utf8};
use super::content::{Content, FieldContent};
use super::meta::{skim_meta, skim_name, take_meta, take_name};
use super::{BadRecord, Dictionary, value};

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

/// A shadow whose values are bytes.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    /// The store's number in the dictionary.
    pub(super) store: usize,
    pub(super) present: bool,
    pub(super) store_id: Option<&'a [u8]>,
    pub(super) updated: Option<i64>,
    pub(super) meta: &'a [u8],
    pub(super) layout: usize,
    pub(super) fields: Vec<RawField<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RawField<'a> {
    pub(super) held: Held<'a>,
    pub(super) stands_for: Option<&'a [u8]>,
    pub(super) version: i64,
    pub(super) unsure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held<'a> {
    Value(&'a [u8]),
    /// A fingerprint, and why.
    Unreadable(&'a [u8]),
}

impl<'a> Held<'a> {
    pub(super) fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Value(bytes) => Some(bytes),
            Self::Unreadable(_) => None,
        }
    }
}

/// Shadows as bytes. They come in the order of their stores' names.
pub(super) fn pack<C: Content>(shadows: &[C], dictionary: &mut Dictionary) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    // The fullest shadow first; of equals the first by name, so that equal memories are equal bytes.
    let fullest = shadows
        .iter()
        .enumerate()
        .max_by(|(at, a), (other, b)| a.count().cmp(&b.count()).then(other.cmp(at)));
    let Some((first, base)) = fullest else { return out };
    put_shadow(&mut out, base, None, dictionary);
    for (_, shadow) in shadows.iter().enumerate().filter(|(at, _)| *at != first) {
        put_shadow(&mut out, shadow, Some(base), dictionary);
    }
    out
}

/// Shadows from their bytes, the base first.
pub(super) fn unpack<'a>(bytes: &'a [u8], dictionary: &mut Dictionary) -> Result<Vec<Raw<'a>>, BadRecord> {
    let mut input = Reader::new(bytes);
    let mut raws: Vec<Raw<'a>> = Vec::with_capacity(4);
    while !input.is_empty() {
        let raw = take_shadow(&mut input, raws.first(), dictionary)?;
        raws.push(raw);
    }
    Ok(raws)
}

fn put_shadow<C: Content>(out: &mut Vec<u8>, shadow: &C, base: Option<&C>, dictionary: &mut Dictionary) {
    // Layouts that were interned can be read.
    let places = base.and_then(|base| dictionary.places(shadow.layout(), base.layout()).ok());
    let of_base = |at: usize| {
        let place = (*places.as_ref()?.get(at)?)?;
        base?.field(place)
    };
    let common = common_version(shadow);
    let (mut fields_of_base, mut versions_of_base) = (base.is_some(), base.is_some());
    let (mut one_version, mut plain) = (true, true);
    for (at, field) in shadow.fields().enumerate() {
        let theirs = of_base(at);
        let own = field.is_plain();
        fields_of_base = fields_of_base && own && theirs.is_some_and(|theirs| field.holds_what(theirs));
        versions_of_base &= theirs.is_some_and(|theirs| theirs.version() == field.version());
        one_version &= field.version() == common;
        plain &= own;
    }
    let versions_settled = versions_of_base || one_version;
    let settled = fields_of_base && versions_settled;
    let plain = plain && !fields_of_base && versions_settled;
    let meta_of_base = base.is_some_and(|base| shadow.has_meta_of(base));
    let updated = shadow.updated();
    let updated_of_base = updated.is_some() && base.is_some_and(|base| base.updated() == updated);
    put_varint(out, shadow.store() as u64);
    out.push(sum(&[
        (PRESENT, shadow.present()),
        (HAS_STORE_ID, shadow.store_id().is_some()),
        (HAS_UPDATED, updated.is_some() && !updated_of_base),
        (META_OF_BASE, meta_of_base),
        (UPDATED_OF_BASE, updated_of_base),
        (FIELDS_OF_BASE, settled),
        (VERSIONS_OF_BASE, versions_of_base),
        (PLAIN, plain),
    ]));
    if let Some(id) = shadow.store_id() {
        put_bytes(out, id);
    }
    if let Some(updated) = updated.filter(|_| !updated_of_base) {
        put_signed(out, updated);
    }
    if !meta_of_base {
        shadow.put_meta(out, dictionary);
    }
    put_varint(out, shadow.layout() as u64);
    if !versions_of_base {
        put_signed(out, common);
    }
    if settled {
        return;
    }
    for (at, field) in shadow.fields().enumerate() {
        if plain {
            field.put_held(out, dictionary);
        } else {
            let theirs = of_base(at);
            let expected =
                if versions_of_base { theirs.map_or(common, FieldContent::version) } else { common };
            put_field(out, field, theirs, expected, dictionary);
        }
    }
}

/// The version that most fields have; of equally many the highest.
fn common_version<C: Content>(shadow: &C) -> i64 {
    let Some(first) = shadow.field(0).map(FieldContent::version) else { return Version::NONE.0 };
    if shadow.fields().all(|field| field.version() == first) {
        return first;
    }
    let mut counts: std::collections::BTreeMap<i64, usize> = std::collections::BTreeMap::new();
    for field in shadow.fields() {
        *counts.entry(field.version()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(version, count)| (*count, *version)).map_or(first, |(version, _)| version)
}

fn put_field<F: FieldContent>(
    out: &mut Vec<u8>,
    field: &F,
    base: Option<&F>,
    expected: i64,
    dictionary: &mut Dictionary,
) {
    let held_of_base = base.is_some_and(|base| field.holds_what(base));
    let stands_for_base = base.is_some_and(|base| field.stands_for_what(base));
    out.push(sum(&[
        (HELD_OF_BASE, held_of_base),
        (UNREADABLE, field.held().is_none()),
        (STANDS_FOR, field.stands_for().is_some() && !stands_for_base),
        (STANDS_FOR_BASE, stands_for_base),
        (OTHER_VERSION, field.version() != expected),
        (UNSURE, field.is_unsure()),
    ]));
    if !held_of_base {
        field.put_held(out, dictionary);
    }
    if !stands_for_base {
        field.put_stands_for(out);
    }
    if field.version() != expected {
        put_signed(out, field.version());
    }
}

fn take_shadow<'a>(
    input: &mut Reader<'a>,
    base: Option<&Raw<'a>>,
    dictionary: &mut Dictionary,
) -> Result<Raw<'a>, BadRecord> {
    let store = input.length()?;
    let flags = input.byte()?;
    let has = |flag| flags & flag != 0;
    let store_id = if has(HAS_STORE_ID) { Some(input.bytes()?) } else { None };
    let updated = if has(HAS_UPDATED) {
        Some(input.signed()?)
    } else if has(UPDATED_OF_BASE) {
        base.ok_or(BadRecord)?.updated
    } else {
        None
    };
    let meta = if has(META_OF_BASE) { base.ok_or(BadRecord)?.meta } else { skim_meta(input)? };
    let layout = input.length()?;
    let count = dictionary.layout(layout)?.fields.len();
    let places = base.map(|base| dictionary.places(layout, base.layout)).transpose()?;
    let common = if has(VERSIONS_OF_BASE) { None } else { Some(input.signed()?) };
    let mut fields = Vec::with_capacity(count);
    for at in 0..count {
        let place = places.as_ref().and_then(|places| places.get(at).copied().flatten());
        let of_base = base.zip(place).and_then(|(base, place)| base.fields.get(place));
        let version = match common {
            Some(version) => version,
            None => of_base.ok_or(BadRecord)?.version,
        };
        fields.push(if has(FIELDS_OF_BASE) {
            let held = of_base.ok_or(BadRecord)?.held;
            RawField { held, stands_for: None, version, unsure: false }
        } else if has(PLAIN) {
            let held = Held::Value(value::skim(input)?);
            RawField { held, stands_for: None, version, unsure: false }
        } else {
            take_field(input, of_base, version)?
        });
    }
    Ok(Raw { store, present: has(PRESENT), store_id, updated, meta, layout, fields })
}

fn take_field<'a>(
    input: &mut Reader<'a>,
    base: Option<&RawField<'a>>,
    expected: i64,
) -> Result<RawField<'a>, BadRecord> {
    let flags = input.byte()?;
    let has = |flag| flags & flag != 0;
    let base_held = || base.and_then(|base| base.held.value()).ok_or(BadRecord);
    let held = if has(HELD_OF_BASE) {
        Held::Value(base_held()?)
    } else if has(UNREADABLE) {
        Held::Unreadable(input.span(|input| {
            input.fixed()?;
            skim_name(input)
        })?)
    } else {
        Held::Value(value::skim(input)?)
    };
    let stands_for = match (has(STANDS_FOR), has(STANDS_FOR_BASE)) {
        (true, _) => Some(value::skim(input)?),
        (_, true) => Some(base_held()?),
        _ => None,
    };
    let version = if has(OTHER_VERSION) { input.signed()? } else { expected };
    Ok(RawField { held, stands_for, version, unsure: has(UNSURE) })
}

impl<'a> Raw<'a> {
    /// The store.
    pub(super) fn name(&self, dictionary: &Dictionary) -> Result<StoreName, BadRecord> {
        StoreName::new(dictionary.name(self.store)?).map_err(|_| BadRecord)
    }

    /// The shadow with its values decoded, or shared with the base's where they are the same.
    pub(super) fn shadow(
        &self,
        base: Option<(&Raw<'a>, &Shadow)>,
        dictionary: &mut Dictionary,
    ) -> Result<Shadow, BadRecord> {
        let layout = dictionary.layout(self.layout)?;
        let places = base.map(|(raw, _)| dictionary.places(self.layout, raw.layout)).transpose()?;
        let known: Vec<&FieldShadow> =
            base.map(|(_, shadow)| shadow.fields.values().collect()).unwrap_or_default();
        let mut fields = Vec::with_capacity(self.fields.len());
        for (at, ((name, tag), field)) in layout.fields.iter().zip(&self.fields).enumerate() {
            let place = places.as_ref().and_then(|places| places.get(at).copied().flatten());
            let same = place.and_then(|place| {
                let raw = base?.0.fields.get(place)?;
                known.get(place).filter(|_| raw.held == field.held)
            });
            let held = match same {
                Some(known) => known.held.clone(),
                None => cell(field.held, dictionary)?,
            };
            fields.push((name.clone(), field.shadow(held, *tag)?));
        }
        let meta = match base {
            Some((raw, shadow)) if raw.meta == self.meta => shadow.meta.clone(),
            _ => take_meta(&mut Reader::new(self.meta), dictionary)?,
        };
        Ok(Shadow {
            present: self.present,
            store_id: self.store_id.map(utf8).transpose()?.map(StoreRecordId),
            meta,
            updated: self
                .updated
                .map(|micros| Timestamp::from_micros(micros).ok_or(BadRecord))
                .transpose()?,
            home: layout.home,
            fields: fields.into_iter().collect(),
        })
    }
}

impl RawField<'_> {
    fn shadow(&self, held: Cell, tag: MappingTag) -> Result<FieldShadow, BadRecord> {
        let stands_for = self.stands_for.map(|bytes| value::take(&mut Reader::new(bytes)).map(Box::new));
        let stands_for = stands_for.transpose()?;
        Ok(FieldShadow { held, stands_for, version: Version(self.version), tag, unsure: self.unsure })
    }
}

fn cell(held: Held<'_>, dictionary: &Dictionary) -> Result<Cell, BadRecord> {
    Ok(match held {
        Held::Value(bytes) => Cell::Value(value::take(&mut Reader::new(bytes))?),
        Held::Unreadable(bytes) => {
            let mut input = Reader::new(bytes);
            let fingerprint = input.fixed()?;
            let why = take_name(&mut input, dictionary)?;
            Cell::Unreadable(Box::new(Unreadable { why, fingerprint }))
        }
    })
}
