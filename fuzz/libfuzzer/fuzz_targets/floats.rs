//! `nonius_fuzz::targets::floats` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nonius_fuzz::targets::floats::run(data));
