//! `count`, `find`, `next`, `trace`: exact queries.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::input;
use super::output::{self, number, one_line};
use super::{Format, Global, Outcome};
use crate::error::Error;
use crate::index::Snapshot;
use crate::query::Ngram;
use crate::query::boolean::Expression;
use crate::query::find::{FindOptions, Found};
use crate::query::next::Distribution;
use crate::query::trace::{Rank, Trace, TraceOptions};

/// A boolean combination instead of plain n-grams.
#[derive(Debug, Clone, Args)]
pub struct BooleanArgs {
    /// Documents with every one of the n-grams
    #[arg(long, conflicts_with_all = ["any", "expression"])]
    all: bool,
    /// Documents with any of the n-grams
    #[arg(long, conflicts_with = "expression")]
    any: bool,
    /// Read each query as an expression: "a b" AND ("c" OR "d")
    #[arg(long)]
    expression: bool,
    /// The n-grams must stand within this many tokens of each other, not just in one document
    #[arg(long, value_name = "TOKENS")]
    window: Option<usize>,
}

impl BooleanArgs {
    /// The expressions asked for, each with its text; none if these are plain n-grams.
    fn expressions(&self, snapshot: &Snapshot, queries: &[String]) -> anyhow::Result<Vec<(String, Expression)>> {
        let ngrams = || queries.iter().map(|q| snapshot.ngram(q)).collect::<crate::Result<Vec<Ngram>>>();
        let quoted =
            |word: &str| queries.iter().map(|q| format!("{q:?}")).collect::<Vec<_>>().join(&format!(" {word} "));
        Ok(if self.all {
            vec![(quoted("AND"), Expression::all(ngrams()?))]
        } else if self.any {
            vec![(quoted("OR"), Expression::any(ngrams()?))]
        } else if self.expression {
            queries
                .iter()
                .map(|q| Ok((q.clone(), Expression::parse(snapshot, q)?)))
                .collect::<crate::Result<Vec<_>>>()?
        } else {
            if self.window.is_some() {
                return Err(Error::invalid_hint(
                    "--window needs --all, --any or --expression",
                    "a single n-gram has no window",
                )
                .into());
            }
            Vec::new()
        })
    }
}

/// Queries given as arguments, from a file, or from standard input.
fn queries(given: &[String], file: &Option<PathBuf>) -> anyhow::Result<Vec<String>> {
    let mut out = given.to_vec();
    if let Some(path) = file {
        out.extend(input::lines(path)?);
    }
    if out.is_empty() {
        return Err(Error::invalid_hint(
            "there is no query",
            "give one or more queries, or --queries-file FILE with one a line",
        )
        .into());
    }
    Ok(out)
}

/// Says what an answer to a query without tokens means.
fn note_empty(global: &Global, queries: &[String], ngrams: &[Ngram], meaning: &str) {
    if let (false, Some((query, _))) = (global.quiet, queries.iter().zip(ngrams).find(|(_, n)| n.is_empty())) {
        eprintln!("note: {query:?} has no tokens; {meaning}");
    }
}

#[derive(Debug, Args)]
pub struct CountArgs {
    /// N-grams, as text
    #[arg(value_name = "NGRAM")]
    queries: Vec<String>,
    /// File with one query a line; - for standard input
    #[arg(long, value_name = "FILE")]
    queries_file: Option<PathBuf>,
    #[command(flatten)]
    boolean: BooleanArgs,
    /// Exit with 1 if anything occurs
    #[arg(long)]
    check: bool,
}

#[derive(serde::Serialize)]
struct CountRow<'a> {
    query: &'a str,
    /// Tokens of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<usize>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<u64>,
    approximate: bool,
}

pub fn count(global: &Global, args: CountArgs) -> anyhow::Result<Outcome> {
    let snapshot = global.snapshot()?;
    let queries = queries(&args.queries, &args.queries_file)?;
    let expressions = args.boolean.expressions(&snapshot, &queries)?;
    let mut rows = Vec::new();
    if expressions.is_empty() {
        let ngrams = queries.iter().map(|q| snapshot.ngram(q)).collect::<crate::Result<Vec<_>>>()?;
        note_empty(global, &queries, &ngrams, "the empty n-gram occurs at every token");
        for ((query, ngram), count) in queries.iter().zip(&ngrams).zip(snapshot.counts(&ngrams)) {
            rows.push(CountRow { query, tokens: Some(ngram.len()), count, documents: None, approximate: false });
        }
    } else {
        for (query, expression) in &expressions {
            let c = snapshot.boolean_count(expression, args.boolean.window)?;
            rows.push(CountRow {
                query,
                tokens: None,
                count: c.count,
                documents: Some(c.documents),
                approximate: c.approximate,
            });
        }
    }
    output::results(global.format(), &rows, |r| match r.documents {
        Some(d) => format!("{:>14}  in {} documents  {}", number(r.count), number(d), r.query),
        None => format!("{:>14}  {}", number(r.count), r.query),
    })?;
    Ok(if args.check && rows.iter().any(|r| r.count > 0) { Outcome::Findings } else { Outcome::Done })
}

#[derive(Debug, Args)]
pub struct FindArgs {
    /// N-grams, as text
    #[arg(value_name = "NGRAM")]
    queries: Vec<String>,
    /// File with one query a line; - for standard input
    #[arg(long, value_name = "FILE")]
    queries_file: Option<PathBuf>,
    #[command(flatten)]
    boolean: BooleanArgs,
    /// Documents to show
    #[arg(long, default_value_t = 10, value_name = "N")]
    limit: usize,
    /// Documents to skip
    #[arg(long, default_value_t = 0, value_name = "N")]
    offset: usize,
    /// Occurrences to show in a document
    #[arg(long, default_value_t = 3, value_name = "N")]
    per_document: usize,
    /// Characters of text to show on either side
    #[arg(long, default_value_t = 80, value_name = "N")]
    context: usize,
    /// Stream every document, one JSON object a line, in bounded memory
    #[arg(long, conflicts_with_all = ["all", "any", "expression", "window", "limit", "offset"])]
    all_documents: bool,
    /// Exit with 1 if anything is found
    #[arg(long)]
    check: bool,
}

#[derive(serde::Serialize)]
struct StreamedRow<'a> {
    query: &'a str,
    #[serde(flatten)]
    found: crate::query::find::FoundDocument,
}

/// Prints every document of each query as it is found.
fn stream(
    global: &Global,
    snapshot: &Snapshot,
    queries: &[String],
    options: &FindOptions,
    check: bool,
) -> anyhow::Result<Outcome> {
    if global.format() == Format::Json {
        return Err(Error::invalid_hint(
            "--all-documents has no end that one JSON document could wait for",
            "use --format jsonl",
        )
        .into());
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut documents = 0u64;
    for query in queries {
        let ngram = snapshot.ngram(query)?;
        snapshot.each_document(&ngram, options, |found| -> anyhow::Result<()> {
            documents += 1;
            serde_json::to_writer(&mut out, &StreamedRow { query, found })?;
            out.write_all(b"\n")?;
            Ok(())
        })?;
    }
    out.flush()?;
    if !global.quiet {
        eprintln!("{} documents", number(documents));
    }
    Ok(if check && documents > 0 { Outcome::Findings } else { Outcome::Done })
}

#[derive(serde::Serialize)]
struct FindRow<'a> {
    query: &'a str,
    #[serde(flatten)]
    found: Found,
}

pub fn find(global: &Global, args: FindArgs) -> anyhow::Result<Outcome> {
    let snapshot = global.snapshot()?;
    let options =
        FindOptions { offset: args.offset, limit: args.limit, per_document: args.per_document, context: args.context };
    let queries = queries(&args.queries, &args.queries_file)?;
    if args.all_documents {
        return stream(global, &snapshot, &queries, &options, args.check);
    }
    let expressions = args.boolean.expressions(&snapshot, &queries)?;
    let mut rows = Vec::new();
    if expressions.is_empty() {
        let ngrams = queries.iter().map(|q| snapshot.ngram(q)).collect::<crate::Result<Vec<_>>>()?;
        note_empty(global, &queries, &ngrams, "it is found nowhere");
        for (query, found) in queries.iter().zip(snapshot.finds(&ngrams, &options)?) {
            rows.push(FindRow { query, found });
        }
    } else {
        for (query, expression) in &expressions {
            rows.push(FindRow { query, found: snapshot.boolean_find(expression, args.boolean.window, &options)? });
        }
    }
    output::results(global.format(), &rows, |r| {
        let f = &r.found;
        let mut out = format!("{}: {} occurrences in {} documents\n", r.query, number(f.count), number(f.documents));
        for d in &f.found {
            out += &format!("\n  {}  ({}, record {}; {} here)\n", d.id, d.path, d.record, number(d.count));
            for o in &d.occurrences {
                out += &format!(
                    "    bytes {}..{}  {} [{}] {}\n",
                    o.start_byte,
                    o.end_byte,
                    one_line(&o.before),
                    one_line(&o.text),
                    one_line(&o.after)
                );
            }
        }
        if let Some(next) = f.next_offset {
            out += &format!("\n  more: --offset {next}\n");
        }
        out
    })?;
    Ok(if args.check && rows.iter().any(|r| r.found.count > 0) { Outcome::Findings } else { Outcome::Done })
}

#[derive(Debug, Args)]
pub struct NextArgs {
    /// The prompt, as text; empty for unigram counts
    #[arg(value_name = "PROMPT", required_unless_present = "queries_file")]
    prompt: Option<String>,
    /// File with one prompt a line instead; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "continuation"])]
    queries_file: Option<PathBuf>,
    /// Tokens to show; 0 for all
    #[arg(short = 'k', long, default_value_t = 10, value_name = "N")]
    top_k: usize,
    /// Use the longest suffix of the prompt that occurs (∞-gram)
    #[arg(long)]
    infgram: bool,
    /// Probability of this continuation, token by token, instead of a distribution
    #[arg(long, value_name = "TEXT")]
    continuation: Option<String>,
}

#[derive(serde::Serialize)]
struct NextRow<'a> {
    query: &'a str,
    #[serde(flatten)]
    distribution: Distribution,
}

pub fn next(global: &Global, args: NextArgs) -> anyhow::Result<Outcome> {
    let snapshot = global.snapshot()?;
    if let (Some(text), Some(prompt)) = (&args.continuation, &args.prompt) {
        return continuation(global, &snapshot, prompt, text, args.infgram);
    }
    let prompts = match &args.queries_file {
        Some(path) => input::lines(path)?,
        None => args.prompt.iter().cloned().collect(),
    };
    let ngrams = prompts.iter().map(|p| snapshot.ngram(p)).collect::<crate::Result<Vec<_>>>()?;
    let found = match args.infgram {
        true => snapshot.infgram_nexts(&ngrams, args.top_k),
        false => snapshot.nexts(&ngrams, args.top_k),
    };
    let rows: Vec<NextRow> =
        prompts.iter().zip(found).map(|(query, distribution)| NextRow { query, distribution }).collect();
    let show = |row: &NextRow| {
        let d = &row.distribution;
        let mut out = format!(
            "after {} tokens that occur {} times: {} distinct tokens",
            d.effective_n,
            number(d.prompt_count),
            number(d.distinct as u64)
        );
        if d.end_of_document > 0 {
            out += &format!(", the end of a document {} times", number(d.end_of_document));
        }
        out.push('\n');
        for t in &d.tokens {
            out += &format!("{:>14}  {:.4}  {:?}\n", number(t.count), t.probability, t.token);
        }
        out
    };
    match (&args.queries_file, rows.as_slice()) {
        (None, [row]) => output::result(global.format(), row, show)?,
        _ => output::results(global.format(), &rows, |row| format!("{}: {}", row.query, show(row)))?,
    }
    Ok(Outcome::Done)
}

#[derive(serde::Serialize)]
struct Continued {
    token: String,
    #[serde(flatten)]
    probability: Option<crate::query::next::Probability>,
}

fn continuation(
    global: &Global,
    snapshot: &Snapshot,
    prompt: &str,
    text: &str,
    infgram: bool,
) -> anyhow::Result<Outcome> {
    let whole = format!("{prompt}{text}");
    let joined = snapshot.tokenize(&whole)?;
    let start = snapshot.ngram(prompt)?.len().min(joined.tokens.len());
    let rows: Vec<Continued> = (start..joined.tokens.len())
        .map(|i| {
            let (prompt, token) = (joined.tokens.slice(0..i), joined.tokens.slice(i..i + 1));
            let probability = if infgram {
                snapshot.infgram_probability(&prompt, &token)
            } else {
                snapshot.probability(&prompt, &token)
            };
            let span = joined.spans[i];
            Continued { token: whole[span.start as usize..span.end as usize].to_string(), probability }
        })
        .collect();
    output::results(global.format(), &rows, |r| match &r.probability {
        Some(p) => format!(
            "{:.6}  n={}  {} of {}  {:?}",
            p.probability,
            p.effective_n,
            number(p.count),
            number(p.prompt_count),
            r.token
        ),
        None => format!("undefined: the prompt does not occur  {:?}", r.token),
    })?;
    Ok(Outcome::Done)
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The text to trace, or --file
    #[arg(value_name = "TEXT", required_unless_present_any = ["file", "queries_file"])]
    text: Option<String>,
    /// Read the text from a file; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// File with one text a line instead; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "file"])]
    queries_file: Option<PathBuf>,
    /// Shortest span, in tokens
    #[arg(long, default_value_t = 4, value_name = "TOKENS")]
    min_tokens: usize,
    /// Drop spans that occur more often than this
    #[arg(long, value_name = "N")]
    max_count: Option<u64>,
    /// Keep the best ⌈D × tokens⌉ spans
    #[arg(long, value_name = "D")]
    density: Option<f64>,
    /// What makes a span the best
    #[arg(long, value_enum, default_value_t = Rank::Length)]
    rank: Rank,
    /// Spans end at this text; repeatable
    #[arg(long, value_name = "TEXT")]
    delimiter: Vec<String>,
    /// Spans begin and end where words do
    #[arg(long)]
    whole_words: bool,
    /// Documents to show for a span
    #[arg(long, default_value_t = 3, value_name = "N")]
    documents: usize,
    /// Characters of text to show on either side
    #[arg(long, default_value_t = 60, value_name = "N")]
    context: usize,
    /// Exit with 1 if any span is found
    #[arg(long)]
    check: bool,
}

pub fn trace(global: &Global, args: TraceArgs) -> anyhow::Result<Outcome> {
    let snapshot = global.snapshot()?;
    let texts = match (&args.text, &args.file, &args.queries_file) {
        (Some(t), _, _) => vec![t.clone()],
        (None, Some(path), _) => vec![input::text(path)?],
        (None, None, Some(path)) => input::lines(path)?,
        (None, None, None) => Vec::new(),
    };
    if let Some(d) = args.density
        && !(d > 0.0 && d.is_finite())
    {
        return Err(Error::invalid(format!("--density {d}: it must be above 0")).into());
    }
    let options = TraceOptions {
        min_tokens: args.min_tokens,
        max_count: args.max_count,
        density: args.density,
        rank: args.rank,
        delimiters: args.delimiter,
        whole_words: args.whole_words,
        documents_per_span: args.documents,
        context: args.context,
        ..TraceOptions::default()
    };
    let traces = snapshot.traces(&texts, &options)?;
    let show = |t: &Trace| {
        let share = |n: usize| t.coverage.iter().find(|c| c.0 == n).map_or(0.0, |c| c.1 * 100.0);
        let longest = t.longest.iter().max().copied().unwrap_or(0);
        let mut out = format!(
            "{} tokens; longest match {longest}; in matches of ≥ 5 tokens {:.0} %, ≥ 8 {:.0} %, ≥ 20 {:.0} %; creativity index {:.2}\n",
            t.tokens,
            share(5),
            share(8),
            share(20),
            t.creativity_index
        );
        if t.spans.is_empty() {
            out += &format!(
                "no span of {} or more tokens occurs in generation {} ({} documents): an exact answer\n",
                options.min_tokens,
                snapshot.manifest.generation,
                number(snapshot.manifest.corpus.documents)
            );
        }
        for s in &t.spans {
            out += &format!("\n{} tokens, {} times: {}\n", s.right - s.left, number(s.count), one_line(&s.text));
            for d in &s.documents {
                for o in &d.occurrences {
                    out += &format!(
                        "    {} ({}): {} [{}] {}\n",
                        d.id,
                        d.path,
                        one_line(&o.before),
                        one_line(&o.text),
                        one_line(&o.after)
                    );
                }
            }
        }
        out
    };
    match (&args.queries_file, traces.as_slice()) {
        (None, [trace]) => output::result(global.format(), trace, show)?,
        _ => output::results(global.format(), &traces, show)?,
    }
    Ok(if args.check && traces.iter().any(|t| !t.spans.is_empty()) { Outcome::Findings } else { Outcome::Done })
}
