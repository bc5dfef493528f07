//! `[links]`: what links are made over.

use std::net::SocketAddr;

use byway_link::{Accept, Endpoint, Scheme};

use super::parse::{asks_nothing, path};
use super::read::Section;
use super::{Links, Site};

pub(super) fn links(mut section: Section<'_, '_>, links: &mut Links) {
    links.accept = section.parsed("accept", links.accept, |value, text| {
        value.choice(text, &[("peers", Accept::Peers), ("network", Accept::Network)])
    });
    links.proxy = section.parsed("proxy", None, |value, text| match text {
        "" => Some(None),
        text => value.read(text).map(Some),
    });

    let mut udp = section.section("udp");
    links.udp = listen(&mut udp, links.udp.clone());
    udp.finish();

    let mut quic = section.section("quic");
    links.quic = listen(&mut quic, Vec::new());
    if !cfg!(feature = "quic") && !links.quic.is_empty() {
        let help = "write listen = [], or build it with the feature quic".to_owned();
        quic.fault_at("listen", "links over QUIC are not built into this daemon", Some(help));
    }
    quic.finish();

    let mut tcp = section.section("tcp");
    links.tcp = listen(&mut tcp, Vec::new());
    tcp.finish();
    tls(section.section("tls"), links);
    websocket(section.section("websocket"), links);

    let mut tor = section.section("tor");
    mode(&mut tor, "Tor", &[("off", true), ("embedded", false), ("system", false)]);
    tor.list("bridges", Vec::new(), |value, text| asks_nothing(value, text, "Tor"));
    tor.finish();

    let mut i2p = section.section("i2p");
    mode(&mut i2p, "I2P", &[("off", true), ("embedded", false), ("sam", false)]);
    i2p.parsed("sam", (), |value, text| value.read::<SocketAddr>(text).map(drop));
    i2p.finish();

    let mut lan = section.section("lan");
    for key in ["interfaces", "adhoc"] {
        lan.list(key, Vec::new(), |value, text| asks_nothing(value, text, "discovery on the LAN"));
    }
    lan.finish();

    for mut serial in section.sections("serial") {
        serial.fault(
            "links over serial lines are not built into this version yet",
            Some("leave them out".into()),
        );
        serial.parsed("device", (), |_, _| Some(()));
        serial.number("baud", 115_200u32);
        serial.parsed("framing", (), |value, text| value.choice(text, &[("kiss", ()), ("hdlc", ())]));
        serial.finish();
    }
    section.finish();
}

fn tls(mut section: Section<'_, '_>, links: &mut Links) {
    links.tls.listen = listen(&mut section, Vec::new());
    links.tls.site = section.parsed("site", Site::Empty, |value, text| {
        if text.is_empty() {
            return Some(Site::Empty);
        }
        let Some(address) = text.strip_prefix("http://") else { return path(value, text).map(Site::Page) };
        let read = address.trim_end_matches('/').parse().map(Site::Upstream);
        let help = || Some("an example is \"http://127.0.0.1:8080\"; a path is that of a file".to_owned());
        read.map_err(|_| value.fault(format!("{address:?} is no IP address with a port"), help())).ok()
    });
    let mut file = |key| {
        section.parsed(
            key,
            None,
            |value, text| if text.is_empty() { Some(None) } else { path(value, text).map(Some) },
        )
    };
    links.tls.certificate = match (file("certificate"), file("key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (some, _) => {
            let missing = if some.is_some() { "key" } else { "certificate" };
            section.fault(format!("certificate and key belong together, and the {missing} is missing"), None);
            None
        }
    };
    section.finish();
}

fn websocket(mut section: Section<'_, '_>, links: &mut Links) {
    let websocket = &mut links.websocket;
    websocket.listen = listen(&mut section, Vec::new());
    websocket.tls = section.flag("tls", false);
    let mut is_written = false;
    websocket.path = section.parsed("path", String::new(), |value, text| {
        is_written = !text.is_empty();
        if text.is_empty() {
            return Some(String::new());
        }
        let endpoint = Endpoint::at(Scheme::Ws, ([127, 0, 0, 1], 1).into()).with_url_path(text);
        endpoint.map(|_| text.to_owned()).map_err(|error| value.fault(error.to_string(), None)).ok()
    });
    if !websocket.listen.is_empty() && !is_written {
        let help = "write a path that nobody guesses, like \"/3fDq9sWbA2\"".to_owned();
        section.fault_at("path", "WebSocket links have a path", Some(help));
    }
    section.finish();
}

fn listen(section: &mut Section<'_, '_>, default: Vec<SocketAddr>) -> Vec<SocketAddr> {
    section.list("listen", default, |value, text| {
        let address = text.parse::<SocketAddr>();
        let help = || Some("an example is \"[::]:2561\"".to_owned());
        address.map_err(|_| value.fault(format!("{text:?} is no IP address with a port"), help())).ok()
    })
}

fn mode(section: &mut Section<'_, '_>, what: &str, modes: &[(&str, bool)]) {
    section.parsed("mode", (), |value, text| {
        if !value.choice(text, modes)? {
            value.not_built(what, r#"mode = "off""#);
        }
        Some(())
    });
}
