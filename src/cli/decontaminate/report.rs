//! What a run leaves for people and other tools: the rows in `report.jsonl` and `report.parquet`, the page, the summary and the
//! manifest. Without a directory, only the gravest rows are kept, for the text summary; see `stream.rs` for rows on standard output.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Summary;
use crate::cli::output::{self, number};
use crate::decontaminate::run::Row;
use crate::decontaminate::{Level, Protocol};
use crate::error::{Error, Result};
use crate::report::page::{self, Page};
use crate::report::table::Table;

/// Findings in the text summary.
const WORST: usize = 5;

/// Takes the rows in.
pub(super) struct Report {
    files: Option<Files>,
    first: Option<Protocol>,
    /// The gravest rows under the first protocol, for the text summary.
    worst: Vec<Row>,
}

struct Files {
    dir: PathBuf,
    lines: BufWriter<File>,
    table: Table,
    page: Page,
}

impl Files {
    fn jsonl(&self) -> PathBuf {
        self.dir.join("report.jsonl")
    }
}

impl Report {
    /// A report in the directory `out`, in place of one of an interrupted run.
    pub fn new(out: Option<&Path>, protocols: &[Protocol]) -> Result<Report> {
        let files = out.map(|dir| {
            let path = dir.join("report.jsonl");
            let lines = BufWriter::new(File::create(&path).map_err(Error::io(&path, "create"))?);
            let table = Table::create(&dir.join("report.parquet"), protocols)?;
            Ok(Files { dir: dir.to_path_buf(), lines, table, page: Page::default() })
        });
        Ok(Report { files: files.transpose()?, first: protocols.first().copied(), worst: Vec::new() })
    }

    /// Takes a row.
    pub fn row(&mut self, row: &Row) -> Result<()> {
        if let Some(files) = &mut self.files {
            let mut line = serde_json::to_vec(row).map_err(|e| Error::invalid(format!("report: {e}")))?;
            line.push(b'\n');
            let path = files.jsonl();
            files.lines.write_all(&line).map_err(Error::io(&path, "write"))?;
            files.table.add(row)?;
            files.page.add(row);
        }
        if self.first.is_some_and(|first| row.level_under(first) == Some(Level::Dirty)) {
            let at = self.worst.partition_point(|w| w.contamination_score >= row.contamination_score);
            if at < WORST {
                self.worst.insert(at, row.clone());
                self.worst.truncate(WORST);
            }
        }
        Ok(())
    }

    /// Writes what is written at the end; gives the gravest rows.
    pub fn finish(self, summary: &Summary) -> Result<Vec<Row>> {
        if let Some(files) = self.files {
            let Files { dir, mut lines, table, page } = files;
            lines.flush().map_err(Error::io(dir.join("report.jsonl"), "write"))?;
            table.finish()?;
            write_page(&dir.join("report.html"), &page, summary)?;
            write_json(&dir.join("summary.json"), summary)?;
            if let Some(manifest) = &summary.removal {
                write_json(&dir.join("manifest.json"), manifest)?;
            }
        }
        Ok(self.worst)
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    std::fs::write(path, bytes).map_err(Error::io(path, "write"))
}

fn write_page(path: &Path, page: &Page, s: &Summary) -> Result<()> {
    let said = format!(
        "{} documents ({}) against {} eval items; {} documents contain at least one item that {} calls dirty.",
        number(s.documents),
        output::bytes(s.text_bytes),
        number(s.items as u64),
        number(s.dirty_documents),
        s.protocols.first().map_or("", |p| p.name())
    );
    let benchmarks: Vec<page::Benchmark> = s
        .benchmarks
        .iter()
        .map(|b| page::Benchmark {
            name: b.benchmark.clone(),
            items: b.items,
            clean: b.clean,
            suspect: b.suspect,
            dirty: b.dirty,
            dirty_by_protocol: s
                .protocols
                .iter()
                .map(|p| (p.name().to_string(), b.dirty_by_protocol.get(p).copied().unwrap_or(0)))
                .collect(),
        })
        .collect();
    std::fs::write(path, page.render(&said, &s.protocols, &benchmarks)).map_err(Error::io(path, "write"))
}

/// The rows of a report file, one by one.
pub(super) fn rows(path: &Path) -> Result<impl Iterator<Item = Result<Row>> + use<>> {
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(File::open(path).map_err(Error::io(path, "open"))?);
    let path = path.to_path_buf();
    let (mut line, mut number, mut byte) = (Vec::new(), 0, 0u64);
    Ok(std::iter::from_fn(move || {
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) => return Some(Err(Error::io(&path, "read")(e))),
            }
            number += 1;
            let start = byte;
            byte += line.len() as u64;
            if !line.trim_ascii().is_empty() {
                return Some(serde_json::from_slice(&line).map_err(|e| {
                    Error::invalid_hint(
                        format!("{}:{number}: not a row of a report (byte {start}): {e}", path.display()),
                        "name the report.jsonl that `priorart decontaminate --out DIR` writes, whole and unchanged",
                    )
                }));
            }
        }
    }))
}
