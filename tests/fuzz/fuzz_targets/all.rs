//! Every target under libFuzzer; `PRIORART_FUZZ_TARGET` names the one to run. With `PRIORART_FUZZ_SEEDS=DIR` it writes the target's seeds
//! there and ends.
#![no_main]

use std::sync::OnceLock;

#[path = "../../fixture/mod.rs"]
mod fixture;
#[path = "../seeds.rs"]
mod seeds;
#[path = "../targets.rs"]
mod targets;

/// The target to run.
fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| std::env::var("PRIORART_FUZZ_TARGET").expect("PRIORART_FUZZ_TARGET names the target"))
}

fn begin() {
    // libfuzzer-sys ends the process at every panic, also at those of a library that the reader catches and tells as damage.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    if let Some(dir) = std::env::var_os("PRIORART_FUZZ_SEEDS") {
        std::fs::create_dir_all(&dir).expect("a directory");
        for (i, seed) in seeds::seeds(name()).iter().enumerate() {
            std::fs::write(std::path::Path::new(&dir).join(format!("seed-{i:03}")), seed).expect("a written seed");
        }
        std::process::exit(0);
    }
}

libfuzzer_sys::fuzz_target!(init: begin(), |data: &[u8]| {
    if std::panic::catch_unwind(|| targets::run(name(), data)).is_err() {
        std::process::abort();
    }
});
