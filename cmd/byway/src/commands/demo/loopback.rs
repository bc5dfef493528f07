//! The demo where namespaces are not allowed: daemons over UDP on loopback, and a stream instead of a TUN device.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use byway_api::{ApiError, OpenNode, Service};
use byway_identity::Addr;
use byway_stream::{Endpoint, EndpointConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::scene::{Directory, config};
use super::{NAMES, REQUEST, web};
use crate::failure::Failure;

/// Running daemons, and the web server.
pub(crate) struct Loopback {
    daemons: Vec<Daemon>,
    page: SocketAddr,
    listener: Option<JoinHandle<()>>,
}

/// Ended with this value, whatever happens.
struct Daemon(Child);

/// How long a daemon that was asked to stop has.
const FAREWELL: Duration = Duration::from_secs(5);

impl Loopback {
    /// Starts the relay, then the others, which must know its port.
    pub(crate) async fn open(
        directory: &Directory,
        addrs: &[Addr],
    ) -> Result<(Self, Vec<Arc<dyn Service>>), Failure> {
        let [ann, relay, bob] = [0, 1, 2].map(|index| &addrs[index]);
        let no_portal = "enabled = false";
        let peers = [("ann", ann, None), ("bob", bob, None)];
        let any = "127.0.0.1:0";
        directory.configure("relay", &config(&directory.socket("relay"), any, no_portal, &peers))?;
        let mut daemons = vec![Daemon::start(directory, "relay")?];
        let middle = directory.connect("relay").await?;
        let endpoint = middle.status().await?.endpoints.into_iter().next();
        let peers = [("relay", relay, endpoint)];
        for name in ["ann", "bob"] {
            directory.configure(name, &config(&directory.socket(name), any, no_portal, &peers))?;
            daemons.push(Daemon::start(directory, name)?);
        }
        let services = vec![directory.connect(NAMES[0]).await?, middle, directory.connect(NAMES[2]).await?];
        let server = TcpListener::bind(any)?;
        let page = server.local_addr()?;
        // It ends with the process; nothing is lost.
        std::thread::spawn(move || web::serve(&server));
        Ok((Self { daemons, page, listener: None }, services))
    }

    /// A stream from a node at `ann` to a node at `bob`, which passes it on to the web server.
    pub(crate) async fn fetch(&mut self, ann: &dyn Service, bob: &dyn Service) -> Result<web::Page, Failure> {
        let open = || OpenNode { key: None, mancon: REQUEST.mancon };
        let settings = || EndpointConfig { request: REQUEST, ..EndpointConfig::default() };
        let there = Endpoint::new(bob.open(open()).await?, settings());
        let (to, page) = (there.node().addr(), self.page);
        self.listener = Some(tokio::spawn(async move {
            while let Some(incoming) = there.accept().await {
                let (Ok(mut stream), Ok(mut server)) =
                    (incoming.accept().await, tokio::net::TcpStream::connect(page).await)
                else {
                    continue;
                };
                if tokio::io::copy_bidirectional(&mut stream, &mut server).await.is_ok() {
                    let _ = stream.close().await;
                }
            }
        }));
        let here = Endpoint::new(ann.open(open()).await?, settings());
        let began = Instant::now();
        let mut stream = here.connect(to, "web").await.map_err(ApiError::from)?;
        stream.write_all(web::request("bob.byway").as_bytes()).await?;
        stream.shutdown().await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (status, title) =
            web::parse(&text).ok_or_else(|| Failure::no("what came back is no web page"))?;
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        here.close().await;
        Ok(web::Page { url: format!("http://{to}.byway/"), status, title, took_ms })
    }

    /// Waits until the daemons, which were asked to stop, have.
    pub(crate) async fn end(mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until
            && self.daemons.iter_mut().any(|daemon| matches!(daemon.0.try_wait(), Ok(None)))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Daemon {
    fn start(directory: &Directory, name: &str) -> Result<Self, Failure> {
        let child = Command::new(std::env::current_exe()?)
            .args(["up", "--no-portal", "--config"])
            .arg(directory.config(name))
            .arg("--state")
            .arg(directory.state(name))
            // Ctrl-C is for the demo, which ends the daemons in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.log(name))?)
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended already is no error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
