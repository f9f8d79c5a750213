//! Does any tokenizer file, or any text under it, make the cutter panic?

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sizewise_fuzz::tokenizer(data));
