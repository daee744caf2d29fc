//! Printing: results to standard output in the asked format, words and progress bars to standard error.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::embed::alignment::AlignedToken;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// One JSON object a line
    Jsonl,
}

/// Writes bytes to standard output.
pub fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Prints a list of results: `json` as `{"results": [...]}`, `jsonl` one a line, `text` through `show`.
pub fn results<T: serde::Serialize>(format: Format, items: &[T], show: impl Fn(&T) -> String) -> anyhow::Result<()> {
    let mut out = Vec::new();
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "results": items }))?;
            out.push(b'\n');
        }
        Format::Jsonl => {
            for item in items {
                serde_json::to_writer(&mut out, item)?;
                out.push(b'\n');
            }
        }
        Format::Text => {
            for item in items {
                out.extend(show(item).trim_end().bytes());
                out.push(b'\n');
            }
        }
    }
    Ok(write(&out)?)
}

/// Prints one result: `json` pretty, `jsonl` on one line, `text` through `show`.
pub fn result<T: serde::Serialize>(format: Format, item: &T, show: impl Fn(&T) -> String) -> anyhow::Result<()> {
    if format == Format::Json {
        let mut out = serde_json::to_vec_pretty(item)?;
        out.push(b'\n');
        return Ok(write(&out)?);
    }
    results(format, std::slice::from_ref(item), show)
}

/// A progress bar over bytes on standard error; hidden when that is no terminal or `quiet`.
pub fn bar(total: u64, quiet: bool, what: &str) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let style =
        ProgressStyle::with_template("{prefix:.bold} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(what.to_string());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A progress bar over items.
pub fn counter(total: u64, quiet: bool, what: &str) -> ProgressBar {
    let bar = bar(total, quiet, what);
    if !bar.is_hidden() {
        let style =
            ProgressStyle::with_template("{prefix:.bold} {bar:30} {human_pos}/{human_len} {per_sec} eta {eta} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }
    bar
}

/// A number with thousands separators.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A size in decimal units.
pub fn bytes(n: u64) -> String {
    let (mut value, mut unit) = (n as f64, "B");
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

/// `text` on one line: white space folded, for showing context in a terminal.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The tokens of `text`, one a line, with the token of `passage` each matched and how strongly.
pub fn alignment(tokens: &[AlignedToken], text: &str, passage: &str) -> String {
    let part = |text: &str, bytes: Option<[usize; 2]>| {
        bytes.and_then(|[from, to]| text.get(from..to)).map_or_else(|| "(special)".to_string(), one_line)
    };
    let line = |t: &AlignedToken| {
        format!("       {:<16} {:<16} {:.2}\n", part(text, t.bytes), part(passage, t.matched), t.strength)
    };
    tokens.iter().map(line).collect()
}
