//! Progress of a fetch on standard error: bars on a terminal, one line a step in a log.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use priorart::catalog::Step;

/// Shows the steps of a fetch.
pub struct Bars {
    quiet: bool,
    terminal: bool,
    current: Mutex<Option<ProgressBar>>,
}

impl Bars {
    /// For standard error as it is; `quiet` shows nothing but notes.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal(), current: Mutex::new(None) }
    }

    /// Shows one step.
    pub fn show(&self, step: Step) {
        let mut current = self.current.lock().unwrap_or_else(|e| e.into_inner());
        match step {
            Step::Note { what } => {
                if let Some(bar) = current.take() {
                    bar.finish_and_clear();
                }
                eprintln!("note: {what}");
            }
            Step::Start { what, .. } if !self.terminal => {
                if !self.quiet {
                    eprintln!("{what}");
                }
            }
            Step::Start { what, bytes } if !self.quiet => {
                let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr());
                let template = match bytes {
                    Some(_) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                    None => "{spinner} {msg} {elapsed}",
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_message(what.to_string());
                bar.enable_steady_tick(Duration::from_millis(200));
                *current = Some(bar);
            }
            Step::Start { .. } => {}
            Step::Advance { bytes } => {
                if let Some(bar) = current.as_ref() {
                    bar.inc(bytes);
                }
            }
            Step::Finish => {
                if let Some(bar) = current.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}
