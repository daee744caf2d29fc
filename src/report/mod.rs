//! Reports for people and for other tools, from the rows of a run.
//!
//! - `chart.rs` draws bars and distributions as SVG text; colours come from the page's style.
//! - `page.rs` makes the self-contained HTML page of `decontaminate`.
//! - `table.rs` writes the same rows as Parquet.
//! - `study.rs` compares a model's scores on clean and dirty items.
//!
//! A page fetches nothing and runs one embedded script; text of corpora and benchmarks is escaped wherever it is put in.

pub mod chart;
pub mod page;
pub mod study;
pub mod table;
