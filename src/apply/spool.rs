//! The shelf that plans are made with: a few records in memory, the others in a file that has no name and goes with the process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::model::{Entity, Memory, Presence, Row, StoreName, Unknown};
use crate::plan::{Lost, Observed, Shelf};
use crate::state::codec::{self, Dictionary};

/// How many records stay in memory. One of 25 fields in three stores takes some 15 KB there, by the sizes of its parts.
const IN_MEMORY: usize = 2_000;

/// What is read at once of a record: nearly always all of it.
const USUAL_BYTES: usize = 2048;

/// What is gathered before it is written to the file.
const BUFFER_BYTES: usize = 1 << 20;

/// A shelf of any size in little memory.
pub struct Spool {
    folder: Option<PathBuf>,
    few: Vec<Observed>,
    many: Option<Many>,
}

/// The records in the file.
struct Many {
    file: Mutex<File>,
    /// Where the file ends.
    written: u64,
    /// What comes after that.
    buffer: Vec<u8>,
    /// Of what is remembered.
    memories: Dictionary,
    /// Copies of it, for whoever reads: reading adds to what is known of layouts.
    readers: Mutex<Vec<Dictionary>>,
    /// Of what was seen.
    rows: Dictionary,
    stores: Vec<StoreName>,
}

impl Spool {
    /// An empty one, whose file would be made in this folder (none: the system's for temporary files).
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, few: Vec::new(), many: None }
    }

    fn make(&self) -> Result<Many, Lost> {
        // Without a name from the start: nobody else opens it, and it goes when this process does, however that ends.
        let file = match &self.folder {
            Some(folder) => tempfile::tempfile_in(folder),
            None => tempfile::tempfile(),
        };
        Ok(Many {
            file: Mutex::new(file.map_err(|error| no_room(&error))?),
            written: 0,
            buffer: Vec::new(),
            memories: Dictionary::default(),
            readers: Mutex::default(),
            rows: Dictionary::default(),
            stores: Vec::new(),
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
        if self.many.is_none() {
            self.many = Some(self.make()?);
        }
        match &mut self.many {
            Some(many) => many.put(&observed),
            None => Err(Lost("there is no file".to_owned())),
        }
    }

    fn get(&self, _entity: &Entity, place: u64) -> Result<Observed, Lost> {
        let few = usize::try_from(place).ok().and_then(|at| self.few.get(at));
        match (few, &self.many) {
            (Some(observed), _) => Ok(observed.clone()),
            (None, Some(many)) => many.get(place - IN_MEMORY as u64),
            (None, None) => Err(Lost("it was never kept".to_owned())),
        }
    }
}

const ABSENT: u8 = 0;
/// A row follows.
const PRESENT: u8 = 1;
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
    /// Writes a record and gives its place: a length, the key, the memory, and what every store holds. What a row has in common with
    /// the first one stands once.
    fn put(&mut self, observed: &Observed) -> Result<u64, Lost> {
        let place = self.written + self.buffer.len() as u64;
        let mut record = Vec::with_capacity(1024);
        put_part(&mut record, &codec::key_to_bytes(&observed.key));
        let memory = observed.memory.as_ref().map(|memory| codec::spell(memory, &mut self.memories));
        put_part(&mut record, &memory.unwrap_or_default());
        record.push(u8::try_from(observed.presences.len()).map_err(|_| Lost("too many stores".to_owned()))?);
        let mut first: Option<&Row> = None;
        for (store, presence) in &observed.presences {
            record.push(self.store(store)?);
            match presence {
                Presence::Absent => record.push(ABSENT),
                Presence::Unknown(why) => {
                    let at = UNKNOWNS.iter().position(|known| known == why).unwrap_or_default();
                    record.push(UNKNOWN + u8::try_from(at).unwrap_or_default());
                }
                Presence::Present(row) => {
                    record.push(PRESENT);
                    codec::put_row(&mut record, row, first, &mut self.rows);
                    first = first.or(Some(row));
                }
            }
        }
        put_part(&mut self.buffer, &record);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(place + IN_MEMORY as u64)
    }

    fn flush(&mut self) -> Result<(), Lost> {
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.written))
            .and_then(|_| file.write_all(&self.buffer))
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

    fn get(&self, place: u64) -> Result<Observed, Lost> {
        let bad = || Lost("it is not as it was written".to_owned());
        let record = self.read(place)?;
        let mut input = record.as_slice();
        let key = codec::key_from_bytes(take_part(&mut input).ok_or_else(bad)?).map_err(|_| bad())?;
        let memory = match take_part(&mut input).ok_or_else(bad)? {
            [] => None,
            bytes => Some(self.memory(bytes).map_err(|_| bad())?),
        };
        let count = take_byte(&mut input).ok_or_else(bad)?;
        let mut presences: Vec<(StoreName, Presence)> = Vec::with_capacity(count.into());
        for _ in 0..count {
            let store = take_byte(&mut input).and_then(|at| self.stores.get(usize::from(at)).cloned());
            let presence = match take_byte(&mut input).ok_or_else(bad)? {
                ABSENT => Presence::Absent,
                PRESENT => {
                    let first = presences.iter().find_map(|(_, presence)| presence.row());
                    let row = codec::take_row(&mut input, &key, first, &self.rows);
                    Presence::Present(row.map_err(|_| bad())?)
                }
                why => {
                    let why = why.checked_sub(UNKNOWN).and_then(|why| UNKNOWNS.get(usize::from(why)));
                    Presence::Unknown(*why.ok_or_else(bad)?)
                }
            };
            presences.push((store.ok_or_else(bad)?, presence));
        }
        Ok(Observed { key, memory, presences: presences.into_iter().collect() })
    }

    fn memory(&self, bytes: &[u8]) -> Result<Memory, codec::BadRecord> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = readers().pop().filter(|reader| reader.len() == self.memories.len());
        let mut reader = known.unwrap_or_else(|| self.memories.clone());
        let memory = codec::read(bytes, &mut reader);
        readers().push(reader);
        memory
    }

    fn read(&self, place: u64) -> Result<Vec<u8>, Lost> {
        let bad = || Lost("it is not where it was written".to_owned());
        if place >= self.written {
            let at = usize::try_from(place - self.written).map_err(|_| bad())?;
            let mut rest = self.buffer.get(at..).ok_or_else(bad)?;
            return take_part(&mut rest).map(<[u8]>::to_vec).ok_or_else(bad);
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = Vec::with_capacity(USUAL_BYTES);
        file.seek(SeekFrom::Start(place))
            .and_then(|_| (&*file).take(USUAL_BYTES as u64).read_to_end(&mut record))
            .map_err(|error| no_room(&error))?;
        let length = *record.first_chunk::<4>().ok_or_else(bad)?;
        let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| bad())?;
        record.drain(..4);
        let have = record.len();
        record.resize(length, 0);
        if have < length {
            file.read_exact(&mut record[have..]).map_err(|error| no_room(&error))?;
        }
        Ok(record)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cell, FieldId, RecordKey, Shadow, SyncMeta, Value};

    fn seen(number: usize) -> Observed {
        let name = |name: &str| StoreName::new(name).expect("a name");
        let row = |length: usize| {
            let text = Value::text("x".repeat(length));
            Presence::Present(Row {
                key: RecordKey::new(vec![number.to_string()]),
                store_id: None,
                fields: [(FieldId(0), Cell::Value(text)), (FieldId(3), Cell::Value(Value::Int(7)))].into(),
                meta: SyncMeta::default(),
                created: None,
                updated: None,
                unlinked: number.is_multiple_of(7),
            })
        };
        // Now and then one that is longer than what is read at once.
        let length = if number.is_multiple_of(100) { 3 * USUAL_BYTES } else { number % 50 };
        let stores = [(name("hub"), Shadow { present: true, ..Shadow::default() })].into();
        Observed {
            key: RecordKey::new(vec![number.to_string()]),
            memory: number.is_multiple_of(3).then_some(Memory { stores }),
            presences: [
                (name("app"), Presence::Unknown(UNKNOWNS[number % UNKNOWNS.len()])),
                (name("hub"), row(length)),
                (name("local"), if number.is_multiple_of(2) { row(length) } else { Presence::Absent }),
                (name("other"), row(1)),
            ]
            .into(),
        }
    }

    #[test]
    fn what_was_put_into_the_file_comes_back_from_any_thread() {
        let mut many = Spool::new(None).make().expect("a file");
        // Enough that most are in the file, and the last ones not yet.
        let places: Vec<u64> = (0..20_000).map(|number| many.put(&seen(number)).expect("room")).collect();
        assert!(many.written > 0 && !many.buffer.is_empty());
        std::thread::scope(|scope| {
            for first in 0..2 {
                let (many, places) = (&many, &places);
                scope.spawn(move || {
                    for number in (first..places.len()).rev().step_by(2) {
                        let found = many.get(places[number] - IN_MEMORY as u64).expect("there");
                        let put = seen(number);
                        assert_eq!((found.key, found.memory), (put.key, put.memory));
                        assert_eq!(found.presences, put.presences, "{number}");
                    }
                });
            }
        });
        assert!(many.get(u64::MAX - 5000).is_err());
    }
}
