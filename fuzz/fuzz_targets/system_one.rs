//! Does any body of the System One protocol make the server panic?

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sizewise_fuzz::system_one(data));
