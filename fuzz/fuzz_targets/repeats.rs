#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leadsmith_fuzz::feed("repeats", bytes));
