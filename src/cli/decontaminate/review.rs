//! `decontaminate review`: steps through the cases of a report in a terminal and records labels.
//!
//! Plain prompts and plain text: one line is read per case, so it works over any connection, with a screen reader, and from a
//! pipe. What matches is coloured on a terminal that has colours, and in « » elsewhere. Every label is in the file before the next
//! case is shown.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::report::rows;
use crate::cli::Outcome;
use crate::cli::output::number;
use crate::decontaminate::labels::{Label, Labelled, Labels};
use crate::decontaminate::run::Row;
use crate::decontaminate::{Level, Protocol};
use crate::error::{Error, Result};
use crate::report::marks::marked;

/// Bytes shown of a text.
const TEXT: usize = 3000;

#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// The report.jsonl of a run, or the directory it is in
    report: PathBuf,
    /// File the labels are appended to [default: labels.jsonl beside the report]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Only what this protocol calls suspect or dirty
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// Only items of this benchmark
    #[arg(long, value_name = "NAME")]
    benchmark: Option<String>,
    /// Only dirty cases
    #[arg(long)]
    dirty: bool,
    /// Show cases that have a label, too
    #[arg(long)]
    all: bool,
}

/// The report file that a path names.
pub(super) fn report_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("report.jsonl") } else { path.to_path_buf() }
}

pub(super) fn review(args: &ReviewArgs) -> anyhow::Result<Outcome> {
    let report = report_file(&args.report);
    let path = args.labels.clone().unwrap_or_else(|| report.with_file_name("labels.jsonl"));
    let mut labels = if path.exists() { Labels::read(&path)? } else { Labels::default() };
    let protocol = match &args.protocol {
        Some(name) => Protocol::parse_list(name)?.first().copied(),
        None => None,
    };
    let level = |row: &Row| match protocol {
        Some(p) => row.verdicts.get(&p).map_or(Level::Clean, |v| v.level),
        None => row.level,
    };
    let least = if args.dirty { Level::Dirty } else { Level::Suspect };
    let mut cases = Vec::new();
    for row in rows(&report)? {
        let row = row?;
        let wanted = level(&row) >= least && args.benchmark.as_ref().is_none_or(|b| *b == row.eval_key);
        let open = args.all || labels.get(&row.document_hash, &row.eval_key, &row.eval_instance_index).is_none();
        if wanted && open {
            cases.push(row);
        }
    }
    // The gravest first, and within a level the surest.
    cases.sort_by(|a, b| level(b).cmp(&level(a)).then(b.contamination_score.total_cmp(&a.contamination_score)));
    let style =
        Style { colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) };
    let said = step_through(&cases, &mut labels, &path, &mut std::io::stdin().lock(), &mut std::io::stdout(), style)?;
    eprintln!(
        "{} accepted, {} rejected, {} left; labels are in {}, for `priorart decontaminate --labels {}`",
        number(said.accepted),
        number(said.rejected),
        number(said.left),
        path.display(),
        path.display()
    );
    Ok(Outcome::Done)
}

/// What was said of the cases shown.
#[derive(Debug, Default, PartialEq)]
struct Said {
    accepted: u64,
    rejected: u64,
    left: u64,
}

/// Asks for each case until there is none, the input ends or the reviewer does.
fn step_through(
    cases: &[Row],
    labels: &mut Labels,
    path: &Path,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    style: Style,
) -> Result<Said> {
    let told = |e| Error::io("standard output", "write")(e);
    let (mut at, mut line) = (0, String::new());
    while let Some(row) = cases.get(at) {
        write!(out, "{}", style.case(row, at, cases.len(), label_of(labels, row))).map_err(told)?;
        loop {
            write!(out, "[a]ccept, it is a leak  [r]eject, it is none  [s]kip  [b]ack  [q]uit: ").map_err(told)?;
            out.flush().map_err(told)?;
            line.clear();
            if input.read_line(&mut line).map_err(Error::io("standard input", "read"))? == 0 {
                writeln!(out).map_err(told)?;
                return Ok(counts(cases, labels));
            }
            match line.trim().to_ascii_lowercase().as_str() {
                "a" | "accept" => keep(labels, path, row, Label::Accept)?,
                "r" | "reject" => keep(labels, path, row, Label::Reject)?,
                "s" | "skip" => {}
                "b" | "back" => {
                    at = at.saturating_sub(1);
                    break;
                }
                "q" | "quit" => return Ok(counts(cases, labels)),
                other => {
                    writeln!(out, "`{other}` is none of a, r, s, b, q").map_err(told)?;
                    continue;
                }
            }
            at += 1;
            break;
        }
    }
    writeln!(out, "no more cases").map_err(told)?;
    Ok(counts(cases, labels))
}

fn label_of(labels: &Labels, row: &Row) -> Option<Label> {
    labels.get(&row.document_hash, &row.eval_key, &row.eval_instance_index)
}

fn counts(cases: &[Row], labels: &Labels) -> Said {
    let mut said = Said::default();
    for row in cases {
        match label_of(labels, row) {
            Some(Label::Accept) => said.accepted += 1,
            Some(Label::Reject) => said.rejected += 1,
            None => said.left += 1,
        }
    }
    said
}

/// Appends a label to the file and honours it from now on.
fn keep(labels: &mut Labels, path: &Path, row: &Row, label: Label) -> Result<()> {
    let labelled = Labelled {
        document_hash: Some(row.document_hash.clone()),
        eval_key: row.eval_key.clone(),
        eval_instance_index: row.eval_instance_index.clone(),
        label: Some(label),
        document_id: Some(row.document_id.clone()),
    };
    let mut line = serde_json::to_vec(&labelled).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path, "open"))?;
    file.write_all(&line).and_then(|()| file.sync_data()).map_err(Error::io(path, "write"))?;
    labels.insert(labelled);
    Ok(())
}

/// How matches are shown.
#[derive(Clone, Copy)]
struct Style {
    colour: bool,
}

impl Style {
    fn case(self, row: &Row, at: usize, of: usize, label: Option<Label>) -> String {
        let by: Vec<&str> =
            row.verdicts.iter().filter(|(_, v)| v.level > Level::Clean).map(|(p, _)| p.name()).collect();
        let parts: Vec<String> = row
            .components
            .iter()
            .map(|c| {
                format!("{} {:.0} % ({} of {} words)", c.component.name(), 100.0 * c.coverage, c.matched_words, c.words)
            })
            .collect();
        let (item, document) = spans(row);
        let label = label.map_or_else(String::new, |l| format!(", labelled {}", l.name()));
        format!(
            "\n--- {} of {of}: {} score {:.2}{label}\n{}/{} in {} record {}, bytes {} to {}\n{}; found by {}\n\nitem:\n{}\n\ndocument:\n{}\n\n",
            at + 1,
            row.level.name(),
            row.contamination_score,
            row.eval_key,
            row.eval_instance_index,
            row.training_file,
            row.training_line,
            row.training_bytes[0],
            row.training_bytes[1],
            parts.join(", "),
            by.join(", "),
            self.marked(&row.eval_text, item),
            self.marked(&row.training_text, document),
        )
    }

    /// A text with byte ranges marked, and without anything that would drive the terminal.
    fn marked(self, text: &str, ranges: Ranges) -> String {
        let marks = if self.colour { ("\x1b[7m", "\x1b[0m") } else { ("«", "»") };
        let drives = |c: char| c.is_control() && c != '\n' && c != '\t';
        marked(text, ranges, TEXT, marks, |t| t.replace(drives, "\u{fffd}"))
    }
}

/// Byte ranges of a text.
type Ranges = Vec<(usize, usize)>;

/// What is marked in the item's text and in the document's.
fn spans(row: &Row) -> (Ranges, Ranges) {
    let spans = row.shown_spans();
    let item = spans.iter().map(|s| (s[2], s[3])).collect();
    let start = row.training_bytes[0];
    let document = spans.iter().map(|s| (s[0].saturating_sub(start), s[1].saturating_sub(start))).collect();
    (item, document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_need_no_colour_and_a_text_cannot_drive_the_terminal() {
        let plain = Style { colour: false };
        assert_eq!(plain.marked("one two\x1b[2Jthree", vec![(4, 7)]), "one «two»\u{fffd}[2Jthree");
        assert_eq!(Style { colour: true }.marked("ab", vec![(0, 1)]), "\x1b[7ma\x1b[0mb");
        assert!(plain.marked(&"é".repeat(TEXT), vec![]).ends_with("é …"));
    }
}
