//! Reports for people and for other tools, from the rows of a run.
//!
//! - `chart.rs` draws bars and distributions, `curve.rs` lines, as SVG text; colours come from the page's style.
//! - `audit.rs` makes the page of a novelty audit, `columns.rs` writes its table as Parquet.
//! - `marks.rs` marks byte ranges of a text, for the page and for terminals.
//! - `page.rs` makes the self-contained HTML page of `decontaminate`.
//! - `table.rs` writes the same rows as Parquet.
//! - `study.rs` compares a model's scores on clean and dirty items.
//!
//! A page fetches nothing and runs no script but its own embedded one; text of corpora and benchmarks is escaped wherever it is put in.

pub mod audit;
pub mod chart;
pub mod columns;
pub mod curve;
pub mod marks;
pub mod page;
pub mod study;
pub mod table;
