//! `nonius_fuzz::targets::index` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nonius_fuzz::targets::index::run(data));
