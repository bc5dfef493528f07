#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| byway_fuzz::session::session_end_hostile(data));
