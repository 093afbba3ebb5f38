#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::words::log_tail(data));
