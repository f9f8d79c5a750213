//! Does any damaged model part make the program panic?

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sizewise_fuzz::safetensors(data));
