//! Keeps a session with the router going, over and over, and takes the streams that others open to it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use byway_identity::{Entropy, OsEntropy};
use byway_link::{Backoff, Condition, DialError};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::destination::Destination;
use crate::i2p::Config;
use crate::lines::Lines;
use crate::sam::{self, Trouble};
use crate::{I2pName, key};

/// What the keeper tells.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) condition: Condition,
    /// The session, once it is there.
    pub(crate) session: Option<Session>,
}

/// A session of the router's.
#[derive(Clone)]
pub(crate) struct Session {
    /// What the bridge knows it by. Whoever has it can speak for the session, so it is not shown.
    id: String,
    pub(crate) name: I2pName,
    /// Told when the router turns out to know nothing of it.
    lost: Arc<Notify>,
}

/// A stream, and what has come of it already.
pub(crate) type Opened = (TcpStream, BytesMut);

const CONNECT: Duration = Duration::from_secs(10);
/// How long the bridge may take for an answer that needs no network.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take for one that needs tunnels: routers try for minutes.
const TUNNELS: Duration = Duration::from_secs(300);
/// The same for a stream.
const STREAM: Duration = Duration::from_secs(120);
/// How often the router is asked whether it still knows the session.
const LOOK: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Connections that wait for a stream; more than one, since another stream may come while one is taken.
const ACCEPTORS: usize = 2;

impl Status {
    pub(crate) fn starting(doing: &str) -> Self {
        Self { condition: Condition::Starting { percent: None, doing: doing.to_owned() }, session: None }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session([redacted])")
    }
}

/// Keeps a session, and tells how that goes; it ends when nobody listens any more.
pub(crate) async fn keep(config: Config, status: watch::Sender<Status>, opened: mpsc::Sender<Opened>) {
    let mut backoff = Backoff::new(PAUSE, PAUSE_MAX);
    while !status.is_closed() {
        let why = match attempt(&config, &status, &opened, &mut backoff).await {
            Err(why) => why,
            Ok(never) => match never {},
        };
        let pause = backoff.failed(&mut OsEntropy);
        // The words may name places; the log must not.
        tracing::info!(again_in = ?pause, "the I2P router's SAM bridge cannot be used");
        status.send_replace(Status { condition: Condition::Failing { why }, session: None });
        tokio::time::sleep(pause).await;
    }
}

/// One session until its end: why it ended, in words.
async fn attempt(
    config: &Config,
    status: &watch::Sender<Status>,
    opened: &mpsc::Sender<Opened>,
    backoff: &mut Backoff,
) -> Result<Infallible, String> {
    let sam = config.sam;
    let mut lines = greet(sam).await?;
    let private = match key::load(&config.folder).map_err(|why| key_trouble(&why))? {
        Some(private) => private,
        None => {
            let private = generate(&mut lines, sam).await?;
            key::keep(&config.folder, &private).map_err(|why| key_trouble(&why))?;
            private
        }
    };
    let id = session_id();
    status.send_replace(Status::starting("the I2P router builds tunnels"));
    let created = ask(&mut lines, sam, &sam::create(&id, &private, config.tunnels), TUNNELS).await?;
    drop(private);
    sam::check(&created, "SESSION STATUS").map_err(|trouble| refused(&trouble, sam))?;
    // It holds the private key.
    drop(created);
    let told = ask(&mut lines, sam, &sam::lookup("ME"), ANSWER).await?;
    sam::check(&told, "NAMING REPLY").map_err(|trouble| refused(&trouble, sam))?;
    let public = sam::value(&told, "VALUE").and_then(Destination::read);
    let name = public.ok_or_else(|| refused(&Trouble::NotSam, sam))?.name();
    drop(told);

    let session = Session { id, name, lost: Arc::default() };
    let lost = session.lost.clone();
    let mut acceptors = JoinSet::new();
    for _ in 0..ACCEPTORS {
        acceptors.spawn(accept(sam, session.clone(), opened.clone()));
    }
    backoff.succeeded();
    tracing::info!("the I2P router has this daemon's session");
    status.send_replace(Status { condition: Condition::Ready, session: Some(session) });
    loop {
        // Nothing is due on it any more; when it ends, so has the session. i2pd 2.45 may end one without a word when another under
        // the same key has just been closed: then nobody can be taken in any more, and another session is due.
        let line = tokio::select! {
            line = lines.next() => line,
            _ = acceptors.join_next() => return Err(forgotten()),
            () = lost.notified() => return Err(forgotten()),
            () = tokio::time::sleep(LOOK) => {
                let told = ask(&mut lines, sam, &sam::lookup("ME"), ANSWER).await?;
                let public = sam::value(&told, "VALUE").and_then(Destination::read);
                if public.is_none_or(|public| public.name() != name) {
                    return Err(forgotten());
                }
                continue;
            }
            () = status.closed() => return Err("nobody wants to know any more".to_owned()),
        };
        let line = line.map_err(|_| {
            format!("the I2P router at {sam} has ended the session: was it stopped, or does it restart?")
        })?;
        if let Some(pong) = sam::pong(&line) {
            lines.say(&pong).await.map_err(|error| unreachable(sam, &error))?;
        }
    }
}

/// A key for a destination of its own, which the router makes.
async fn generate(lines: &mut Lines<TcpStream>, sam: SocketAddr) -> Result<key::PrivateKey, String> {
    let reply = ask(lines, sam, &sam::generate(), ANSWER).await?;
    let private = sam::value(&reply, "PRIV").filter(|_| reply.starts_with("DEST REPLY "));
    let private = private.filter(|text| key::is_key(text)).ok_or_else(|| refused(&Trouble::NotSam, sam))?;
    Ok(Zeroizing::new(private.to_owned()))
}

/// Takes streams that others open, one after the other; ends when the router knows nothing of the session any more.
async fn accept(sam: SocketAddr, session: Session, opened: mpsc::Sender<Opened>) {
    let mut backoff = Backoff::new(PAUSE, PAUSE_MAX);
    while !opened.is_closed() {
        match accept_one(sam, &session).await {
            Ok(stream) => {
                backoff.succeeded();
                if opened.send(stream).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
            Err(error) => {
                tracing::debug!(kind = ?error.kind(), "a stream over I2P was not taken");
                tokio::time::sleep(backoff.failed(&mut OsEntropy)).await;
            }
        }
    }
}

async fn accept_one(sam: SocketAddr, session: &Session) -> io::Result<Opened> {
    let mut lines = greet(sam).await.map_err(io::Error::other)?;
    let reply = ask(&mut lines, sam, &sam::accept(&session.id), ANSWER).await.map_err(io::Error::other)?;
    sam::check(&reply, "STREAM STATUS").map_err(|trouble| match trouble.result() {
        "INVALID_ID" => io::ErrorKind::NotConnected.into(),
        _ => io::Error::other("refused"),
    })?;
    // Who came, which the link's own handshake shows better. Some bridges ping while nobody comes.
    loop {
        let line = lines.next().await?;
        match sam::pong(&line) {
            Some(pong) => lines.say(&pong).await?,
            None if line.starts_with("STREAM STATUS ") => return Err(io::Error::other("refused")),
            None => return Ok(lines.into_stream()),
        }
    }
}

/// Opens a stream to `name`.
pub(crate) async fn connect(sam: SocketAddr, session: &Session, name: I2pName) -> Result<Opened, DialError> {
    let told = |why: String| DialError::Told(why);
    let refuse = |trouble: Trouble| DialError::Told(unanswered(&trouble, sam));
    let mut lines = greet(sam).await.map_err(told)?;
    let reply = ask(&mut lines, sam, &sam::lookup(&name.to_string()), STREAM).await.map_err(told)?;
    sam::check(&reply, "NAMING REPLY").map_err(refuse)?;
    let destination = sam::value(&reply, "VALUE").and_then(Destination::read);
    let destination =
        destination.filter(|found| found.name() == name).ok_or_else(|| refuse(Trouble::NotSam))?;
    let line = sam::connect(&session.id, &destination.text());
    let reply = ask(&mut lines, sam, &line, STREAM).await.map_err(told)?;
    let checked = sam::check(&reply, "STREAM STATUS");
    if matches!(&checked, Err(trouble) if trouble.result() == "INVALID_ID") {
        session.lost.notify_one();
    }
    checked.map_err(refuse)?;
    Ok(lines.into_stream())
}

/// A connection to the bridge that has said hello.
async fn greet(sam: SocketAddr) -> Result<Lines<TcpStream>, String> {
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(sam)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(sam, &error)),
        Err(_) => return Err(unreachable(sam, &io::ErrorKind::TimedOut.into())),
    };
    let _ = stream.set_nodelay(true);
    let mut lines = Lines::new(stream);
    let reply = ask(&mut lines, sam, &sam::hello(), ANSWER).await?;
    sam::check(&reply, "HELLO REPLY").map_err(|trouble| refused(&trouble, sam))?;
    Ok(lines)
}

async fn ask(
    lines: &mut Lines<TcpStream>,
    sam: SocketAddr,
    line: &Zeroizing<String>,
    patience: Duration,
) -> Result<Zeroizing<String>, String> {
    let answer = async {
        lines.say(line).await?;
        loop {
            let heard = lines.next().await?;
            match sam::pong(&heard) {
                Some(pong) => lines.say(&pong).await?,
                None => return io::Result::Ok(heard),
            }
        }
    };
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(refused(&Trouble::NotSam, sam)),
        Ok(Err(_)) => Err(format!("the I2P router at {sam} has ended the conversation: was it stopped?")),
        Err(_) => Err(format!(
            "the I2P router at {sam} has not answered in time: is it connected to the network (its console tells)?"
        )),
    }
}

fn unreachable(sam: SocketAddr, error: &io::Error) -> String {
    format!(
        "the SAM bridge of the I2P router at {sam} cannot be reached ({error}): is the router running, with SAM enabled (i2pd: \
         [sam] enabled = true)? links.i2p.sam says where it is"
    )
}

/// What the user should know when a session cannot be had.
fn refused(trouble: &Trouble, sam: SocketAddr) -> String {
    match (trouble, trouble.result()) {
        (Trouble::NotSam, _) => format!("what answers at {sam} is no SAM bridge: is links.i2p.sam right?"),
        (_, "NOVERSION") => {
            format!("the I2P router at {sam} speaks SAM of another version than 3.1 to 3.3: update it")
        }
        (_, "DUPLICATED_DEST") => {
            "the I2P router has a session under this destination's key already: is it one that has just \
                                   ended, or does another daemon use a copy of the key (i2p/destination.key)?"
                .to_owned()
        }
        (_, "INVALID_KEY") => {
            "the I2P router does not take the key of this daemon's destination (i2p/destination.key): move \
                               it away, and a new one is made, with another name"
                .to_owned()
        }
        (_, result) => format!("the I2P router refuses a session ({result}): its log and console tell more"),
    }
}

/// What the user should know when a stream cannot be had.
fn unanswered(trouble: &Trouble, sam: SocketAddr) -> String {
    match (trouble, trouble.result()) {
        (Trouble::NotSam, _) => format!("what answers at {sam} is no SAM bridge: is links.i2p.sam right?"),
        (_, "KEY_NOT_FOUND" | "INVALID_KEY" | "PEER_NOT_FOUND" | "LEASESET_NOT_FOUND") => {
            "I2P finds no such destination now: is the other daemon running, and is its name right?"
                .to_owned()
        }
        (_, "CANT_REACH_PEER" | "TIMEOUT") => {
            "I2P does not reach the destination now: is the other daemon running?".to_owned()
        }
        (_, "INVALID_ID") => forgotten(),
        (_, result) => format!("the I2P router opens no stream ({result}): its log and console tell more"),
    }
}

fn forgotten() -> String {
    "the I2P router has ended the session; another one is made".to_owned()
}

fn key_trouble(why: &str) -> String {
    format!("the key of this daemon's I2P destination cannot be used: {why}")
}

/// A name that no other program guesses: whoever knows it can open streams under this daemon's destination.
fn session_id() -> String {
    let mut bytes = [0; 16];
    OsEntropy.fill(&mut bytes);
    format!("byway-{}", hex::encode(bytes))
}
