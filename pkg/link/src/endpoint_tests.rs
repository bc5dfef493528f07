use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> String {
    match text.parse::<Endpoint>() {
        Ok(_) => panic!("{text} was read"),
        Err(why) => why.to_string(),
    }
}

#[test]
fn endpoints_print_as_they_were_read() {
    let token = Addr::from_bytes([7; 32]);
    for text in [
        "udp://1.2.3.4:2561".to_owned(),
        "udp://[2001:db8::1]:2561".to_owned(),
        "udp://[fe80::1%eth0]:9000".to_owned(),
        format!("udp://host.example:2561?token={token}"),
        "unix:///run/byway/link".to_owned(),
        "tor://abcdefgh.onion:2561".to_owned(),
        "i2p://abcdefgh.b32.i2p".to_owned(),
        "wss://host.example:443/path".to_owned(),
        "ws://127.0.0.1:8080".to_owned(),
        "tcp://[2001:db8::1]:2561".to_owned(),
        format!("tls://203.0.113.7:443?token={token}&pin={token}&sni=host.example"),
        format!("wss://host.example:443/a/b%20c?pin={token}"),
        "serial:///dev/ttyUSB0".to_owned(),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.to_string(), text);
    }
    let endpoint: Endpoint = format!("udp://host.example:2561?token={token}").parse().unwrap();
    assert_eq!(endpoint.token(), Some([7; 32]));
    assert_eq!(endpoint.host_port(), Some(("host.example".to_owned(), 2561)));
    assert_eq!(endpoint.socket_addr(), None);
    let text = format!("wss://host.example:443/secret/path?sni=front.example&pin={token}");
    let endpoint: Endpoint = text.parse().unwrap();
    assert_eq!(endpoint.host_port(), Some(("host.example".to_owned(), 443)));
    assert_eq!((endpoint.url_path(), endpoint.sni()), ("/secret/path", Some("front.example")));
    assert_eq!((endpoint.pin(), endpoint.token()), (Some([7; 32]), None));
}

#[test]
fn an_almost_right_endpoint_is_refused_with_the_reason() {
    for (text, why) in [
        ("1.2.3.4:2561", "scheme"),
        ("upd://1.2.3.4:2561", "not known"),
        ("udp://1.2.3.4", "port is missing"),
        ("udp://[::1]", "port is missing"),
        ("udp://host.example", "port is missing"),
        ("udp://1.2.3.4:", "port"),
        ("udp://1.2.3.4:0", "port"),
        ("udp://1.2.3.4:65536", "port"),
        ("udp://1.2.3.4:+1", "port"),
        ("udp://1.2.3.4:02561", "port"),
        ("udp://2001:db8::1:2561", "brackets"),
        ("udp://[2001:db8::1:2561", "not closed"),
        ("udp://[1.2.3.4]:2561", "IPv6"),
        ("udp://[::1]2561", "port"),
        ("udp://:2561", "host is missing"),
        ("udp://1.2.3:2561", "IPv4"),
        ("udp://256.1.1.1:2561", "IPv4"),
        ("udp://-a.example:2561", "host name"),
        ("udp://a..example:2561", "host name"),
        ("udp://user@host:2561", "user"),
        ("udp://host:2561/path", "port"),
        ("udp://host:2561?token=abc", "43 characters"),
        ("udp://host:2561?key=abc", "token"),
        ("udp://host:2561?pin=abc", "only token"),
        ("tls://host:443?pin=abc", "43 characters"),
        ("tls://host:443?sni=a_b..c", "host name"),
        ("tls://host:443?sni=a&sni=b", "twice"),
        ("tls://host:443?", "may follow"),
        ("tls://host:443/path", "port"),
        ("tcp://host", "port is missing"),
        ("wss://host/path", "port is missing"),
        ("wss://host:443/pa\"th", "path"),
        ("udp://host:2561#x", "fragment"),
        ("udp://host :2561", "has no ' '"),
        ("udp://[fe80::1%]:2561", "zone"),
        ("unix://run/link", "absolute"),
        ("unix:///", "absolute"),
        ("tor://", "nothing follows"),
        ("", "scheme"),
    ] {
        let said = refused(text);
        assert!(said.contains(why), "{text}: {said:?} does not name {why:?}");
    }
    assert!(refused(&format!("udp://{}:1", "a".repeat(2_000))).contains("at most"));
    assert!(refused(&format!("unix:///{}", "a".repeat(200))).contains("at most"));
}

#[test]
fn the_published_address_texts_are_read_and_printed_as_recorded() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../spec/vectors/inet256-public.json")).unwrap();
    let mut seen = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        if vector["kind"] != "udp_address_text" {
            continue;
        }
        seen += 1;
        let text = vector["text"].as_str().unwrap();
        match text.parse::<IpEndpoint>() {
            Err(why) => assert_eq!(vector["error"], true, "{text}: {why}"),
            Ok(read) => {
                assert_eq!(vector["error"], false, "{text}");
                // The reference prints IPv6 without brackets and cannot read that; ours prints what it reads.
                assert_eq!(read.to_string(), text);
                let printed = vector["reference_prints"].as_str().unwrap();
                assert_eq!(read.to_string().replace(['[', ']'], ""), printed);
            }
        }
    }
    assert_eq!(seen, 4, "the vectors of this kind are gone");
}

#[test]
fn debug_shows_neither_host_nor_token() {
    let token = Addr::from_bytes([9; 32]).to_string();
    let endpoint: Endpoint = format!("udp://203.0.113.77:2561?token={token}").parse().unwrap();
    let shown = format!("{endpoint:?}");
    assert!(!shown.contains("203.0.113.77") && !shown.contains(&token), "{shown}");
}

#[test]
fn a_token_keeps_its_place_in_the_text() {
    let endpoint: Endpoint = "udp://1.2.3.4:5".parse().unwrap();
    let with = endpoint.clone().with_token(Some([1; 32]));
    assert_eq!(with.to_string().parse::<Endpoint>().unwrap(), with);
    assert_eq!(with.with_token(None), endpoint);
}

proptest! {
    #[test]
    fn every_socket_address_survives_its_text(address: SocketAddr) {
        prop_assume!(address.port() != 0);
        let address = match address {
            SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
            v4 => v4,
        };
        let endpoint = Endpoint::udp(address);
        let read: Endpoint = endpoint.to_string().parse().unwrap();
        prop_assert_eq!(read.socket_addr(), Some(address));
        prop_assert_eq!(read, endpoint);
    }

    #[test]
    fn what_is_read_prints_to_itself(text in "(udp|unix|tcp|tls|wss|tor)://[-a-z0-9.:/%\\[\\]?=&]{0,40}") {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            let again: Endpoint = endpoint.to_string().parse().unwrap();
            prop_assert_eq!(again, endpoint);
        }
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = text.parse::<Endpoint>();
    }
}
