//! Rows into the order of their keys, whatever order they come in, in bounded memory: what does not fit is sorted piece by piece into
//! a file, and the pieces are merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use bytes::Bytes;

use crate::model::RecordKey;

/// A row with its key.
type Keyed = (RecordKey, Bytes);

/// Collects rows.
pub(super) struct Sorter {
    limit: usize,
    held: Vec<Keyed>,
    held_bytes: usize,
    runs: Vec<File>,
}

impl Sorter {
    /// A sorter that holds about this many bytes in memory.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: Vec::new(), held_bytes: 0, runs: Vec::new() }
    }

    pub(super) fn push(&mut self, key: RecordKey, row: Bytes) -> io::Result<()> {
        let key_bytes: usize = key.parts().iter().map(|part| part.len() + 32).sum();
        self.held_bytes += row.len() + key_bytes + 80;
        self.held.push((key, row));
        if self.held_bytes > self.limit { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_by(|a, b| a.0.cmp(&b.0));
        let mut file = BufWriter::new(tempfile::tempfile()?);
        for (key, row) in self.held.drain(..) {
            let count = u32::try_from(key.parts().len()).unwrap_or(0);
            file.write_all(&count.to_le_bytes())?;
            for bytes in key.parts().iter().map(String::as_bytes).chain([row.as_ref()]) {
                file.write_all(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes())?;
                file.write_all(bytes)?;
            }
        }
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        self.runs.push(file);
        self.held_bytes = 0;
        Ok(())
    }

    /// The rows in order. Rows of one key come one after the other.
    pub(super) fn sorted(mut self) -> io::Result<Sorted> {
        if self.runs.is_empty() {
            self.held.sort_by(|a, b| a.0.cmp(&b.0));
            return Ok(Sorted { memory: self.held.into_iter(), runs: Vec::new(), heap: BinaryHeap::new() });
        }
        self.spill()?;
        let mut sorted = Sorted {
            memory: Vec::new().into_iter(),
            runs: self.runs.into_iter().map(|file| BufReader::with_capacity(1 << 18, file)).collect(),
            heap: BinaryHeap::new(),
        };
        for run in 0..sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }
}

/// Rows in the order of their keys.
pub(super) struct Sorted {
    memory: std::vec::IntoIter<Keyed>,
    runs: Vec<BufReader<File>>,
    heap: BinaryHeap<Reverse<(RecordKey, usize, Bytes)>>,
}

impl Sorted {
    /// The next row; none after the last.
    pub(super) fn next(&mut self) -> io::Result<Option<Keyed>> {
        let Some(Reverse((key, run, row))) = self.heap.pop() else { return Ok(self.memory.next()) };
        self.refill(run)?;
        Ok(Some((key, row)))
    }

    fn refill(&mut self, run: usize) -> io::Result<()> {
        let Some(file) = self.runs.get_mut(run) else { return Ok(()) };
        let mut number = [0; 4];
        match file.read_exact(&mut number) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            done => done?,
        }
        let mut piece = || -> io::Result<Vec<u8>> {
            let mut length = [0; 4];
            file.read_exact(&mut length)?;
            let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let mut parts = Vec::new();
        for _ in 0..u32::from_le_bytes(number) {
            parts.push(String::from_utf8(piece()?).map_err(io::Error::other)?);
        }
        let row = piece()?;
        self.heap.push(Reverse((RecordKey::new(parts), run, row.into())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_order_from_memory_and_from_files() {
        for limit in [usize::MAX, 2_000, 1] {
            let mut sorter = Sorter::new(limit);
            for number in 0..500_u32 {
                let key = RecordKey::new(vec![(number * 7_919 % 250).to_string(), "é".into()]);
                sorter.push(key, number.to_string().into()).expect("kept");
            }
            assert_eq!(sorter.runs.is_empty(), limit == usize::MAX);
            let mut sorted = sorter.sorted().expect("sorted");
            let mut keys = Vec::new();
            let mut rows = 0_u32;
            while let Some((key, row)) = sorted.next().expect("read") {
                keys.push(key);
                rows += std::str::from_utf8(&row).expect("text").parse::<u32>().expect("a number");
            }
            assert_eq!((keys.len(), rows), (500, 499 * 250));
            assert!(keys.is_sorted());
        }
    }
}
