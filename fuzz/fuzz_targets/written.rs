//! Does any answer of a teacher that writes texts make the reader panic?

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sizewise_fuzz::written(data));
