//! Does any relayed call make the recorder panic?

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sizewise_fuzz::observe(data));
