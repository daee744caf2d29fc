//! `index-tools import`: take over what another program has built.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use priorart::index::IndexDir;
use priorart::index::build::seed;
use priorart::index::import::{describe, import};
use priorart::tokenize::Tokenizer;
use priorart::{Error, Result};

/// Take over an index that another program has built.
#[derive(Subcommand)]
pub enum Import {
    InfiniGram(InfiniGram),
}

impl Import {
    pub fn run(self) -> Result<ExitCode> {
        match self {
            Import::InfiniGram(arguments) => arguments.run(),
        }
    }
}

/// Open an index of infini-gram (version 4) in place, as read-only shards: nothing is rebuilt or copied.
///
/// The directory must stay where it is and as it is. Documents show their tokens' bytes laid end to end, which for a byte-level tokenizer is the
/// original text. The index IX is created, or gets the shards added if it has the same tokenizer.
#[derive(Args)]
pub struct InfiniGram {
    /// The directory with tokenized.0, table.0, offset.0
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The index that takes the shards
    #[arg(long, env = "PRIORART_INDEX", value_name = "IX")]
    index: PathBuf,
    /// The tokenizer that made the tokens: bytes, gpt2, cl100k, o200k or the path of a tokenizer.json; without it queries are
    /// token ids
    #[arg(long, value_name = "NAME")]
    tokenizer: Option<String>,
    /// Bytes of a token: 1, 2 or 4 [default: what fits]
    #[arg(long, value_name = "N")]
    token_width: Option<u8>,
}

impl InfiniGram {
    fn run(self) -> Result<ExitCode> {
        let named = self.tokenizer.as_deref().map(Tokenizer::open).transpose()?;
        let (tokenizer, shards) = describe(&self.directory, named.as_ref(), self.token_width)?;
        let index = match IndexDir::open(&self.index) {
            Ok(index) => index,
            Err(Error::Invalid { .. }) => IndexDir::create(&self.index, seed(&tokenizer))?,
            Err(e) => return Err(e),
        };
        let published = import(&index, &shards)?;
        let (tokens, documents) = shards.iter().fold((0, 0), |(t, d), s| (t + s.tokens, d + s.documents));
        println!(
            "generation {}: imported {} shards in place, {documents} documents, {tokens} tokens ({})",
            published.generation,
            shards.len(),
            published.tokenizer.kind
        );
        Ok(ExitCode::SUCCESS)
    }
}
