//! Rows come in the order of the store's ids and are wanted in the order of keys: sorted here, in memory as long as they fit and else
//! in runs on disk that are merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _};

use crate::model::RecordKey;

/// What is kept in memory before a run is written: about as much as a page of answers.
const RUN_BYTES: usize = 64 << 20;

/// What an entry costs besides its texts.
const ENTRY_BYTES: usize = 96;

type Entry = (RecordKey, Vec<u8>);

/// Takes rows in any order.
pub(super) struct Sorter {
    entries: Vec<Entry>,
    bytes: usize,
    limit: usize,
    runs: Vec<BufReader<File>>,
}

impl Default for Sorter {
    fn default() -> Self {
        Self::with_limit(RUN_BYTES)
    }
}

impl Sorter {
    fn with_limit(limit: usize) -> Self {
        Self { entries: Vec::new(), bytes: 0, limit, runs: Vec::new() }
    }

    /// Takes a row.
    pub(super) fn push(&mut self, key: RecordKey, row: Vec<u8>) -> io::Result<()> {
        self.bytes += ENTRY_BYTES + row.len() + key.parts().iter().map(String::len).sum::<usize>();
        self.entries.push((key, row));
        if self.bytes > self.limit { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        // Without a name: it is gone when it is closed, however that comes about.
        let mut out = BufWriter::new(tempfile::tempfile()?);
        for (key, row) in self.entries.drain(..) {
            put_number(&mut out, key.parts().len())?;
            for part in key.parts() {
                put(&mut out, part.as_bytes())?;
            }
            put(&mut out, &row)?;
        }
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.runs.push(BufReader::new(file));
        self.bytes = 0;
        Ok(())
    }

    /// The rows in the order of their keys.
    pub(super) fn sorted(mut self) -> io::Result<Sorted> {
        self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut sorted =
            Sorted { memory: self.entries.into_iter(), runs: self.runs, heads: BinaryHeap::new() };
        for source in 0..=sorted.runs.len() {
            sorted.refill(source)?;
        }
        Ok(sorted)
    }
}

fn put_number(out: &mut impl io::Write, number: usize) -> io::Result<()> {
    out.write_all(&u64::try_from(number).unwrap_or(u64::MAX).to_le_bytes())
}

fn put(out: &mut impl io::Write, bytes: &[u8]) -> io::Result<()> {
    put_number(out, bytes.len())?;
    out.write_all(bytes)
}

fn number(file: &mut impl io::Read) -> io::Result<usize> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    usize::try_from(u64::from_le_bytes(bytes)).map_err(io::Error::other)
}

fn take(file: &mut BufReader<File>) -> io::Result<Vec<u8>> {
    let length = number(file)?;
    let mut bytes = Vec::new();
    let read = file.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    if read == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Rows in the order of their keys.
pub(super) struct Sorted {
    memory: std::vec::IntoIter<Entry>,
    runs: Vec<BufReader<File>>,
    /// The next row of every source; the last source is the memory.
    heads: BinaryHeap<Reverse<(RecordKey, usize, Vec<u8>)>>,
}

impl Sorted {
    fn refill(&mut self, source: usize) -> io::Result<()> {
        let next = match self.runs.get_mut(source) {
            None => self.memory.next(),
            Some(run) => {
                if std::io::BufRead::fill_buf(run)?.is_empty() {
                    None
                } else {
                    let parts = number(run)?;
                    let texts = (0..parts)
                        .map(|_| String::from_utf8(take(run)?).map_err(io::Error::other))
                        .collect::<io::Result<Vec<_>>>()?;
                    Some((RecordKey::new(texts), take(run)?))
                }
            }
        };
        self.heads.extend(next.map(|(key, row)| Reverse((key, source, row))));
        Ok(())
    }

    /// The next row.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let Some(Reverse((key, source, row))) = self.heads.pop() else { return Ok(None) };
        self.refill(source)?;
        Ok(Some((key, row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(limit: usize, keys: &[&str]) -> Vec<String> {
        let mut sorter = Sorter::with_limit(limit);
        for key in keys {
            sorter.push(RecordKey::new(vec![(*key).to_owned()]), key.as_bytes().to_vec()).expect("taken");
        }
        let mut sorted = sorter.sorted().expect("sorted");
        let mut all = Vec::new();
        while let Some((key, row)) = sorted.next().expect("read") {
            assert_eq!(key.parts()[0].as_bytes(), row, "rows stay with their keys");
            all.push(key.parts()[0].clone());
        }
        all
    }

    #[test]
    fn sorted_alike_in_memory_and_on_disk() {
        let keys = ["b", "", "日本", "a", "aa", "b", "\u{10ffff}", "A", "10", "9"];
        let mut expected: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        expected.sort();
        for limit in [usize::MAX, 300, 1] {
            assert_eq!(sorted(limit, &keys), expected, "{limit}");
        }
        assert!(sorted(1, &[]).is_empty());
    }
}
