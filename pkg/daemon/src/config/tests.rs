//! Tests of the configuration.

use byway_portal::{Ports, Who};

use super::*;

fn faults(text: &str) -> Vec<(usize, String)> {
    let faults = Config::parse(text, "byway.toml").expect_err("the text has faults").faults;
    faults.into_iter().map(|fault| (fault.line, fault.to_string())).collect()
}

fn addr() -> String {
    Addr::from_bytes([7; 32]).to_string()
}

#[test]
fn an_empty_file_and_the_default_file_mean_the_defaults() {
    assert_eq!(Config::parse("", "x"), Ok(Config::default()));
    assert_eq!(Config::parse(DEFAULT, "default"), Ok(Config::default()));
}

#[test]
fn the_default_file_with_its_examples_switched_on_has_no_unknown_key() {
    let examples: String = DEFAULT
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with("[[") || rest.contains(" = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let faults = Config::parse(&examples, "x").expect_err("rules and serial lines are not built in");
    assert!(!faults.to_string().contains("no such key"), "{faults}");
    assert!(faults.to_string().contains("mancon.rule[0]: rules are not built"), "{faults}");
    assert!(
        faults.to_string().contains("links.serial[0]: links over serial lines are not built"),
        "{faults}"
    );
}

#[test]
fn every_fault_is_told_at_once_with_its_line_and_a_suggestion() {
    let text = r#"
[node]
kee = "identity.pem"
[mancon]
default = "hihg"
direct = "yes"
floor = 3
[portal]
prefix = "0200::"
mtu = 70000
[[portal.allow]]
peer = "*"
ports = ["tcp/70000", "tcp/0", "sctp/5", "udp/9-3"]
[links]
accept = "everyone"
udp.listen = ["localhost"]
[[peers]]
addr = "short"
endpoints = ["upd://h:1", "h:1"]
[prtal]
"#;
    let faults = faults(text);
    let expected = [
        (3, "node.kee: no such key; did you mean \"key\"?"),
        (5, "mancon.default: \"hihg\" is not known here; did you mean \"high\"?"),
        (6, "mancon.direct: this is a text, not true or false"),
        (7, "mancon.floor: this is a whole number, not a text in quotes"),
        (9, "portal.prefix: a range is written as"),
        (10, "portal.mtu: 70000 is out of range"),
        (13, "portal.allow[0].ports[0]: \"tcp/70000\" is not like"),
        (13, "portal.allow[0].ports[1]: there is no port 0"),
        (13, "portal.allow[0].ports[2]: \"sctp/5\" is not like"),
        (13, "portal.allow[0].ports[3]: \"udp/9-3\" is not like"),
        (15, "links.accept: \"everyone\" is not known here; there is \"peers\", \"network\""),
        (16, "links.udp.listen[0]: \"localhost\" is no IP address with a port"),
        (18, "peers[0].addr: an address has 43 characters, not 5"),
        (19, "peers[0].endpoints[0]: \"upd\" is no transport; did you mean \"udp\"?"),
        (19, "peers[0].endpoints[1]: \"h:1\" is no endpoint"),
        (20, "prtal: no such key; did you mean \"portal\"?"),
    ];
    for (line, text) in expected {
        assert!(
            faults.iter().any(|(l, t)| *l == line && t.starts_with(text)),
            "{line} {text}\nin {faults:#?}"
        );
    }
}

#[test]
fn what_is_not_built_in_is_refused_and_its_absence_accepted() {
    let asking = [
        "mancon.jurisdiction = \"CH\"",
        "mancon.help = [\"relay\"]",
        "links.tor.mode = \"embedded\"",
        "links.tor.bridges = [\"obfs4 …\"]",
        "links.i2p.mode = \"embedded\"",
        "links.lan.interfaces = [\"*\"]",
        "links.lan.adhoc = [\"wlan1\"]",
        "links.serial = [{ device = \"/dev/ttyUSB0\" }]",
        "proxy.socks5 = \"127.0.0.1:2562\"",
        "proxy.http = \"127.0.0.1:2563\"",
        "mancon.rule = [{ to = \"*.onion\", level = \"high\" }]",
    ];
    for line in asking {
        let faults = faults(line);
        assert!(
            faults.len() == 1 && faults[0].1.contains("built into this version yet"),
            "{line}: {faults:?}"
        );
    }
    let nothing =
        "links = { tor.mode = \"off\", i2p = { mode = \"off\" }, lan.interfaces = [], quic.listen = [] }";
    assert_eq!(Config::parse(nothing, "x"), Ok(Config::default()));
}

#[test]
fn web_like_links_are_read_and_their_faults_told() {
    let text = r#"
[links]
proxy = "socks5://127.0.0.1:9050"
tcp.listen = ["[::]:2561"]
[links.tls]
listen = ["[::]:443"]
site = "http://127.0.0.1:8080"
certificate = "chain.pem"
key = "/etc/key.pem"
[links.websocket]
listen = ["127.0.0.1:8081"]
path = "/secret"
"#;
    let links = Config::parse(text, "x").expect("in order").links;
    assert!(links.proxy.is_some() && links.tcp.len() == 1);
    assert_eq!(links.tls.certificate, Some(("chain.pem".into(), "/etc/key.pem".into())));
    assert_eq!(links.tls.site, Site::Upstream(([127, 0, 0, 1], 8_080).into()));
    let path = "/secret".to_owned();
    assert_eq!(links.websocket, WebSocket { listen: vec![([127, 0, 0, 1], 8_081).into()], path, tls: false });
    for (from, to, told) in [
        ("socks5:", "ftp:", "links.proxy"),
        ("key = \"/etc/key.pem\"", "", "the key is missing"),
        ("path = \"/secret\"", "", "have a path"),
        ("\"/secret\"", "\"secret\"", "begins with /"),
        ("http://127.0.0.1:8080", "http://localhost:8080", "no IP address"),
        ("\"[::]:443\"", "\"443\"", "no IP address"),
    ] {
        let faults = faults(&text.replace(from, to));
        assert!(faults.len() == 1 && faults[0].1.contains(told), "{to}: {faults:?}");
    }
}

#[test]
fn a_peer_is_linked_by_the_transports_that_are_named_and_by_all_if_none_is() {
    use byway_link::{Allowed, Scheme};

    let peer = |line: &str| format!("[[peers]]\naddr = \"{}\"\n{line}\n", addr());
    for (line, allowed) in [
        ("", Allowed::ALL),
        ("transports = []", Allowed::ALL),
        ("transports = [\"tls\", \"tor\"]", Allowed::only([Scheme::Tls, Scheme::Tor])),
    ] {
        let config = Config::parse(&peer(line), "byway.toml").expect("in order");
        assert_eq!(config.peers[0].link().allowed, allowed, "{line}");
    }
    let faults = faults(&peer("transports = [\"tir\", \"serial\"]"));
    assert_eq!(faults.len(), 2, "{faults:?}");
}

#[test]
fn endpoints_of_transports_that_are_not_built_in_are_refused() {
    let text = format!("[[peers]]\naddr = \"{}\"\nendpoints = [\"lan://eth0\"]\n", addr());
    assert!(faults(&text)[0].1.contains("the transport lan is not built into this version yet"));
}

#[test]
fn text_that_is_no_toml_is_told_with_its_line_and_other_faults_too() {
    let faults = faults("[mancon]\ndefault = hihg\n[portal]\ndevise = \"x\"\n");
    assert!(faults.iter().any(|(line, _)| *line == 2), "{faults:?}");
    assert!(
        faults.iter().any(|(line, text)| *line == 4 && text.contains("did you mean \"device\"?")),
        "{faults:?}"
    );
}

#[test]
fn an_allow_rule_without_a_peer_is_a_fault_and_opens_nothing() {
    let faults = faults("[[portal.allow]]\nports = [\"tcp/22\"]\n");
    assert!(faults[0].1.contains("the key `peer` is missing"), "{faults:?}");
}

#[test]
fn the_same_peer_or_petname_twice_is_a_fault() {
    let addr = addr();
    let text =
        format!("[[peers]]\naddr = \"{addr}\"\nname = \"a\"\n[[peers]]\naddr = \"{addr}\"\nname = \"a\"\n");
    let faults = faults(&text);
    assert!(faults.iter().any(|(line, text)| *line == 5 && text.contains("listed twice")), "{faults:?}");
    assert!(faults.iter().any(|(line, text)| *line == 6 && text.contains("the petname \"a\"")), "{faults:?}");
}

#[test]
fn the_same_petname_twice_is_told_beside_other_faults() {
    let faults = faults("[[peers]]\naddr = \"x\"\nname = \"a\"\n[[peers]]\naddr = \"y\"\nname = \"a\"\n");
    assert!(faults.iter().any(|(line, text)| *line == 6 && text.contains("the petname \"a\"")), "{faults:?}");
}

#[test]
fn numbers_out_of_range_are_told_at_their_line() {
    let faults = faults("[portal]\ndevice = \"x\"\nmtu = 900\nthreads = 99\n");
    assert!(faults[0].0 == 3 && faults[0].1.contains("portal.mtu"), "{faults:?}");
    assert!(faults[1].0 == 4 && faults[1].1.contains("portal.threads"), "{faults:?}");
}

#[test]
fn places_and_transports_that_are_none_are_told_with_an_example() {
    let faults = faults("api.listen = [\"tcp:127.0.0.1:99999\"]\n[[peers]]\nendpoints = [\"zzz://h:1\"]\n");
    let all = format!("{faults:?}");
    assert!(all.contains("tcp:127.0.0.1:2560"), "{all}");
    assert!(all.contains("(known but not built in: lan"), "{all}");
    assert!(all.contains("\\\"tor\\\", \\\"i2p\\\""), "{all}");
}

#[test]
fn petnames_stand_for_addresses_in_allow_rules() {
    let addr = addr();
    let text = format!(
        "[[portal.allow]]\npeer = \"ann\"\nports = [\"tcp/1-65535\", \"icmp\"]\n[[peers]]\naddr = \"{addr}\"\nname = \"ann\"\n"
    );
    let config = Config::parse(&text, "x").expect("the petname is known");
    let allow = Allow {
        peer: Who::Node(addr.parse().expect("an address")),
        ports: vec![Ports::Tcp(1, 65_535), Ports::Icmp],
    };
    assert_eq!(config.portal.allow, [allow]);
    assert!(Config::parse(&text.replace("\"ann\"\nports", "\"anne\"\nports"), "x").is_err());
}

#[test]
fn the_api_listens_on_loopback_only() {
    let faults = faults("api.listen = [\"tcp:0.0.0.0:2560\", \"tcp:127.0.0.1:2560\", \"unixx\"]");
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].1.contains("loopback"), "{faults:?}");
}

#[test]
fn countries_are_checked_against_the_standard() {
    assert!(faults("mancon.jurisdiction = \"ch\"")[0].1.contains("did you mean \"CH\"?"));
    assert!(faults("mancon.jurisdiction = \"XX\"")[0].1.contains("no country"));
}

#[test]
fn the_routing_protocol_is_chosen_by_its_name() {
    let protocol = |name: &str| {
        let text = format!("network.protocol = \"{name}\"");
        Config::parse(&text, "x").map(|config| config.network.protocol)
    };
    for known in [Protocol::Grove, Protocol::Beacon] {
        assert_eq!(protocol(known.name()), Ok(known));
    }
    let told = protocol("groove").expect_err("no protocol").to_string();
    assert!(told.contains("did you mean \"grove\"?"), "{told}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "([a-z.\\[\\]= \"{}#\n0-9-]|links|peers|addr|portal|prefix|endpoints){0,60}") {
        let _ = Config::parse(&text, "x");
    }
}

#[test]
fn threads_come_alone_or_in_pairs() {
    for threads in [1, 2, 4, 64] {
        let text = format!("[portal]\nthreads = {threads}\n");
        assert_eq!(Config::parse(&text, "x").expect("fine").portal.threads, threads);
    }
    for threads in ["0", "3", "66", "-2"] {
        let faults = faults(&format!("[portal]\nthreads = {threads}\n"));
        assert!(faults[0].0 == 2 && faults[0].1.contains("portal.threads"), "{faults:?}");
    }
}

#[test]
fn ciphers_are_offered_as_listed_and_the_one_that_all_have_needs_no_word() {
    let ciphers = |list: &str| {
        let text = format!("[session]\nciphers = {list}\n");
        Config::parse(&text, "x").map(|config| config.session.ciphers)
    };
    assert_eq!(ciphers("[]"), Ok(Vec::new()));
    assert_eq!(ciphers(r#"["chacha20-poly1305"]"#), Ok(Vec::new()));
    assert_eq!(ciphers(r#"["aegis-128l"]"#), Ok(vec![Cipher::Aegis]));
    assert_eq!(ciphers(r#"["aegis-128l", "aes-256-gcm"]"#), Ok(vec![Cipher::Aegis, Cipher::Aes]));
    let told = ciphers(r#"["aes-128-gcm"]"#).expect_err("not offered").to_string();
    assert!(told.contains("did you mean \"aes-256-gcm\"?"), "{told}");
}

#[test]
fn keys_may_live_shorter_for_tests_and_never_longer() {
    let ratchet = |seconds: &str| {
        let text = format!("[session]\nratchet_seconds = {seconds}\n");
        Config::parse(&text, "x").map(|config| config.session.ratchet)
    };
    assert_eq!(ratchet("2"), Ok(Duration::from_secs(2)));
    assert_eq!(ratchet("120"), Ok(Duration::from_secs(120)));
    for odd in ["0", "121", "-1"] {
        assert!(
            ratchet(odd).is_err_and(|faults| faults.to_string().contains("session.ratchet_seconds")),
            "{odd}"
        );
    }
}

#[test]
fn a_tor_of_the_system_is_asked_for_with_what_differs_from_the_default() {
    let tor = |text: &str| Config::parse(text, "x").map(|config| config.links.tor);
    assert_eq!(tor("links.tor.mode = \"system\""), Ok(Some(Tor::default())));
    assert_eq!(tor("links.tor.port = 80"), Ok(None), "nothing is on that is not switched on");
    let text = "[links.tor]\nmode = \"system\"\nsocks = \"127.0.0.1:9150\"\ncontrol = \"127.0.0.1:9151\"\n\
                password_file = \"secret\"\nport = 80\n";
    let wanted = Tor {
        socks: ([127, 0, 0, 1], 9150).into(),
        control: Some("127.0.0.1:9151".parse().expect("a control port")),
        password_file: Some("secret".into()),
        port: 80,
    };
    assert_eq!(tor(text), Ok(Some(wanted)));
    let only_dials = tor("links.tor = { mode = \"system\", control = \"\" }").expect("in order");
    assert_eq!(only_dials.map(|tor| tor.control), Some(None));
}

#[test]
fn places_of_tor_that_are_none_or_elsewhere_are_faults() {
    let text =
        "[links.tor]\nsocks = \"192.0.2.1:9050\"\ncontrol = \"192.0.2.1:9051\"\nport = 0\nmode = \"sytem\"\n";
    let faults = faults(text);
    for (line, part) in
        [(2, "cross a network"), (3, "control port"), (4, "port 0"), (5, "did you mean \"system\"?")]
    {
        assert!(
            faults.iter().any(|(at, text)| *at == line && text.contains(part)),
            "{line} {part}: {faults:?}"
        );
    }
}

#[test]
fn a_mistyped_onion_name_is_found_before_anybody_dials_it() {
    let good = "tor://pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:2561";
    let text = |endpoint: &str| format!("[[peers]]\naddr = \"{}\"\nendpoints = [{endpoint:?}]\n", addr());
    assert!(Config::parse(&text(good), "x").is_ok());
    for (odd, part) in [(good.replace("pg6", "pg7"), "mistyped"), (good.replace(":2561", ""), "tor://NAME")] {
        let faults = faults(&text(&odd));
        assert!(faults[0].0 == 3 && faults[0].1.contains(part), "{odd}: {faults:?}");
    }
}

#[test]
fn an_i2p_router_of_the_system_is_asked_for_with_its_tunnels() {
    let i2p = |text: &str| Config::parse(text, "x").map(|config| config.links.i2p);
    assert_eq!(i2p("links.i2p.mode = \"sam\""), Ok(Some(I2p::default())));
    assert_eq!(i2p("links.i2p.tunnel_length = 1"), Ok(None), "nothing is on that is not switched on");
    let text = "[links.i2p]\nmode = \"sam\"\nsam = \"[::1]:7000\"\ntunnel_length = 1\ntunnel_count = 16\n";
    let sam = "[::1]:7000".parse().expect("an address");
    assert_eq!(i2p(text), Ok(Some(I2p { sam, tunnels: Tunnels { length: 1, count: 16 } })));
    let text = "[links.i2p]\nsam = \"192.0.2.1:7656\"\ntunnel_length = 0\ntunnel_count = 17\n";
    let faults = faults(text);
    for (line, part) in [(2, "cross a network"), (3, "1 to 7"), (4, "1 to 16")] {
        assert!(
            faults.iter().any(|(at, text)| *at == line && text.contains(part)),
            "{line} {part}: {faults:?}"
        );
    }
}

#[test]
fn i2p_names_that_are_none_are_faults() {
    let text = |endpoint: &str| format!("[[peers]]\naddr = \"{}\"\nendpoints = [{endpoint:?}]\n", addr());
    assert!(Config::parse(&text(&format!("i2p://{}.b32.i2p", "a".repeat(52))), "x").is_ok());
    for (odd, part) in [("i2p://example.i2p", "NAME.b32.i2p"), ("i2p://abc.b32.i2p", "52 of the characters")]
    {
        assert!(faults(&text(odd))[0].1.contains(part), "{odd}");
    }
}
