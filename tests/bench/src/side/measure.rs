//! Names of what is measured; each is a key of a row's samples and, where people see it, a column.

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name of the measure.
    pub key: &'static str,
    /// Its head.
    pub title: &'static str,
    /// Digits after the point.
    pub digits: usize,
}

const fn column(key: &'static str, title: &'static str, digits: usize) -> Column {
    Column { key, title, digits }
}

/// Mbit/s of one TCP connection.
pub const TCP1: &str = "tcp1_mbits";
/// The same, from the other end.
pub const REVERSE: &str = "tcp1_reverse_mbits";
/// Mbit/s of four.
pub const TCP4: &str = "tcp4_mbits";
/// Processor seconds of all daemons for 10⁹ bytes of one TCP connection.
pub const CPU: &str = "tcp1_cpu_per_gb";
/// The same of four.
pub const CPU4: &str = "tcp4_cpu_per_gb";
/// The same of one from the other end.
pub const CPU_REVERSE: &str = "tcp1_reverse_cpu_per_gb";
/// Processor seconds of the daemons at both ends alone, half of it: one end.
pub const CPU_END: &str = "tcp1_cpu_per_gb_end";
/// Processor seconds of the daemons between the ends.
pub const CPU_RELAY: &str = "tcp1_cpu_per_gb_relay";
/// Round trip with nothing else going on: median, in microseconds.
pub const RTT: &str = "rtt_idle_median_us";
/// 99 of 100.
pub const RTT_P99: &str = "rtt_idle_p99_us";
/// Round trip beside a TCP connection: median, in microseconds.
pub const LOADED: &str = "rtt_loaded_median_us";
/// 99 of 100.
pub const LOADED_P99: &str = "rtt_loaded_p99_us";
/// Mbit/s of that connection.
pub const LOADED_TCP: &str = "rtt_loaded_tcp_mbits";
/// Datagrams of 256 bytes a second, nearly none lost.
pub const UDP256: &str = "udp256_pps";
/// What arrives of a flood of them.
pub const UDP256_FLOOD: &str = "udp256_flood_pps";
/// Datagrams of 1,200 bytes a second, nearly none lost.
pub const UDP1200: &str = "udp1200_pps";
/// What arrives of a flood of them.
pub const UDP1200_FLOOD: &str = "udp1200_flood_pps";
/// 1 where the sender of datagrams, not the peer, was the limit; else 0.
pub const UDP256_SENDER: &str = "udp256_sender_limited";
/// The same for datagrams of 1,200 bytes.
pub const UDP1200_SENDER: &str = "udp1200_sender_limited";
/// Answers to a flood of pings, a second.
pub const PING_FLOOD: &str = "ping_flood_pps";
/// Start of the dialling daemon to its first answer, in seconds.
pub const FIRST_PING: &str = "first_ping_s";
/// Most memory of the larger daemon, in MiB.
pub const MEMORY: &str = "peak_rss_mib";
/// Cores that other programs used during the measurements, the most.
pub const OTHERS: &str = "others_cores";

/// TCP: throughput and its price.
pub const THROUGHPUT: &[Column] = &[
    column(TCP1, "TCP 1 → Mbit/s", 0),
    column(REVERSE, "TCP 1 ←", 0),
    column(TCP4, "TCP 4 →", 0),
    column(CPU, "CPU s/GB, TCP 1", 2),
    column(CPU4, "CPU s/GB, TCP 4", 2),
    column(OTHERS, "other load, cores", 2),
];

/// Round trips and small packets.
pub const SMALL: &[Column] = &[
    column(RTT, "RTT idle µs", 0),
    column(RTT_P99, "p99", 0),
    column(LOADED, "RTT under TCP load µs", 0),
    column(LOADED_P99, "p99", 0),
    column(UDP256, "UDP 256 B pkt/s", 0),
    column(UDP256_FLOOD, "flood", 0),
    column(UDP1200, "UDP 1200 B pkt/s", 0),
    column(UDP1200_FLOOD, "flood", 0),
    column(PING_FLOOD, "ping -f /s", 0),
    column(FIRST_PING, "first ping s", 2),
    column(MEMORY, "peak RSS MiB", 0),
];

/// A line of three hosts.
pub const RELAYED: &[Column] = &[
    column(TCP1, "TCP 1 Mbit/s", 0),
    column(TCP4, "TCP 4", 0),
    column(RTT, "RTT idle µs", 0),
    column(CPU_END, "CPU s/GB of an end", 2),
    column(CPU_RELAY, "of the relay", 2),
    column(FIRST_PING, "first ping s", 2),
    column(OTHERS, "other load, cores", 2),
];
