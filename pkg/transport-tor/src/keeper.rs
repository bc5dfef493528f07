//! Keeps a conversation with tor's control port going, over and over.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use byway_identity::OsEntropy;
use byway_link::{Backoff, Condition};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::OnionKey;
use crate::control::{Conversation, Effect, Progress, Trouble, Wanted};

/// How tor is controlled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Where.
    pub place: ControlPlace,
    /// A file with the password whose hash is `HashedControlPassword` in tor's configuration; none: the cookie that tor names.
    pub password_file: Option<PathBuf>,
}

/// Where tor's control port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlPlace {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why a text names no control port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a control port is written as \"unix:/path\" or as an IP address of this machine with a port, like \"127.0.0.1:9051\""
)]
pub struct ControlPlaceError;

/// What the keeper tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) condition: Condition,
    /// Whether the service is there.
    pub(crate) is_listening: bool,
}

const CONNECT: Duration = Duration::from_secs(10);
/// How long tor may take for one answer while the conversation begins.
const ANSWER: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest password.
const PASSWORD_MAX: u64 = 1_024;
/// A cookie, and one byte more, by which something else is found out.
const COOKIE_MAX: u64 = 33;

impl FromStr for ControlPlace {
    type Err = ControlPlaceError;

    fn from_str(text: &str) -> Result<Self, ControlPlaceError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(ControlPlaceError) };
        }
        let address = text.parse::<SocketAddr>().ok();
        // The password, and the key of the service, would cross a network as they are.
        address.filter(|address| address.ip().is_loopback()).map(Self::Tcp).ok_or(ControlPlaceError)
    }
}

impl fmt::Display for ControlPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Has the service published, and tells how tor is; it ends when nobody listens any more.
pub(crate) async fn keep(control: Control, key: OnionKey, ports: (u16, u16), status: watch::Sender<Status>) {
    let mut backoff = Backoff::new(PAUSE, PAUSE_MAX);
    while !status.is_closed() {
        let why = match attempt(&control, &key, ports, &status, &mut backoff).await {
            Err(why) => why,
            Ok(never) => match never {},
        };
        let pause = backoff.failed(&mut OsEntropy);
        // The words may name places; the log must not.
        tracing::info!(again_in = ?pause, "tor's control port cannot be used");
        status.send_replace(Status { condition: Condition::Failing { why }, is_listening: false });
        tokio::time::sleep(pause).await;
    }
}

/// One conversation until its end: why it ended, in words.
async fn attempt(
    control: &Control,
    key: &OnionKey,
    ports: (u16, u16),
    status: &watch::Sender<Status>,
    backoff: &mut Backoff,
) -> Result<Infallible, String> {
    let password = control.password_file.as_deref().map(|file| {
        password(file)
            .map_err(|error| format!("the control password cannot be read from {} ({error})", file.display()))
    });
    let wanted = Wanted { password: password.transpose()?, address: key.address(), key: key.blob(), ports };
    let place = &control.place;
    let unreachable = |error: &dyn fmt::Display| {
        let help = match place {
            ControlPlace::Tcp(_) => "is tor running, with ControlPort in its configuration?",
            ControlPlace::Unix(_) => {
                "is tor running, and may this user use the socket (Debian: adduser USER debian-tor)?"
            }
        };
        format!(
            "tor's control port {place} cannot be reached ({error}): {help} links.tor.control says where it is"
        )
    };
    let connect = async {
        let stream: Box<dyn Stream> = match place {
            ControlPlace::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            ControlPlace::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        io::Result::Ok(stream)
    };
    let stream = match tokio::time::timeout(CONNECT, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => return Err(unreachable(&"it does not answer")),
    };
    converse(stream, wanted, control, status, backoff).await
}

async fn converse(
    mut stream: Box<dyn Stream>,
    wanted: Wanted,
    control: &Control,
    status: &watch::Sender<Status>,
    backoff: &mut Backoff,
) -> Result<Infallible, String> {
    let place = &control.place;
    let (mut conversation, first) = Conversation::new(wanted, &mut OsEntropy);
    let mut effects = vec![first];
    let mut heard = Heard::default();
    loop {
        for effect in std::mem::take(&mut effects) {
            match effect {
                Effect::Write(line) => stream.write_all(&line).await.map_err(|_| gone(place))?,
                Effect::ReadCookie(file) => {
                    let cookie = read_capped(&file, COOKIE_MAX);
                    let cookie = cookie.map_err(|error| cookie_unreadable(&file, &error))?;
                    let mut more = Vec::new();
                    let taken = conversation.cookie(cookie, &mut more);
                    taken.map_err(|trouble| explain(&trouble, control))?;
                    effects.extend(more);
                }
                Effect::Listening => {
                    heard.is_listening = true;
                    backoff.succeeded();
                    tracing::info!("tor has this daemon's onion service");
                }
                Effect::Progress(progress) => heard.progress = progress,
            }
        }
        if !effects.is_empty() {
            continue;
        }
        let now = heard.status();
        status.send_if_modified(|told| {
            let differs = told.condition != now.condition || told.is_listening != now.is_listening;
            *told = now;
            differs
        });
        let mut bytes = [0; 4_096];
        let read = stream.read(&mut bytes);
        let count = if heard.is_listening {
            tokio::select! {
                count = read => count,
                () = status.closed() => return Err("nobody wants to know any more".to_owned()),
            }
        } else {
            let late =
                || format!("tor's control port {place} does not answer: is it tor that listens there?");
            tokio::time::timeout(ANSWER, read).await.map_err(|_| late())?
        };
        let count = count.ok().filter(|count| *count > 0).ok_or_else(|| gone(place))?;
        let taken = conversation.received(&bytes[..count], &mut effects);
        taken.map_err(|trouble| explain(&trouble, control))?;
    }
}

/// What the conversation has told so far.
#[derive(Default)]
struct Heard {
    progress: Progress,
    is_listening: bool,
}

impl Heard {
    fn status(&self) -> Status {
        let Progress { percent, doing, complaint, is_cut_off, skew, is_published } = &self.progress;
        let condition = match skew.filter(|_| *percent < 100 || *is_cut_off) {
            Some(skew) => Condition::Failing {
                why: format!(
                    "tor holds this machine's clock for wrong by {skew} s: set the clock (and its time zone) right"
                ),
            },
            None if *is_cut_off => Condition::Failing {
                why: "tor has lost its way to the Tor network: is this machine online, and is Tor blocked here?"
                    .to_owned(),
            },
            None if *percent < 100 => {
                let doing = if doing.is_empty() { "starting" } else { doing };
                let complaint = complaint.as_ref().map(|words| format!(" (tor says: {words})"));
                let doing = format!("{doing}{}", complaint.unwrap_or_default());
                Condition::Starting { percent: Some(*percent), doing }
            }
            None if !is_published => Condition::Starting {
                percent: Some(100),
                doing: "publishing the onion service; links out go already".to_owned(),
            },
            None => Condition::Ready,
        };
        Status { condition, is_listening: self.is_listening }
    }
}

/// What the user should know of `trouble`.
fn explain(trouble: &Trouble, control: &Control) -> String {
    let place = &control.place;
    let out = "links out do not need it and go on, but nobody can dial this daemon over Tor";
    match trouble {
        Trouble::NotTor => {
            format!("what answers at {place} is no control port of tor's: is links.tor.control right?")
        }
        Trouble::Password => format!(
            "tor refuses the control password: the one in links.tor.password_file must be that of HashedControlPassword \
             (`tor --hash-password`); {out}"
        ),
        Trouble::PasswordUnknown => format!(
            "tor takes no control password: set HashedControlPassword in its configuration, or leave links.tor.password_file \
             empty to use the cookie; {out}"
        ),
        Trouble::PasswordMissing => format!(
            "tor's control port wants a password: name its file in links.tor.password_file, or set CookieAuthentication 1 in \
             tor's configuration; {out}"
        ),
        Trouble::Cookie => format!(
            "tor's control cookie does not fit: another tor may have written it since, or listens at {place}; restart tor, or \
             set links.tor.control; {out}"
        ),
        Trouble::Methods => format!(
            "tor's control port takes neither a cookie nor a password: set CookieAuthentication 1 in its configuration; {out}"
        ),
        Trouble::Refused(words) => format!("tor refuses the onion service: {words}; {out}"),
        Trouble::OtherName => format!(
            "tor has made an onion service of another name than its key has: what answers at {place} is no tor; {out}"
        ),
    }
}

fn cookie_unreadable(file: &Path, error: &io::Error) -> String {
    format!(
        "tor's control cookie {} cannot be read ({error}): let this user read it (Debian: adduser USER debian-tor, then log in \
         again), or set links.tor.password_file",
        file.display()
    )
}

fn gone(place: &ControlPlace) -> String {
    format!("tor has ended the conversation at {place}: was it stopped, or does it restart?")
}

/// The first line of the file.
fn password(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = read_capped(file, PASSWORD_MAX + 1)?;
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
    bytes.truncate(end);
    match bytes.len() as u64 {
        0 => Err(io::Error::other("it is empty")),
        length if length > PASSWORD_MAX => Err(io::Error::other("it is longer than any password")),
        _ => Ok(bytes),
    }
}

/// The first `most` bytes of a file.
fn read_capped(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Opening a pipe would wait for a writer, and whoever answers at the control port chooses the path.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let room = usize::try_from(most).unwrap_or(usize::MAX);
    // Of its full length from the start: growing would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_ports_are_on_this_machine() {
        for (text, place) in [
            ("unix:/run/tor/control", Some(ControlPlace::Unix("/run/tor/control".into()))),
            ("127.0.0.1:9051", Some(ControlPlace::Tcp(([127, 0, 0, 1], 9_051).into()))),
            ("192.0.2.1:9051", None),
            ("unix:control", None),
            ("localhost:9051", None),
        ] {
            assert_eq!(text.parse().ok(), place, "{text}");
            assert!(place.is_none_or(|place| place.to_string() == text));
        }
    }

    #[test]
    fn the_condition_follows_what_tor_tells() {
        let mut heard = Heard { is_listening: true, ..Heard::default() };
        heard.progress.percent = 45;
        heard.progress.complaint = Some("No route to host".into());
        let Condition::Starting { percent: Some(45), doing } = heard.status().condition else {
            panic!("{:?}", heard.status())
        };
        assert!(doing.contains("No route to host"));
        heard.progress.skew = Some(-86_400);
        let told = format!("{:?}", heard.status().condition);
        assert!(told.contains("Failing") && told.contains("clock") && told.contains("-86400 s"), "{told}");
        heard.progress.percent = 100;
        heard.progress.is_published = true;
        assert_eq!(
            heard.status().condition,
            Condition::Ready,
            "whoever is connected has a clock that will do"
        );
        heard.progress.is_cut_off = true;
        assert!(matches!(heard.status().condition, Condition::Failing { .. }));
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        for (content, wanted) in [
            (&b"open sesame\n"[..], Some(&b"open sesame"[..])),
            (b"x\r\ny", Some(b"x")),
            (b"\n", None),
            (&[b'a'; 2_000], None),
        ] {
            std::fs::write(&file, content).expect("written");
            assert_eq!(password(&file).ok().as_deref().map(Vec::as_slice), wanted, "{content:?}");
        }
        assert!(password(folder.path()).is_err());
    }
}
