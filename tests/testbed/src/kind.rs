//! The transports that two daemons can be joined over.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use byway_identity::Addr;
use byway_netns::{Host, Process, wait_for};

use crate::{Auth, I2pNetwork, PATIENCE, TorClient, TorNetwork, installed};

/// One way to join two daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A Unix socket.
    Unix,
    /// Masked datagrams.
    Udp,
    /// QUIC.
    Quic,
    /// Masked TCP.
    Tcp,
    /// TLS 1.3.
    Tls,
    /// WebSocket without TLS.
    Ws,
    /// WebSocket in TLS of the daemon's own.
    Wss,
    /// WebSocket in TLS that ends at nginx.
    Nginx,
    /// Onion services of a `tor` on this machine.
    TorSystem,
    /// Streams of an i2pd on this machine.
    I2pSam,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Unix,
        Self::Udp,
        Self::Quic,
        Self::Tcp,
        Self::Tls,
        Self::Ws,
        Self::Wss,
        Self::Nginx,
        Self::TorSystem,
        Self::I2pSam,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Udp => "udp",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Nginx => "wss through nginx",
            Self::TorSystem => "tor, system",
            Self::I2pSam => "i2p, i2pd",
        }
    }

    /// The scheme of its endpoints where it listens.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Udp => "udp",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws | Self::Nginx => "ws",
            Self::Wss => "wss",
            Self::TorSystem => "tor",
            Self::I2pSam => "i2p",
        }
    }

    /// The class of its links, as `byway links` shows it.
    pub fn class(self) -> &'static str {
        match self {
            Self::Unix => "loopback/memory",
            // Datagrams between addresses of one machine.
            Self::Udp => "ethernet/lan",
            Self::Quic => "ip/quic",
            Self::Tcp => "ip/tcp",
            Self::Tls => "ip/tls",
            Self::Ws | Self::Wss | Self::Nginx => "ip/websocket",
            Self::TorSystem => "tor/onion",
            Self::I2pSam => "i2p/stream",
        }
    }

    /// Whether it waits for a network of others before it can be used.
    pub fn is_slow(self) -> bool {
        matches!(self, Self::TorSystem | Self::I2pSam)
    }

    /// The strongest level whose requests it may carry.
    pub fn level(self) -> &'static str {
        if self.is_slow() { "high" } else { "low" }
    }
}

/// The networks and servers that transports need besides the daemons; each starts when it is first asked for.
#[derive(Default)]
pub struct Around {
    tor: Option<(TorNetwork, [TorClient; 2])>,
    i2p: Option<I2pNetwork>,
    nginx: Option<Process>,
}

impl Around {
    /// `[links]` of a daemon that uses this kind and no other; `end` is 0 or 1. All of it listens on loopback of `host`.
    pub fn links(&mut self, host: &Host, kind: Kind, end: usize) -> Result<String> {
        // The host is ours alone, so any port is free; a daemon that restarts is found at the same one.
        let port = 21_000 + 2 * kind as usize + end;
        let listen =
            |text: &str| format!("udp.listen = []\n{}\n", text.replace("AT", &format!("127.0.0.1:{port}")));
        Ok(match kind {
            Kind::Unix => listen("unix.listen = [\"link.sock\"]"),
            Kind::Udp => format!("udp.listen = [\"127.0.0.1:{port}\"]\n"),
            Kind::Quic => listen("quic.listen = [\"AT\"]"),
            Kind::Tcp => listen("tcp.listen = [\"AT\"]"),
            Kind::Tls => listen("tls.listen = [\"AT\"]"),
            Kind::Ws | Kind::Nginx => listen("websocket = { listen = [\"AT\"], path = \"/secret\" }"),
            Kind::Wss => listen("websocket = { listen = [\"AT\"], path = \"/secret\", tls = true }"),
            Kind::TorSystem => {
                let TorClient { socks, port, .. } = self.tor(host)?[end];
                format!(
                    "tor = {{ mode = \"system\", socks = \"127.0.0.1:{socks}\", control = \"127.0.0.1:{port}\" }}\n"
                )
            }
            Kind::I2pSam => {
                let sam = self.i2p(host)?.sam(end);
                format!(
                    "i2p = {{ mode = \"sam\", sam = \"127.0.0.1:{sam}\", tunnel_length = 1, tunnel_count = 3 }}\n"
                )
            }
        })
    }

    /// The endpoint to dial for a daemon that says it listens at `endpoint`: another one where a server stands before it.
    pub fn front(&mut self, host: &Host, kind: Kind, endpoint: &str) -> Result<String> {
        if kind != Kind::Nginx {
            return Ok(endpoint.to_owned());
        }
        let behind = endpoint.split("://").nth(1).and_then(|rest| rest.split('/').next());
        self.nginx = None;
        let (process, front) = nginx(host, behind.context("an endpoint without a place")?)?;
        self.nginx = Some(process);
        Ok(front)
    }

    fn tor(&mut self, host: &Host) -> Result<&[TorClient; 2]> {
        if self.tor.is_none() {
            let network = TorNetwork::start(host)?;
            let clients = [network.client(host, 0, Auth::Cookie)?, network.client(host, 1, Auth::Cookie)?];
            self.tor = Some((network, clients));
        }
        Ok(&self.tor.as_ref().context("just started")?.1)
    }

    fn i2p(&mut self, host: &Host) -> Result<&I2pNetwork> {
        if self.i2p.is_none() {
            self.i2p = Some(I2pNetwork::start(host)?);
        }
        self.i2p.as_ref().context("just started")
    }
}

/// Where nginx speaks TLS; nothing else on that host uses this port.
const FRONT: u16 = 8_443;

/// An nginx that hands one secret path to the daemon at `behind` and everything else to nobody, and the endpoint in front of it.
fn nginx(host: &Host, behind: &str) -> Result<(Process, String)> {
    let folder = host.path("nginx");
    std::fs::create_dir_all(&folder)?;
    sh(
        &folder,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=www.example.org \
         -keyout nginx.key -out nginx.crt 2>/dev/null",
    )?;
    let pin = "openssl x509 -in nginx.crt -pubkey -noout | openssl pkey -pubin -outform der | \
               openssl dgst -sha256 -binary";
    let pin = <[u8; 32]>::try_from(sh(&folder, pin)?).ok().context("no digest")?;
    let pin = Addr::from_bytes(pin);
    let at = folder.display();
    let config = format!(
        r#"daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.log; events {{}}
http {{
    access_log off; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;
    uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;
    server {{
        listen 127.0.0.1:{FRONT} ssl; ssl_certificate {at}/nginx.crt; ssl_certificate_key {at}/nginx.key;
        location = /secret {{
            proxy_pass http://{behind}; proxy_http_version 1.1; proxy_read_timeout 1h;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $host;
        }}
    }}
}}
"#
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = host.command(installed("nginx", "nginx-light")?, ["-c"]);
    command.arg(&file);
    let process = host.spawn(command)?;
    wait_for(PATIENCE, "nginx", || {
        host.run(&format!("ss -ltnH sport = :{FRONT}")).is_ok_and(|printed| !printed.is_empty())
    })?;
    Ok((process, format!("wss://127.0.0.1:{FRONT}/secret?pin={pin}&sni=www.example.org")))
}

/// What `script` prints, run by `sh` in `folder`.
fn sh(folder: &Path, script: &str) -> Result<Vec<u8>> {
    let output =
        Command::new("sh").args(["-ec", script]).current_dir(folder).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
