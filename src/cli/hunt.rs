//! `cooccur` and `hunt`: phrases that stand together, and what stands around a trigger.

use std::path::PathBuf;

use clap::Args;

use super::output::{self, number, one_line};
use super::{Format, Global, Outcome, input};
use crate::error::Error;
use crate::query::Ngram;
use crate::query::cooccur::Cooccurrence;
use crate::query::hunt::{Hunt, HuntOptions};

#[derive(Debug, Args)]
pub struct CooccurArgs {
    /// File with two phrases a line, separated by a tab; - for standard input
    #[arg(value_name = "PAIRS.tsv")]
    pairs: PathBuf,
    /// Count also within this many tokens; repeatable
    #[arg(long, value_name = "TOKENS", value_delimiter = ',')]
    window: Vec<usize>,
    /// Exit with 1 if any pair stands together in a document
    #[arg(long)]
    check: bool,
}

#[derive(serde::Serialize)]
struct Row<'a> {
    pair: [&'a str; 2],
    #[serde(flatten)]
    found: Cooccurrence,
}

pub fn cooccur(global: &Global, args: CooccurArgs) -> anyhow::Result<Outcome> {
    let snapshot = global.snapshot()?;
    let lines = input::lines(&args.pairs)?;
    let mut pairs: Vec<[&str; 2]> = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            &[a, b] => pairs.push([a, b]),
            fields => {
                return Err(Error::invalid_hint(
                    format!("{}: pair {}: {} fields, not two", args.pairs.display(), at + 1, fields.len()),
                    "write two phrases a line with one tab between them",
                )
                .into());
            }
        }
    }
    if pairs.is_empty() {
        return Err(Error::invalid_hint(
            format!("{}: there is no pair", args.pairs.display()),
            "write two phrases a line with one tab between them",
        )
        .into());
    }
    let ngrams: Vec<[Ngram; 2]> =
        pairs.iter().map(|[a, b]| Ok([snapshot.ngram(a)?, snapshot.ngram(b)?])).collect::<crate::Result<_>>()?;
    let found = snapshot.cooccurrences(&ngrams, &args.window)?;
    let rows: Vec<Row> = pairs.iter().zip(found).map(|(&pair, found)| Row { pair, found }).collect();
    if global.format() == Format::Text {
        let mut head =
            String::from("first\tsecond\tcount_first\tcount_second\tdocuments_first\tdocuments_second\tdocuments_both");
        for w in &args.window {
            head += &format!("\tcount_within_{w}\tdocuments_within_{w}");
        }
        output::write(format!("{head}\n").as_bytes())?;
    }
    // Phrases hold no tabs, so the lines are a table that other programs read.
    output::results(global.format(), &rows, |r| {
        let f = &r.found;
        let mut line = format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            r.pair[0], r.pair[1], f.counts[0], f.counts[1], f.documents[0], f.documents[1], f.both
        );
        for w in &f.windows {
            line += &format!("\t{}\t{}", w.count, w.documents);
        }
        line
    })?;
    Ok(if args.check && rows.iter().any(|r| r.found.both > 0) { Outcome::Findings } else { Outcome::Done })
}

#[derive(Debug, Args)]
pub struct HuntArgs {
    /// The trigger, as text
    #[arg(value_name = "TRIGGER")]
    trigger: String,
    /// Tokens to look at on either side of the trigger
    #[arg(long, default_value_t = 5, value_name = "TOKENS")]
    reach: usize,
    /// Leave out n-grams that occur less often
    #[arg(long, default_value_t = 2, value_name = "N")]
    min_count: u64,
    /// Leave out n-grams that occur more often
    #[arg(long, value_name = "N")]
    max_count: Option<u64>,
    /// N-grams to show
    #[arg(short = 'k', long, default_value_t = 20, value_name = "N")]
    limit: usize,
    /// Refuse a trigger that occurs more often than this
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    max_occurrences: usize,
    /// Exit with 1 if the trigger occurs
    #[arg(long)]
    check: bool,
}

#[derive(serde::Serialize)]
struct HuntRow<'a> {
    trigger: &'a str,
    #[serde(flatten)]
    hunt: Hunt,
}

pub fn hunt(global: &Global, args: HuntArgs) -> anyhow::Result<Outcome> {
    let snapshot = global.snapshot()?;
    let options = HuntOptions {
        reach: args.reach,
        min_count: args.min_count,
        max_count: args.max_count,
        limit: args.limit,
        max_occurrences: args.max_occurrences,
    };
    let row = HuntRow { trigger: &args.trigger, hunt: snapshot.hunt(&snapshot.ngram(&args.trigger)?, &options)? };
    output::result(global.format(), &row, |row| {
        let h = &row.hunt;
        let mut out = format!(
            "{}: {} occurrences in {} documents, {:.1} times as many a document as by chance; {} n-grams around it\n",
            row.trigger,
            number(h.count),
            number(h.documents),
            h.burstiness,
            number(h.distinct as u64)
        );
        for n in &h.ngrams {
            out += &format!(
                "{:>9.1}x  {:>9} in {:>7} documents  {}  (first: {})\n",
                n.burstiness,
                number(n.count),
                number(n.documents),
                one_line(&n.text),
                n.first_id
            );
        }
        out
    })?;
    Ok(if args.check && row.hunt.count > 0 { Outcome::Findings } else { Outcome::Done })
}
