//! `[links]`: what links are made over.

use std::net::SocketAddr;

use byway_link::{Accept, Endpoint, Scheme};
use byway_transport_tor::ControlPlace;

use super::parse::{asks_nothing, path};
use super::read::{Section, Value};
use super::{I2p, Links, Site, Tor};

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

    let mut unix = section.section("unix");
    links.unix = unix.list("listen", Vec::new(), path);
    unix.finish();

    links.tor = tor(section.section("tor"));
    links.i2p = i2p(section.section("i2p"));

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

/// What is asked of a system's tor, if anything is; what is written beside `mode = "off"` must be in order all the same.
fn tor(mut section: Section<'_, '_>) -> Option<Tor> {
    let is_on =
        mode(&mut section, "a tor of Byway's own", &[("off", true), ("system", true), ("embedded", false)]);
    let default = Tor::default();
    let tor = Tor {
        socks: section.parsed("socks", default.socks, loopback),
        control: section.parsed("control", default.control, |value, text| {
            if text.is_empty() {
                return Some(None);
            }
            let place = text.parse::<ControlPlace>();
            place.map_err(|error| value.fault(error.to_string(), None)).ok().map(Some)
        }),
        password_file: section.parsed("password_file", None, |value, text| match text {
            "" => Some(None),
            text => path(value, text).map(Some),
        }),
        port: section.number("port", default.port),
    };
    if tor.port == 0 {
        section.fault_at("port", "there is no port 0", None);
    }
    section.list("bridges", Vec::new(), |value, text| {
        asks_nothing(
            value,
            text,
            "a tor of Byway's own, whose bridges these would be (a system's tor has its own),",
        )
    });
    section.finish();
    is_on.then_some(tor)
}

/// The same for an I2P router.
fn i2p(mut section: Section<'_, '_>) -> Option<I2p> {
    let modes = [("off", true), ("sam", true), ("embedded", false)];
    let is_on = mode(&mut section, "an I2P router of Byway's own", &modes);
    let mut i2p = I2p::default();
    i2p.sam = section.parsed("sam", i2p.sam, loopback);
    i2p.tunnels.length = section.number("tunnel_length", i2p.tunnels.length);
    i2p.tunnels.count = section.number("tunnel_count", i2p.tunnels.count);
    if !(1..=7).contains(&i2p.tunnels.length) {
        section.fault_at("tunnel_length", "a tunnel leads through 1 to 7 routers", None);
    }
    if !(1..=16).contains(&i2p.tunnels.count) {
        section.fault_at("tunnel_count", "a session has 1 to 16 tunnels in each direction", None);
    }
    section.finish();
    is_on.then_some(i2p)
}

/// Whether a mode other than `off` is chosen, of those that are built in.
fn mode(section: &mut Section<'_, '_>, what: &str, modes: &[(&str, bool)]) -> bool {
    section.parsed("mode", false, |value, text| {
        let is_built = value.choice(text, modes)?;
        if !is_built {
            let built: Vec<_> = modes.iter().filter(|(_, is_built)| *is_built).collect();
            let built: Vec<_> = built.iter().map(|(name, _)| format!("mode = {name:?}")).collect();
            value.not_built(what, &built.join(" or "));
        }
        Some(is_built && text != "off")
    })
}

/// An address of this machine: what goes there is not encrypted.
fn loopback(value: &Value<'_, '_>, text: &str) -> Option<SocketAddr> {
    let address = value.read::<SocketAddr>(text)?;
    if !address.ip().is_loopback() {
        value.fault(
            "what goes there would cross a network unprotected: an address of this machine is wanted, like \"127.0.0.1:…\"",
            None,
        );
        return None;
    }
    Some(address)
}
