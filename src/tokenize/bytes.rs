//! The `bytes` tokenizer: every byte of the UTF-8 text is a token, its id is its value.
//!
//! UTF-8 never contains the byte `0xFF` (nor `0xC0`, `0xC1`, `0xF5..=0xFE`), so a byte stream keeps id 255 free for the
//! document separator and still fits one byte per token. Cost: a copy.

use super::{ByteSpan, IdTokenizer, ceil_char_boundary, check_length, floor_char_boundary};
use crate::error::Result;

/// The rule hashed into the spec.
pub(super) const RULE: &str = "priorart bytes 1";

/// One byte a token.
static ENDS: [u32; 256] = {
    let mut ends = [0; 256];
    let mut id = 0;
    while id < 256 {
        ends[id] = id as u32 + 1;
        id += 1;
    }
    ends
};

/// See the module's documentation.
#[derive(Debug, Clone, Copy, Default)]
pub struct BytesTokenizer;

impl IdTokenizer for BytesTokenizer {
    fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        out.extend(text.bytes().map(u32::from));
        Ok(())
    }

    fn encode_spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<ByteSpan>) -> Result<()> {
        check_length(text)?;
        ids.extend(text.bytes().map(u32::from));
        spans.reserve(text.len());
        for at in 0..text.len() {
            let start = floor_char_boundary(text, at) as u32;
            spans.push(ByteSpan { start, end: ceil_char_boundary(text, at + 1) as u32 });
        }
        Ok(())
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        u8::try_from(id).ok().map(|byte| vec![byte])
    }

    fn text_ends(&self) -> Option<&[u32]> {
        Some(&ENDS)
    }

    fn vocab(&self) -> u32 {
        256
    }

    /// Bytes of `0x80` and above belong to a multi-byte character, of which one byte cannot tell whether it is a letter;
    /// they count as letters.
    fn begins_word(&self, id: u32) -> bool {
        u8::try_from(id).is_ok_and(|byte| byte < 0x80 && !byte.is_ascii_alphanumeric())
    }
}
