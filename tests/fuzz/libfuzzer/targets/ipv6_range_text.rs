#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| byway_fuzz::text::ipv6_range_text(data));
