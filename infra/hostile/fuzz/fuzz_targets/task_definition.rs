#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::documents::task_definition(data));
