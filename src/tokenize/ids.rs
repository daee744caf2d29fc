//! The `ids` tokenizer: a text is token ids in decimal, separated by white space. For token streams whose tokenizer is not at hand.
//!
//! Every id is its own token, and its "bytes" are its digits behind a space, so that the text of a document is the list of its ids.

use super::{ByteSpan, IdTokenizer, check_length};
use crate::error::{Error, Result};

/// The rule hashed into the spec.
pub(super) const RULE: &str = "priorart ids 1";

/// See the module's documentation.
#[derive(Debug, Clone, Copy)]
pub struct IdsTokenizer {
    /// One more than the largest id.
    pub vocab: u32,
}

impl IdsTokenizer {
    fn parse(&self, word: &str) -> Result<u32> {
        word.parse().ok().filter(|&id| id < self.vocab).ok_or_else(|| {
            Error::invalid_hint(
                format!("{word:?} is no token id below {}", self.vocab),
                "this index has ids and no tokenizer: write queries as decimal ids with spaces between them",
            )
        })
    }
}

impl IdTokenizer for IdsTokenizer {
    fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        for word in text.split_whitespace() {
            out.push(self.parse(word)?);
        }
        Ok(())
    }

    fn encode_spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<ByteSpan>) -> Result<()> {
        check_length(text)?;
        for word in text.split_whitespace() {
            ids.push(self.parse(word)?);
            // `word` is a part of `text`.
            let start = word.as_ptr() as usize - text.as_ptr() as usize;
            spans.push(ByteSpan { start: start as u32, end: (start + word.len()) as u32 });
        }
        Ok(())
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        (id < self.vocab).then(|| format!(" {id}").into_bytes())
    }

    fn vocab(&self) -> u32 {
        self.vocab
    }

    fn begins_word(&self, _: u32) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_its_ids() {
        let ids = IdsTokenizer { vocab: 65_535 };
        let (mut out, mut spans) = (Vec::new(), Vec::new());
        ids.encode_spans(" 12 0\n65534", &mut out, &mut spans).unwrap();
        assert_eq!(out, [12, 0, 65_534]);
        assert_eq!(spans[2], ByteSpan { start: 6, end: 11 });
        assert_eq!(super::super::detokenize(&ids, &out), " 12 0 65534");
        for wrong in ["the", "65535", "-1", "1.0"] {
            assert!(ids.encode(wrong, &mut Vec::new()).is_err(), "{wrong}");
        }
        assert_eq!(ids.token_bytes(65_535), None);
    }
}
