//! Sync metadata as bytes, and names that may be too many for the dictionary.

use crate::model::{SyncMeta, SyncStatus, Timestamp, Version};

use super::bytes::{Reader, put_bytes, put_signed, put_varint, sum};
use super::{BadRecord, Dictionary};

/// A name by its number, counted from one; nought before a name that is written out.
pub(super) fn put_name(out: &mut Vec<u8>, name: &str, dictionary: &mut Dictionary) {
    if dictionary.has_room_for(name) {
        put_varint(out, dictionary.intern(name) as u64 + 1);
    } else {
        put_varint(out, 0);
        put_bytes(out, name.as_bytes());
    }
}

pub(super) fn take_name(input: &mut Reader<'_>, dictionary: &Dictionary) -> Result<String, BadRecord> {
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

pub(super) fn put_meta(out: &mut Vec<u8>, meta: &SyncMeta, dictionary: &mut Dictionary) {
    let status = match meta.sync_status {
        None => 0,
        Some(SyncStatus::Synced) => 1,
        Some(SyncStatus::Pending) => 2,
        Some(SyncStatus::Conflict) => 3_u8,
    };
    let flags = sum(&[
        (HAS_VERSION, meta.version.is_some()),
        (HAS_TIME, meta.last_updated.is_some()),
        (HAS_BY, meta.last_updated_by.is_some()),
        (HAS_SOURCES, !meta.source_systems.is_empty()),
        (HAS_ERRORS, !meta.sync_errors.is_empty()),
    ]);
    out.push((status << STATUS_SHIFT) | flags);
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
        for source in meta.source_systems.iter() {
            put_name(out, source, dictionary);
        }
    }
    if !meta.sync_errors.is_empty() {
        put_bytes(out, &serde_json::to_vec(&meta.sync_errors).unwrap_or_default());
    }
}

pub(super) fn take_meta(input: &mut Reader<'_>, dictionary: &Dictionary) -> Result<SyncMeta, BadRecord> {
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
        meta.last_updated_by = Some(take_name(input, dictionary)?.into());
    }
    if has(HAS_SOURCES) {
        let mut sources = Vec::new();
        for _ in 0..input.length()? {
            sources.push(take_name(input, dictionary)?);
        }
        meta.source_systems = sources.into();
    }
    if has(HAS_ERRORS) {
        meta.sync_errors = serde_json::from_slice(input.bytes()?).map_err(|_| BadRecord)?;
    }
    Ok(meta)
}

pub(super) fn take_time(input: &mut Reader<'_>) -> Result<Timestamp, BadRecord> {
    Timestamp::from_micros(input.signed()?).ok_or(BadRecord)
}

/// The bytes of metadata, unread.
pub(super) fn skim_meta<'a>(input: &mut Reader<'a>) -> Result<&'a [u8], BadRecord> {
    input.span(|input| {
        let flags = input.byte()?;
        let has = |flag| flags & flag != 0;
        for _ in [HAS_VERSION, HAS_TIME].into_iter().filter(|flag| has(*flag)) {
            input.varint()?;
        }
        if has(HAS_BY) {
            skim_name(input)?;
        }
        if has(HAS_SOURCES) {
            for _ in 0..input.length()? {
                skim_name(input)?;
            }
        }
        if has(HAS_ERRORS) {
            input.bytes()?;
        }
        Ok(())
    })
}

pub(super) fn skim_name(input: &mut Reader<'_>) -> Result<(), BadRecord> {
    if input.length()? == 0 {
        input.bytes()?;
    }
    Ok(())
}
