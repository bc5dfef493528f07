#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| byway_fuzz::fastpath::fast_trains(data));
