//! Documents of a finished shard as a batch for another one: their tokens as they were indexed, without a tokenizer.
//!
//! Rewriting shards (merging them, leaving removed documents out) and subtracting removed text both need exactly the tokens the index
//! has, whatever became of the tokenizer's files since.

use std::collections::HashMap;

use super::Shard;
use super::build::Batch;
use crate::error::{Error, Result};
use crate::suffix::Token;
use crate::with_view;

/// The documents numbered `documents` with their tokens. Without `content` the batch has empty documents: only their tokens count.
///
/// Cost: reads the documents and their stretch of the token stream. Memory: both; callers pass some megabytes of documents at a time.
pub fn batch(shard: &Shard, documents: &[u32], content: bool) -> Result<Batch> {
    let mut batch = Batch {
        ends: Vec::with_capacity(documents.len()),
        detokenized: content && shard.meta.detokenized,
        ..Batch::default()
    };
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    for &document in documents {
        let bad = |what: &str| {
            let path = shard.dir.join(super::documents::DOCUMENTS_IDX);
            Error::corrupt(path, 0, format!("document {document}: {what}"))
        };
        let range = shard.documents.token_range(document).ok_or_else(|| bad("its token range is impossible"))?;
        // The last position is the separator's.
        if range.is_empty() {
            return Err(bad("it has no separator in the token stream"));
        }
        let from = batch.ids.len();
        with_view!(shard.exact, v => {
            let tokens = v.read(shard.tokens_of(document));
            batch.ids.extend(tokens.iter().map(|t| t.id()));
        });
        if let Some(terms) = &shard.terms {
            for id in &mut batch.ids[from..] {
                *id = match numbers.get(id) {
                    Some(&number) => number,
                    None => {
                        let term = terms.term(*id).ok_or_else(|| bad("one of its tokens is no term"))?;
                        let number = batch.terms.len() as u32;
                        batch.terms.push(term.to_string());
                        numbers.insert(*id, number);
                        number
                    }
                };
            }
        }
        batch.ends.push(batch.ids.len());
        batch.documents.push(if content { shard.documents.get(document)? } else { Default::default() });
    }
    Ok(batch)
}
