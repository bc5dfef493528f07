//! From TOML to [`Config`], section by section.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use byway_api::ManCon;
use byway_identity::Addr;
use byway_link::{Endpoint, EndpointError, Scheme};
use byway_portal::{Allow, Ports, Who};
use byway_transport_i2p::I2pName;
use byway_transport_tor::OnionAddress;
use toml::de::DeTable;

use super::fault::{Log, suggest};
use super::read::{Section, Value};
use super::{Cipher, Config, Faults, Levels, Listen, LogLevel, Network, Peer, Portal, Protocol, Session};

/// Schemes whose transports are built in.
const BUILT_IN: &[Scheme] = &[
    Scheme::Udp,
    Scheme::Tcp,
    Scheme::Tls,
    Scheme::Ws,
    Scheme::Wss,
    Scheme::Tor,
    Scheme::I2p,
    Scheme::Unix,
    #[cfg(feature = "quic")]
    Scheme::Quic,
];

/// Longest name of a Linux network device, in bytes.
const DEVICE_NAME_MAX: usize = 15;
/// Longest path of a Unix socket, in bytes.
const SOCKET_PATH_MAX: usize = 107;

pub(super) fn config(text: &str, file: &str) -> Result<Config, Faults> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let log = Log::new(text);
    for error in errors {
        log.add(error.span().map_or(0, |span| span.start), "", one_line(error.message()), None);
    }
    let mut config = Config::default();
    let mut root = Section::root(&log, table.get_ref());
    let (peers, names) = peers(root.sections("peers"));
    config.peers = peers;
    node(root.section("node"), &mut config);
    api(root.section("api"), &mut config);
    network(root.section("network"), &mut config.network);
    mancon(root.section("mancon"), &mut config.mancon);
    portal(root.section("portal"), &names, &mut config.portal);
    super::links::links(root.section("links"), &mut config.links);
    session(root.section("session"), &mut config.session);
    proxy(root.section("proxy"));
    let mut section = root.section("log");
    config.log = section.parsed("level", config.log, |value, text| {
        use LogLevel::{Debug, Error, Info, Trace, Warn};
        value.choice(text, &[Error, Warn, Info, Debug, Trace].map(|level| (level.name(), level)))
    });
    section.finish();
    root.finish();
    log.finish(file)?;
    Ok(config)
}

/// Reads the list of peers that were added and removed at run time.
pub(crate) fn known_peers(text: &str, file: &str) -> Result<(Vec<Peer>, Vec<Addr>), Faults> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let log = Log::new(text);
    for error in errors {
        log.add(error.span().map_or(0, |span| span.start), "", one_line(error.message()), None);
    }
    let mut root = Section::root(&log, table.get_ref());
    let (peers, _) = peers(root.sections("peers"));
    let removed = root.list("removed", Vec::new(), Value::read);
    root.finish();
    log.finish(file)?;
    Ok((peers, removed))
}

fn node(mut section: Section<'_, '_>, config: &mut Config) {
    config.key = section.parsed("key", config.key.clone(), path);
    section.finish();
}

fn api(mut section: Section<'_, '_>, config: &mut Config) {
    config.api.listen = section.list("listen", config.api.listen.clone(), listen);
    config.api.inet256_mancon = section.parsed("inet256_mancon", None, optional_level);
    section.finish();
}

fn network(mut section: Section<'_, '_>, network: &mut Network) {
    network.protocol = section.parsed("protocol", network.protocol, |value, text| {
        value.choice(text, &[Protocol::Grove, Protocol::Beacon].map(|protocol| (protocol.name(), protocol)))
    });
    network.name = section.parsed("name", network.name.clone(), |value, text| {
        let fits = !text.is_empty() && text.len() <= 63 && !text.chars().any(char::is_control);
        if !fits {
            value.fault("a network's name has 1 to 63 bytes and no control characters", None);
        }
        fits.then(|| text.to_owned())
    });
    network.group_key_file = section.parsed("group_key_file", None, |value, text| match text {
        "" => Some(None),
        text => path(value, text).map(Some),
    });
    section.finish();
}

fn mancon(mut section: Section<'_, '_>, levels: &mut Levels) {
    levels.default = section.parsed("default", levels.default, level);
    levels.floor = section.parsed("floor", levels.floor, level);
    levels.direct = section.flag("direct", levels.direct);
    section.parsed("jurisdiction", (), |value, text| {
        match text {
            "" => {}
            text if is_country(text) => {
                value.not_built("the choice of a level by country", r#""", and set default"#);
            }
            text if is_country(&text.to_uppercase()) => {
                value.fault(
                    "country codes are written in capitals",
                    Some(format!("did you mean {:?}?", text.to_uppercase())),
                );
            }
            _ => value.fault(
                format!("{text:?} is no country"),
                Some("ISO 3166-1 has two letters, like \"CH\"".into()),
            ),
        }
        Some(())
    });
    section.list("help", Vec::new(), |value, text| {
        const HELP: [(&str, ()); 6] =
            [("relay", ()), ("tor-exit", ()), ("tor-onion", ()), ("i2p", ()), ("1dn", ()), ("store", ())];
        value.choice(text, &HELP)?;
        value.not_built("helping others", "help = []");
        Some(())
    });
    for mut rule in section.sections("rule") {
        rule.fault(
            "rules are not built into this version yet",
            Some("leave them out, and set mancon.default".into()),
        );
        rule.parsed("to", (), |_, _| Some(()));
        rule.parsed("level", ManCon::High, level);
        rule.finish();
    }
    section.finish();
}

fn portal(mut section: Section<'_, '_>, names: &HashMap<String, Addr>, portal: &mut Portal) {
    portal.enabled = section.flag("enabled", portal.enabled);
    portal.device = section.parsed("device", portal.device.clone(), |value, text| {
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
        let fits = !text.is_empty()
            && text.len() <= DEVICE_NAME_MAX
            && !text.contains(odd)
            && !text.starts_with('.');
        if !fits {
            let what =
                format!("a device name has 1 to {DEVICE_NAME_MAX} of the characters A-Z a-z 0-9 - _ .");
            value.fault(what, None);
        }
        fits.then(|| text.to_owned())
    });
    portal.prefix = section.read("prefix", portal.prefix);
    portal.mtu = section.number("mtu", portal.mtu);
    if (1..1_280).contains(&portal.mtu) {
        section.fault_at(
            "mtu",
            "an IPv6 device needs an MTU of 1280 or more",
            Some("write mtu = 0 to leave it to Byway".into()),
        );
    }
    portal.mancon = section.parsed("mancon", None, optional_level);
    portal.threads = section.number("threads", portal.threads);
    if !(portal.threads == 1 || (2..=64).contains(&portal.threads) && portal.threads.is_multiple_of(2)) {
        let what = "there are 1, 2 or another even number of threads, up to 64";
        section.fault_at("threads", what, Some("one thread for both directions, or pairs of them".into()));
    }
    portal.offload = section.flag("offload", portal.offload);
    for mut rule in section.sections("allow") {
        let peer = rule.parsed("peer", None, |value, text| match text {
            "*" => Some(Some(Who::Anyone)),
            text => who(value, text, names).map(|addr| Some(Who::Node(addr))),
        });
        let ports = rule.list("ports", Vec::new(), ports);
        match peer {
            Some(peer) => portal.allow.push(Allow { peer, ports }),
            // Not "everybody": whoever forgets the key must not open the machine to all.
            None => rule.fault(
                "the key `peer` is missing or wrong",
                Some("write an address, a petname, or \"*\" for everybody".into()),
            ),
        }
        rule.finish();
    }
    section.finish();
}

fn session(mut section: Section<'_, '_>, session: &mut Session) {
    let default = session.ciphers.iter().copied().map(Some).collect();
    let ciphers = section.list("ciphers", default, |value, text| {
        let (aes, aegis) = (Some(Cipher::Aes), Some(Cipher::Aegis));
        value.choice(text, &[("aes-256-gcm", aes), ("aegis-128l", aegis), ("chacha20-poly1305", None)])
    });
    session.ciphers = ciphers.into_iter().flatten().collect();
    let longest = session.ratchet.as_secs();
    let seconds = section.number("ratchet_seconds", longest);
    if (1..=longest).contains(&seconds) {
        session.ratchet = Duration::from_secs(seconds);
    } else {
        section.fault_at("ratchet_seconds", format!("keys live 1 to {longest} seconds"), None);
    }
    section.finish();
}

fn proxy(mut section: Section<'_, '_>) {
    for (key, what) in [("socks5", "the SOCKS5 proxy"), ("http", "the HTTP proxy")] {
        section.parsed(key, (), |value, text| asks_nothing(value, text, what));
    }
    section.finish();
}

/// The peers, and the addresses that their petnames stand for.
fn peers(sections: Vec<Section<'_, '_>>) -> (Vec<Peer>, HashMap<String, Addr>) {
    let (mut peers, mut names, mut seen) = (Vec::<Peer>::new(), HashMap::new(), HashSet::new());
    for mut section in sections {
        let mut wrong = false;
        let addr = section.parsed("addr", None, |value, text| {
            let addr = value.read::<Addr>(text);
            wrong |= addr.is_none();
            let addr = addr?;
            if peers.iter().any(|peer| peer.addr == addr) {
                value.fault("this peer is listed twice", Some("put its endpoints together".into()));
                wrong = true;
            }
            Some(Some(addr))
        });
        let name = section.parsed("name", None, |value, text| {
            if text.is_empty() {
                return Some(None);
            }
            if let Err(what) = petname(text) {
                value.fault(what, None);
                return None;
            }
            if !seen.insert(text.to_owned()) {
                value.fault(format!("two peers have the petname {text:?}"), None);
                return None;
            }
            names.extend(addr.map(|addr| (text.to_owned(), addr)));
            Some(Some(text.to_owned()))
        });
        let endpoints = section.list("endpoints", Vec::new(), endpoint);
        let transports = section.list("transports", Vec::new(), |value, text| {
            read_transport(text).map_err(|(what, help)| value.fault(what, help)).ok()
        });
        match addr {
            Some(addr) => peers.push(Peer { addr, name, endpoints, transports }),
            None if wrong => {}
            None => section
                .fault("the key `addr` is missing", Some("each peer has an address of 43 characters".into())),
        }
        section.finish();
    }
    (peers, names)
}

/// Only an empty text asks for nothing.
pub(super) fn asks_nothing(value: &Value<'_, '_>, text: &str, what: &str) -> Option<()> {
    if !text.is_empty() {
        value.not_built(what, "nothing here");
    }
    Some(())
}

fn level(value: &Value<'_, '_>, text: &str) -> Option<ManCon> {
    value.choice(text, &ManCon::ALL.map(|level| (level.name(), level)))
}

fn optional_level(value: &Value<'_, '_>, text: &str) -> Option<Option<ManCon>> {
    if text.is_empty() { Some(None) } else { level(value, text).map(Some) }
}

pub(super) fn path(value: &Value<'_, '_>, text: &str) -> Option<std::path::PathBuf> {
    if text.is_empty() || text.contains('\0') || text.ends_with('/') {
        value.fault(format!("{text:?} names no file"), None);
        return None;
    }
    if text.starts_with('~') {
        value.fault("the shell's ~ has no meaning here", Some("write the whole path".into()));
        return None;
    }
    Some(text.into())
}

fn listen(value: &Value<'_, '_>, text: &str) -> Option<Listen> {
    if text == "unix" {
        return Some(Listen::Default);
    }
    if let Some(text) = text.strip_prefix("unix:") {
        let path = path(value, text)?;
        if path.as_os_str().len() > SOCKET_PATH_MAX {
            value.fault(format!("the path of a Unix socket has at most {SOCKET_PATH_MAX} bytes"), None);
            return None;
        }
        return Some(Listen::Unix(path));
    }
    if let Some(text) = text.strip_prefix("tcp:") {
        let Ok(address) = text.parse::<SocketAddr>() else {
            let help = "an example is \"tcp:127.0.0.1:2560\"".to_owned();
            value.fault(format!("{text:?} is no IP address with a port"), Some(help));
            return None;
        };
        if !address.ip().is_loopback() {
            value.fault(
                "the API listens on loopback addresses only",
                Some("reach it from elsewhere through ssh".into()),
            );
            return None;
        }
        return Some(Listen::Tcp(address));
    }
    value.fault(
        format!("{text:?} is no place to listen"),
        Some(r#"there is "unix", "unix:/path" and "tcp:127.0.0.1:2560""#.into()),
    );
    None
}

fn who(value: &Value<'_, '_>, text: &str, names: &HashMap<String, Addr>) -> Option<Addr> {
    if let Some(addr) = names.get(text.strip_suffix(".byway").unwrap_or(text)) {
        return Some(*addr);
    }
    text.parse()
        .map_err(|error| {
            let known: Vec<_> = names.keys().map(String::as_str).collect();
            value.fault(
                format!("{text:?} is neither a petname nor an address: {error}"),
                suggest(text, &known),
            );
        })
        .ok()
}

fn ports(value: &Value<'_, '_>, text: &str) -> Option<Ports> {
    let ports = value.read(text)?;
    if matches!(ports, Ports::Tcp(0, 0) | Ports::Udp(0, 0)) {
        value.fault("there is no port 0", None);
        return None;
    }
    Some(ports)
}

fn endpoint(value: &Value<'_, '_>, text: &str) -> Option<Endpoint> {
    read_endpoint(text).map_err(|(what, help)| value.fault(what, help)).ok()
}

/// The kind of links that `text` names, if it is built in; else what is wrong, and what helps.
pub(crate) fn read_transport(text: &str) -> Result<Scheme, (String, Option<String>)> {
    let known = BUILT_IN.iter().find(|known| known.name() == text);
    known.copied().ok_or_else(|| {
        let names: Vec<_> = BUILT_IN.iter().map(|known| known.name()).collect();
        let help = suggest(text, &names).unwrap_or_else(|| format!("there are {}", names.join(", ")));
        (format!("{text:?} is no transport of this version"), Some(help))
    })
}

/// The endpoint that `text` is, if a transport for it is built in; else what is wrong, and what helps.
pub(crate) fn read_endpoint(text: &str) -> Result<Endpoint, (String, Option<String>)> {
    let Some((scheme, _)) = text.split_once("://") else {
        let help = "an example is \"udp://host.example:2561\"".to_owned();
        return Err((format!("{text:?} is no endpoint"), Some(help)));
    };
    match Scheme::ALL.iter().find(|known| known.name() == scheme) {
        Some(known) if BUILT_IN.contains(known) => {
            let endpoint: Endpoint =
                text.parse().map_err(|error: EndpointError| (error.to_string(), None))?;
            check(&endpoint).map_err(|what| (what, None))?;
            Ok(endpoint)
        }
        Some(_) => {
            let what = format!("the transport {scheme} is not built into this version yet");
            let names: Vec<_> = BUILT_IN.iter().map(|known| format!("{known}://")).collect();
            Err((what, Some(format!("those that are have endpoints that begin with {}", names.join(", ")))))
        }
        None => {
            let (built_in, others): (Vec<_>, Vec<_>) =
                Scheme::ALL.iter().partition(|known| BUILT_IN.contains(known));
            let names = |known: Vec<&Scheme>| known.iter().map(|known| known.name()).collect::<Vec<_>>();
            let help = suggest(scheme, &names(built_in)).unwrap_or_default();
            let help = format!("{help} (known but not built in: {})", names(others).join(", "));
            Err((format!("{scheme:?} is no transport"), Some(help)))
        }
    }
}

/// Finds errors in endpoints whose names have a check of their own.
fn check(endpoint: &Endpoint) -> Result<(), String> {
    match (endpoint.scheme(), endpoint.opaque()) {
        (Scheme::Tor, Some(text)) => {
            OnionAddress::parse_with_port(text).map(drop).map_err(|error| error.to_string())
        }
        (Scheme::I2p, Some(text)) => text.parse::<I2pName>().map(drop).map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}

/// Why `text` cannot be a petname, if so.
pub(crate) fn petname(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 40 {
        return Err("a petname has 1 to 40 bytes".into());
    }
    if let Some(odd) =
        text.chars().find(|c| c.is_whitespace() || c.is_control() || "./*:?#[]@\"'".contains(*c))
    {
        return Err(format!("a petname cannot hold {odd:?}"));
    }
    Ok(())
}

/// Codes that ISO 3166-1 assigns to countries.
fn is_country(text: &str) -> bool {
    const CODES: &str = "ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBYBZCACCCDCFCGCHCICKCLCMCN\
        COCRCUCVCWCXCYCZDEDJDKDMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGLGMGNGPGQGRGSGTGUGWGYHKHMHNHRHTHUIDIEILIM\
        INIOIQIRISITJEJMJOJPKEKGKHKIKMKNKPKRKWKYKZLALBLCLILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNA\
        NCNENFNGNINLNONPNRNUNZOMPAPEPFPGPHPKPLPMPNPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSSSTSVSXSYSZTCTDTF\
        TGTHTJTKTLTMTNTOTRTTTVTWTZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSYEYTZAZMZW";
    text.len() == 2 && CODES.as_bytes().chunks_exact(2).any(|code| code == text.as_bytes())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
