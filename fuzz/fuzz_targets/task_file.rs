//! Does any text make the reader of task files panic?

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sizewise_fuzz::task_file(data));
