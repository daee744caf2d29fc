//! Taking over what another program has built, in place: a new generation whose new shards are read where they lie.

use std::path::Path;

use super::{IndexDir, Manifest, PartEntry};
use crate::error::{Error, Result};
use crate::shard::infinigram;
use crate::shard::{SHARD_JSON, ShardMeta};
use crate::tokenize::{Tokenizer, TokenizerKind};

/// The widths that infini-gram knows, the likeliest first.
const WIDTHS: [u8; 3] = [2, 4, 1];

/// The shards of the infini-gram index (version 4) in `directory`, described as shards of ours; nothing is written. Without a `tokenizer`
/// its tokens are ids and nothing else; without a `width` the one that fits is taken.
///
/// # Errors
/// No such index, an open vocabulary, files that contradict each other.
pub fn describe(
    directory: &Path,
    tokenizer: Option<&Tokenizer>,
    width: Option<u8>,
) -> Result<(Tokenizer, Vec<ShardMeta>)> {
    if tokenizer.is_some_and(|t| matches!(t.kind, TokenizerKind::Open(_))) {
        return Err(Error::invalid_hint(
            "the tokenizer `words` gives no ids, and an index of infini-gram has nothing else",
            "name the tokenizer that made the ids, or none",
        ));
    }
    let names = infinigram::shards(directory)?;
    let first = names.first().map_or("", String::as_str);
    let opened = |width: u8| match tokenizer {
        Some(t) => Tokenizer::from_spec(&t.spec),
        None => Ok(Tokenizer::ids(u32::MAX >> (32 - 8 * u32::from(width)))),
    };
    let width = match width {
        Some(width) => width,
        None => {
            let fits = |w: u8| opened(w).and_then(|t| infinigram::describe(directory, first, w, &t));
            match WIDTHS.into_iter().find(|&w| fits(w).is_ok()) {
                Some(width) => width,
                None => fits(WIDTHS[0]).map(|_| WIDTHS[0])?,
            }
        }
    };
    let tokenizer = opened(width)?;
    let shards = names.iter().map(|name| infinigram::describe(directory, name, width, &tokenizer));
    let shards = shards.collect::<Result<Vec<_>>>()?;
    Ok((tokenizer, shards))
}

/// Publishes a generation that has `shards` besides what the index has already.
///
/// # Errors
/// An index of another tokenizer; another writer.
pub fn import(index: &IndexDir, shards: &[ShardMeta]) -> Result<Manifest> {
    let mut tx = index.begin()?;
    let mut next = tx.manifest().clone();
    for meta in shards {
        next.tokenizer.check(&meta.tokenizer)?;
        let id = tx.next_id();
        let dir = tx.new_shard_dir(&id)?;
        // The same identity, whichever path its file has been named by.
        let meta = ShardMeta { tokenizer: next.tokenizer.clone(), ..meta.clone() };
        let json = serde_json::to_vec_pretty(&meta).map_err(|e| Error::invalid(format!("shard description: {e}")))?;
        tx.store().write_file(&dir.join(SHARD_JSON), &json)?;
        next.shards.push(PartEntry::new(id, meta.documents, meta.tokens, meta.text_bytes));
    }
    tx.publish(next)
}
