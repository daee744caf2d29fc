//! A page in a real browser: finds node, chromium and the modules, and runs a script of `tests/page` with its settings.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// What a script needs.
pub struct Browser {
    node: PathBuf,
    chromium: PathBuf,
    modules: PathBuf,
}

fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|d| names.iter().map(move |n| d.join(n))).find(|p| p.is_file())
}

impl Browser {
    /// `None`, having said so, where node, chromium or the modules are missing; with PRIORART_BROWSER=required that fails instead.
    pub fn find() -> Option<Browser> {
        let browser = || {
            Some(Browser {
                node: program(&["node"])?,
                chromium: program(&["chromium", "chromium-browser", "google-chrome"])?,
                modules: std::env::var_os("PRIORART_BROWSER_MODULES")?.into(),
            })
        };
        let found = browser();
        if found.is_none() {
            let why =
                "needs node, chromium and PRIORART_BROWSER_MODULES (a directory with playwright-core and axe-core)";
            assert!(std::env::var("PRIORART_BROWSER").as_deref() != Ok("required"), "{why}");
            println!("skipped: {why}");
        }
        found
    }

    /// Runs `tests/page/SCRIPT` on a page; it gets `more` besides, and PRIORART_SCREENSHOTS.
    pub fn run(&self, script: &str, page: &Path, more: Value) {
        let mut settings = json!({
            "page": std::fs::canonicalize(page).unwrap(),
            "chromium": self.chromium,
            "modules": self.modules,
            "screenshots": std::env::var("PRIORART_SCREENSHOTS").ok(),
        });
        settings.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let path = page.with_extension("settings.json");
        std::fs::write(&path, settings.to_string()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page").join(script);
        let out = Command::new(&self.node).arg(script).arg(path).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{said}");
    }
}
