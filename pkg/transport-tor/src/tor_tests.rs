use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::ControlPlace;

/// What answers like a tor: a SOCKS port that knows some onion services, and a control port.
struct FakeTor {
    socks: SocketAddr,
    control: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Name and local port of each service.
    services: Vec<(String, u16)>,
    /// User names and passwords that came with dials, and the host.
    seen: Vec<(String, String, String)>,
    /// What the SOCKS port answers instead.
    code: Option<u8>,
    /// The service id that the control port answers with.
    id: String,
    /// Whether the password fits.
    refuses: bool,
    /// Ends all control connections when it is dropped.
    talks: Vec<AbortHandle>,
}

impl FakeTor {
    async fn start() -> Self {
        let (socks, control) = (bind().await, bind().await);
        let fake = Self {
            socks: socks.local_addr().expect("bound"),
            control: control.local_addr().expect("bound"),
            shared: Arc::default(),
        };
        let shared = fake.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socks.accept().await {
                tokio::spawn(proxy(stream, shared.clone()));
            }
        });
        let shared = fake.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = control.accept().await {
                let talk = tokio::spawn(talk(stream, shared.clone())).abort_handle();
                shared.lock().expect("whole").talks.push(talk);
            }
        });
        fake
    }

    /// A transport that uses it, with a service of its own.
    fn open(&self, folder: &std::path::Path, password: Option<&str>) -> Tor {
        let key = OnionKey::load_or_create(folder, &mut OsEntropy).expect("made");
        self.shared.lock().expect("whole").id = key.address().to_string().replace(".onion", "");
        let password_file = password.map(|password| {
            let file = folder.join("password");
            std::fs::write(&file, password).expect("written");
            file
        });
        let control = Control { place: ControlPlace::Tcp(self.control), password_file };
        let service = Some((control, folder.to_owned()));
        Tor::open(TransportId(0), Config { socks: self.socks, service, port: 2_561 }).expect("opened")
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports")
}

/// SOCKS5 with user name and password, as RFC 1928 and 1929 have it.
async fn proxy(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) -> io::Result<()> {
    async fn text(stream: &mut TcpStream) -> io::Result<String> {
        let length = stream.read_u8().await?;
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await?;
        Ok(String::from_utf8(bytes).expect("text"))
    }
    assert_eq!(stream.read_u8().await?, 5);
    text(&mut stream).await?;
    stream.write_all(&[5, 2]).await?;
    assert_eq!(stream.read_u8().await?, 1);
    let (user, password) = (text(&mut stream).await?, text(&mut stream).await?);
    stream.write_all(&[1, 0]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    assert_eq!(head, [5, 1, 0, 3], "a name, which this machine never looks up");
    let (host, _port) = (text(&mut stream).await?, stream.read_u16().await?);
    let (code, port) = {
        let mut shared = shared.lock().expect("whole");
        shared.seen.push((user, password, host.clone()));
        let port = shared.services.iter().find(|(name, _)| *name == host).map(|(_, port)| *port);
        (shared.code.unwrap_or(if port.is_some() { 0 } else { 4 }), port)
    };
    stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    if let Some(port) = port.filter(|_| code == 0) {
        let mut service = TcpStream::connect(("127.0.0.1", port)).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut service).await?;
    }
    Ok(())
}

async fn talk(stream: TcpStream, shared: Arc<Mutex<Shared>>) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = {
            let mut shared = shared.lock().expect("whole");
            match line.split(' ').next().unwrap_or_default() {
                "PROTOCOLINFO" => {
                    "250-AUTH METHODS=HASHEDPASSWORD\r\n250-VERSION Tor=\"0.4.9\"\r\n250 OK\r\n".into()
                }
                "AUTHENTICATE" if shared.refuses => "515 Authentication failed\r\n".into(),
                "GETINFO" => "250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 SUMMARY=\"Done\"\r\n\
                              250-status/circuit-established=1\r\n250 OK\r\n"
                    .into(),
                "ADD_ONION" => {
                    let local = line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
                    let name = format!("{}.onion", shared.id);
                    shared.services.retain(|(known, _)| *known != name);
                    shared.services.push((name, local));
                    format!("250-ServiceID={}\r\n250 OK\r\n650 HS_DESC UPLOADED x UNKNOWN y\r\n", shared.id)
                }
                _ => "250 OK\r\n".to_owned(),
            }
        };
        lines.get_mut().write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

async fn events(tor: &mut Tor) -> Vec<Event> {
    let mut batch = Vec::new();
    poll_fn(|cx| tor.poll_recv(cx, &mut batch)).await.expect("it goes on");
    batch
}

async fn dial(tor: &mut Tor, endpoint: &Endpoint) -> Result<Place, DialError> {
    tor.dial(DialId(7), endpoint);
    loop {
        for event in events(tor).await {
            if let Event::Dialled { id: DialId(7), result } = event {
                return result.map(|places| places[0]);
            }
        }
    }
}

async fn send(from: &mut Tor, place: Place, frame: &'static [u8]) {
    let mut batch = VecDeque::from([(place, Bytes::from_static(frame))]);
    poll_fn(|cx| from.poll_send(cx, &mut batch)).await.expect("sent");
}

/// Waits for a condition; the transport's keeper runs in a task of its own.
async fn until(tor: &Tor, is_met: impl FnMut(&Status) -> bool) -> Status {
    let mut status = tor.service.as_ref().expect("it has one").status.clone();
    let waited = tokio::time::timeout(Duration::from_secs(60), status.wait_for(is_met));
    waited.await.expect("in time").expect("the keeper runs").clone()
}

fn why(status: &Status) -> String {
    let Condition::Failing { why } = &status.condition else { panic!("{status:?}") };
    why.clone()
}

fn fails(status: &Status) -> bool {
    matches!(status.condition, Condition::Failing { .. })
}

#[tokio::test]
async fn two_transports_carry_frames_both_ways_and_keep_their_names() {
    let (fake, ann_folder, bob_folder) = (FakeTor::start().await, folder(), folder());
    let mut ann = fake.open(ann_folder.path(), Some("secret"));
    until(&ann, |status| status.condition == Condition::Ready).await;
    let name = ann.listening().remove(0);
    let mut bob = fake.open(bob_folder.path(), Some("secret"));
    let there = dial(&mut bob, &name).await.expect("ann listens");
    assert_eq!(bob.describe(there), name.to_string());
    let opened = events(&mut ann).await;
    let [Event::Opened { place: here }] = opened[..] else { panic!("{opened:?}") };
    assert_eq!(ann.describe(here), "tor #0", "who came in has no name");
    send(&mut bob, there, b"hello").await;
    let told = tokio::select! { told = events(&mut ann) => told, _ = events(&mut bob) => panic!("nothing was sent here") };
    assert!(
        matches!(&told[..], [Event::Frame { place, frame }] if *place == here && frame == "hello"),
        "{told:?}"
    );
    send(&mut ann, here, b"back").await;
    let told = tokio::select! { told = events(&mut bob) => told, _ = events(&mut ann) => panic!("nothing was sent here") };
    assert!(
        matches!(&told[..], [Event::Frame { place, frame }] if *place == there && frame == "back"),
        "{told:?}"
    );
    bob.hang_up(there);
    let told = events(&mut ann).await;
    assert!(matches!(told[..], [Event::Closed { place }] if place == here), "{told:?}");
    drop(ann);
    let again = fake.open(ann_folder.path(), Some("secret"));
    until(&again, |status| status.is_listening).await;
    assert_eq!(again.listening(), [name], "the name survives a restart");
}

#[tokio::test]
async fn a_tor_that_went_away_gets_the_service_again_when_it_is_back() {
    let (fake, folder) = (FakeTor::start().await, folder());
    let tor = fake.open(folder.path(), Some("secret"));
    until(&tor, |status| status.condition == Condition::Ready).await;
    let talks = std::mem::take(&mut fake.shared.lock().expect("whole").talks);
    fake.shared.lock().expect("whole").services.clear();
    talks.iter().for_each(AbortHandle::abort);
    let status = until(&tor, fails).await;
    assert!(why(&status).contains("was it stopped") && tor.listening().is_empty(), "{status:?}");
    until(&tor, |status| status.condition == Condition::Ready).await;
    assert_eq!(fake.shared.lock().expect("whole").services.len(), 1);
    assert_eq!(tor.listening().len(), 1);
}

#[tokio::test]
async fn what_keeps_the_control_port_from_use_is_told_with_the_remedy_and_tried_again() {
    let (fake, folder) = (FakeTor::start().await, folder());
    fake.shared.lock().expect("whole").refuses = true;
    let tor = fake.open(folder.path(), Some("wrong"));
    let told = why(&until(&tor, fails).await);
    assert!(
        told.contains("refuses the control password") && told.contains("HashedControlPassword"),
        "{told}"
    );
    fake.shared.lock().expect("whole").refuses = false;
    until(&tor, |status| status.condition == Condition::Ready).await;

    let tor = fake.open(folder.path(), None);
    let told = why(&until(&tor, fails).await);
    assert!(told.contains("wants a password") && told.contains("links.tor.password_file"), "{told}");

    let nobody = bind().await.local_addr().expect("bound");
    for (place, part) in [
        (ControlPlace::Tcp(nobody), "is tor running"),
        (ControlPlace::Unix(folder.path().join("none")), "adduser USER debian-tor"),
    ] {
        let control = Control { place, password_file: None };
        let service = Some((control, folder.path().to_owned()));
        let config = Config { socks: fake.socks, service, port: 1 };
        let tor = Tor::open(TransportId(0), config).expect("a dead tor keeps nobody from starting");
        let told = why(&until(&tor, fails).await);
        assert!(told.contains("cannot be reached") && told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn each_peer_has_circuits_of_its_own() {
    let (fake, folder) = (FakeTor::start().await, folder());
    let mut tor = fake.open(folder.path(), Some("secret"));
    let endpoint =
        |seed: u8| format!("tor://{}:1", OnionAddress::new([seed; 32])).parse().expect("an endpoint");
    for seed in [1, 2, 1] {
        dial(&mut tor, &endpoint(seed)).await.expect_err("there is no such service");
    }
    tor.outlet().connect("example.org", 80, b"a request").await.expect_err("there is no such host");
    let seen = std::mem::take(&mut fake.shared.lock().expect("whole").seen);
    let who: Vec<_> = seen.iter().map(|(user, password, _)| (user, password)).collect();
    assert_eq!(who[0], who[2], "the same peer again");
    assert!(who[0] != who[1] && who[0] != who[3] && who[1] != who[3], "{who:?}");
    assert_eq!(seen[3].2, "example.org", "tor looks names up");
}

#[tokio::test]
async fn failures_are_told_apart_and_the_next_attempt_waits() {
    let (fake, folder) = (FakeTor::start().await, folder());
    let mut tor = fake.open(folder.path(), Some("secret"));
    let endpoint: Endpoint = format!("tor://{}:1", OnionAddress::new([1; 32])).parse().expect("an endpoint");
    for (code, part) in
        [(4, "is its name right"), (5, "take this port"), (6, "in time"), (1, "no way"), (2, "SocksPolicy")]
    {
        fake.shared.lock().expect("whole").code = Some(code);
        tor.dials = Dials::new();
        let told = dial(&mut tor, &endpoint).await.expect_err("refused").to_string();
        assert!(told.contains(part), "{code}: {told}");
        assert!(tor.dials.not_before(&endpoint).is_some(), "it is in no hurry");
    }
    for odd in ["tor://short.onion:1", "tor://nothing", "tor://example.org:80"] {
        let told = dial(&mut tor, &odd.parse().expect("an endpoint")).await.expect_err("wrong");
        assert!(matches!(told, DialError::Wrong(_)), "{odd}: {told}");
    }
    let other: Endpoint = "i2p://x.b32.i2p".parse().expect("an endpoint");
    assert_eq!(dial(&mut tor, &other).await, Err(DialError::Unsupported));

    let nobody = bind().await.local_addr().expect("bound");
    let mut tor =
        Tor::open(TransportId(0), Config { socks: nobody, service: None, port: 1 }).expect("opened");
    assert!(tor.listening().is_empty() && tor.condition() == Condition::Ready);
    let told = dial(&mut tor, &endpoint).await.expect_err("nobody there").to_string();
    assert!(told.contains("SOCKS port") && told.contains("links.tor.socks"), "{told}");
}

#[tokio::test]
async fn debug_shows_no_name_and_no_place() {
    let (fake, folder) = (FakeTor::start().await, folder());
    let tor = fake.open(folder.path(), Some("secret"));
    until(&tor, |status| status.is_listening).await;
    let shown = format!("{tor:?} {:?} {:?}", tor.outlet(), tor.listening());
    assert!(
        !shown.contains("127.0.0.1") && !shown.contains(&fake.shared.lock().expect("whole").id),
        "{shown}"
    );
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}
