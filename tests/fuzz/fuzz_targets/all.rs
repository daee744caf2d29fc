//! Every target under libFuzzer; `PRIORART_FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::OnceLock;

#[path = "../../fixture/mod.rs"]
mod fixture;
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static NAME: OnceLock<String> = OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var("PRIORART_FUZZ_TARGET").expect("PRIORART_FUZZ_TARGET names the target"));
    targets::run(name, data);
});
