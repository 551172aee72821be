//! Numbers and texts as bytes, and back without trusting them.

use super::BadRecord;

/// Seven bits a byte, the lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The lowest byte of the number is meant.
        #[allow(clippy::cast_possible_truncation)]
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    out.push(number as u8);
}

/// A signed number, small ones short.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_varint(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// A length and that many bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// The flags that are on, in one byte.
pub(super) fn sum(flags: &[(u8, bool)]) -> u8 {
    flags.iter().filter(|(_, on)| *on).fold(0, |sum, (flag, _)| sum | flag)
}

/// Bytes being read.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, BadRecord> {
        let (first, rest) = self.0.split_first().ok_or(BadRecord)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn varint(&mut self) -> Result<u64, BadRecord> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BadRecord)
    }

    pub(super) fn signed(&mut self) -> Result<i64, BadRecord> {
        let number = self.varint()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(super) fn length(&mut self) -> Result<usize, BadRecord> {
        usize::try_from(self.varint()?).map_err(|_| BadRecord)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], BadRecord> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BadRecord)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], BadRecord> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, BadRecord> {
        utf8(self.bytes()?)
    }

    /// Takes a byte if it is this one.
    pub(super) fn accept(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// All that is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The bytes that something takes.
    pub(super) fn span(
        &mut self,
        skim: impl FnOnce(&mut Self) -> Result<(), BadRecord>,
    ) -> Result<&'a [u8], BadRecord> {
        let before = self.0;
        skim(self)?;
        before.get(..before.len() - self.0.len()).ok_or(BadRecord)
    }

    /// Eight bytes, the lowest first.
    pub(super) fn fixed(&mut self) -> Result<u64, BadRecord> {
        self.take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| BadRecord)
    }
}

pub(super) fn utf8(bytes: &[u8]) -> Result<String, BadRecord> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| BadRecord)
}
