//! Bytes made smaller where that helps: what is remembered holds much that comes again within a record, the keys of JSON above all.

use std::borrow::Cow;

use lz4_flex::block;

use super::BadRecord;
use super::bytes::{Reader, put_varint};

/// As they are.
const PLAIN: u8 = 1;
/// Their number, and an LZ4 block.
const LZ4: u8 = 2;

/// LZ4 makes at most so many bytes of one.
const AT_MOST: usize = 255;

/// Shorter ones hold nothing twice.
const WORTHWHILE: usize = 64;

/// Bytes with what they are in front.
pub(super) fn squeeze(bytes: &[u8]) -> Vec<u8> {
    if bytes.len() >= WORTHWHILE {
        let mut out = vec![LZ4];
        put_varint(&mut out, bytes.len() as u64);
        let begin = out.len();
        out.resize(begin + block::get_maximum_output_size(bytes.len()), 0);
        let done = out.get_mut(begin..).map(|room| block::compress_into(bytes, room));
        if let Some(Ok(length)) = done
            && begin + length < bytes.len()
        {
            out.truncate(begin + length);
            out.shrink_to_fit();
            return out;
        }
    }
    let mut out = Vec::with_capacity(bytes.len() + 1);
    out.push(PLAIN);
    out.extend(bytes);
    out
}

/// The bytes that were made smaller.
pub(super) fn unsqueeze(bytes: &[u8]) -> Result<Cow<'_, [u8]>, BadRecord> {
    match bytes.split_first() {
        Some((&PLAIN, plain)) => Ok(Cow::Borrowed(plain)),
        Some((&LZ4, rest)) => {
            let mut input = Reader::new(rest);
            let length = input.length()?;
            let block = input.rest();
            // A length that a damaged file makes up must not make us ask for all the memory there is.
            if length > block.len().saturating_mul(AT_MOST) {
                return Err(BadRecord);
            }
            let mut out = vec![0; length];
            match block::decompress_into(block, &mut out) {
                Ok(got) if got == length => Ok(Cow::Owned(out)),
                _ => Err(BadRecord),
            }
        }
        _ => Err(BadRecord),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_comes_back_and_nonsense_is_refused() {
        for bytes in [vec![], b"short".to_vec(), b"again and again, ".repeat(9), (0..=255).collect()] {
            let squeezed = squeeze(&bytes);
            assert!(squeezed.len() <= bytes.len() + 1);
            assert_eq!(unsqueeze(&squeezed).expect("ours").as_ref(), bytes);
        }
        for bytes in [&[][..], &[9], &[LZ4], &[LZ4, 0xff, 0xff, 0xff, 0xff, 0x0f, 1], &[LZ4, 4, 1]] {
            assert_eq!(unsqueeze(bytes), Err(BadRecord));
        }
    }
}
