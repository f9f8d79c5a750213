//! Does any body of the Decisions protocol make the server panic?

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sizewise_fuzz::decisions(data));
