#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| byway_fuzz::session::session_link_hostile(data));
