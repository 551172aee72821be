//! The shelf that plans are made with: a few records in memory, the others in a file that has no name and goes with the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{
    Entity, EntityName, FieldId, FieldName, FieldShadow, MappingTag, Memory, Presence, Row, Shadow,
    StoreName, Timestamp, Unknown, Version,
};
use crate::plan::{Lost, Observed, Shelf};
use crate::state::codec::{self, Dictionary};

/// How many records stay in memory. One of 25 fields in three stores takes some 25 KB there, all together 50 MB.
const IN_MEMORY: usize = 2_000;

/// What is gathered before it is written to the file.
const BUFFER_BYTES: usize = 1 << 20;

/// A shelf of any size in little memory.
pub struct Spool {
    folder: Option<PathBuf>,
    few: Vec<Observed>,
    many: Mutex<Option<Many>>,
}

/// The records in the file.
struct Many {
    file: File,
    /// Where the file ends.
    written: u64,
    /// What comes after that.
    buffer: Vec<u8>,
    dictionary: Dictionary,
    stores: Vec<StoreName>,
    /// What fields are called here, by number.
    names: Vec<FieldName>,
    fields: BTreeMap<EntityName, BTreeMap<FieldName, FieldId>>,
}

impl Spool {
    /// An empty one, whose file would be made in this folder (none: the system's for temporary files).
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, few: Vec::new(), many: Mutex::new(None) }
    }

    fn many(&self) -> MutexGuard<'_, Option<Many>> {
        self.many.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> Result<Many, Lost> {
        // Without a name from the start: nobody else opens it, and it goes when this process does, however that ends.
        let file = match &self.folder {
            Some(folder) => tempfile::tempfile_in(folder),
            None => tempfile::tempfile(),
        };
        Ok(Many {
            file: file.map_err(|error| no_room(&error))?,
            written: 0,
            buffer: Vec::new(),
            dictionary: Dictionary::default(),
            stores: Vec::new(),
            names: Vec::new(),
            fields: BTreeMap::new(),
        })
    }
}

fn no_room(error: &std::io::Error) -> Lost {
    Lost(format!("a temporary file cannot be used ({})", error.kind()))
}

impl Shelf for Spool {
    fn put(&mut self, _entity: &Entity, observed: Observed) -> Result<u64, Lost> {
        if self.few.len() < IN_MEMORY {
            self.few.push(observed);
            return Ok(self.few.len() as u64 - 1);
        }
        let mut many = self.many();
        if many.is_none() {
            *many = Some(self.make()?);
        }
        match many.as_mut() {
            Some(many) => many.put(&observed),
            None => Err(Lost("there is no file".to_owned())),
        }
    }

    fn get(&self, entity: &Entity, place: u64) -> Result<Observed, Lost> {
        let few = usize::try_from(place).ok().and_then(|at| self.few.get(at));
        match (few, self.many().as_mut()) {
            (Some(observed), _) => Ok(observed.clone()),
            (None, Some(many)) => many.get(entity, place - IN_MEMORY as u64),
            (None, None) => Err(Lost("it was never kept".to_owned())),
        }
    }
}

const ABSENT: u8 = 0;
/// A row, with or without the other two.
const PRESENT: u8 = 1;
const SINCE: u8 = 2;
const UNLINKED: u8 = 4;
/// From here on why nothing is known.
const UNKNOWN: u8 = 8;
const UNKNOWNS: [Unknown; 6] = [
    Unknown::Unreachable,
    Unknown::Incomplete,
    Unknown::DuplicateKey,
    Unknown::Regressed,
    Unknown::Paused,
    Unknown::Unidentified,
];

impl Many {
    /// Writes a record and gives its place: a length, the key, the memory, and what every store holds. Rows are written as
    /// memories are, so that what stores have in common stands once.
    fn put(&mut self, observed: &Observed) -> Result<u64, Lost> {
        let place = self.written + self.buffer.len() as u64;
        let mut record = Vec::with_capacity(1024);
        put_part(&mut record, &codec::key_to_bytes(&observed.key));
        let memory = observed.memory.as_ref().map(|memory| codec::encode(memory, &mut self.dictionary));
        put_part(&mut record, &memory.unwrap_or_default());
        let mut rows = Memory::default();
        record.push(u8::try_from(observed.presences.len()).map_err(|_| Lost("too many stores".to_owned()))?);
        for (store, presence) in &observed.presences {
            record.push(self.store(store)?);
            match presence {
                Presence::Absent => record.push(ABSENT),
                Presence::Unknown(why) => {
                    let at = UNKNOWNS.iter().position(|known| known == why).unwrap_or_default();
                    record.push(UNKNOWN + u8::try_from(at).unwrap_or_default());
                }
                Presence::Present(row) => {
                    let since = if row.created.is_some() { SINCE } else { 0 };
                    record.push(PRESENT | since | if row.unlinked { UNLINKED } else { 0 });
                    if let Some(created) = row.created {
                        record.extend(created.micros().to_le_bytes());
                    }
                    rows.stores.insert(store.clone(), self.shadow_of(row));
                }
            }
        }
        put_part(&mut record, &codec::encode(&rows, &mut self.dictionary));
        put_part(&mut self.buffer, &record);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(place + IN_MEMORY as u64)
    }

    fn flush(&mut self) -> Result<(), Lost> {
        let end = SeekFrom::Start(self.written);
        self.file
            .seek(end)
            .and_then(|_| self.file.write_all(&self.buffer))
            .map_err(|error| no_room(&error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn store(&mut self, name: &StoreName) -> Result<u8, Lost> {
        let at = self.stores.iter().position(|known| known == name).unwrap_or_else(|| {
            self.stores.push(name.clone());
            self.stores.len() - 1
        });
        u8::try_from(at).map_err(|_| Lost("too many stores".to_owned()))
    }

    fn get(&mut self, entity: &Entity, place: u64) -> Result<Observed, Lost> {
        let bad = || Lost("it is not as it was written".to_owned());
        let record = self.read(place)?;
        let mut input = record.as_slice();
        let key = codec::key_from_bytes(take_part(&mut input).ok_or_else(bad)?).map_err(|_| bad())?;
        let memory = match take_part(&mut input).ok_or_else(bad)? {
            [] => None,
            bytes => Some(codec::decode(bytes, &mut self.dictionary).map_err(|_| bad())?),
        };
        let count = take_byte(&mut input).ok_or_else(bad)?;
        let mut presences: BTreeMap<StoreName, Option<Unknown>> = BTreeMap::new();
        let mut rows_told: BTreeMap<StoreName, (Option<Timestamp>, bool)> = BTreeMap::new();
        for _ in 0..count {
            let store = take_byte(&mut input).and_then(|at| self.stores.get(usize::from(at)).cloned());
            let store = store.ok_or_else(bad)?;
            match take_byte(&mut input).ok_or_else(bad)? {
                ABSENT => drop(presences.insert(store, None)),
                present if present < UNKNOWN => {
                    let mut created = None;
                    if present & SINCE != 0 {
                        let (micros, rest) = input.split_first_chunk::<8>().ok_or_else(bad)?;
                        input = rest;
                        created = Timestamp::from_micros(i64::from_le_bytes(*micros));
                    }
                    rows_told.insert(store, (created, present & UNLINKED != 0));
                }
                why => {
                    let why = UNKNOWNS.get(usize::from(why - UNKNOWN)).ok_or_else(bad)?;
                    presences.insert(store, Some(*why));
                }
            }
        }
        let rows = take_part(&mut input).ok_or_else(bad)?;
        let rows = codec::decode(rows, &mut self.dictionary).map_err(|_| bad())?;
        let mut all: BTreeMap<StoreName, Presence> = presences
            .into_iter()
            .map(|(store, why)| (store, why.map_or(Presence::Absent, Presence::Unknown)))
            .collect();
        for (store, shadow) in rows.stores {
            let told = rows_told.remove(&store).ok_or_else(bad)?;
            all.insert(store, Presence::Present(self.row(entity, &key, shadow, told)));
        }
        Ok(Observed { key, memory, presences: all })
    }

    fn read(&mut self, place: u64) -> Result<Vec<u8>, Lost> {
        let bad = || Lost("it is not where it was written".to_owned());
        if place >= self.written {
            let at = usize::try_from(place - self.written).map_err(|_| bad())?;
            let mut rest = self.buffer.get(at..).ok_or_else(bad)?;
            return take_part(&mut rest).map(<[u8]>::to_vec).ok_or_else(bad);
        }
        let mut length = [0; 4];
        let mut record = Vec::new();
        self.file
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.file.read_exact(&mut length))
            .and_then(|()| {
                record.resize(usize::try_from(u32::from_le_bytes(length)).unwrap_or(0), 0);
                self.file.read_exact(&mut record)
            })
            .map_err(|error| no_room(&error))?;
        Ok(record)
    }

    /// A row in the clothes of a shadow. Fields go by number, which the names of fields may be as well as anything.
    fn shadow_of(&mut self, row: &Row) -> Shadow {
        let most = row.fields.last().map_or(0, |(id, _)| id.index() + 1);
        let more = (self.names.len()..most).filter_map(|id| FieldName::new(format!("f{id}")).ok());
        self.names.extend(more.collect::<Vec<_>>());
        let fields = row.fields.iter().filter_map(|(id, cell)| {
            let name = self.names.get(id.index())?.clone();
            let (held, version, tag) = (cell.clone(), Version::NONE, MappingTag(0));
            Some((name, FieldShadow { held, stands_for: None, version, tag, unsure: false }))
        });
        Shadow {
            present: true,
            store_id: row.store_id.clone(),
            meta: row.meta.clone(),
            updated: row.updated,
            fields: fields.collect(),
        }
    }

    fn row(
        &mut self,
        entity: &Entity,
        key: &crate::model::RecordKey,
        shadow: Shadow,
        (created, unlinked): (Option<Timestamp>, bool),
    ) -> Row {
        let ids = self.fields.entry(entity.name.clone()).or_insert_with(|| {
            let number = |id: FieldId| Some((FieldName::new(format!("f{}", id.0)).ok()?, id));
            entity.field_ids().filter_map(number).collect()
        });
        let fields = shadow.fields.into_iter();
        Row {
            key: key.clone(),
            store_id: shadow.store_id,
            fields: fields.filter_map(|(name, field)| Some((*ids.get(&name)?, field.held))).collect(),
            meta: shadow.meta,
            created,
            updated: shadow.updated,
            unlinked,
        }
    }
}

/// A part behind its length of four bytes.
fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(part);
}

fn take_part<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = input.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *input = rest;
    Some(part)
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = input.split_first()?;
    *input = rest;
    Some(*byte)
}
