use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::destination::Destination;
use crate::destination::tests::pair;

/// What answers like the SAM bridge of a router; all of its sessions reach each other.
struct FakeSam {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Lines that came.
    heard: Vec<String>,
    /// Private keys of sessions, by id.
    sessions: Vec<(String, String)>,
    /// Connections that wait for a stream: whose, and how to hand one over.
    acceptors: Vec<(String, oneshot::Sender<TcpStream>)>,
    generated: u8,
    /// What a command is answered with instead: its beginning, and the answer.
    refusals: Vec<(&'static str, &'static str)>,
    tasks: Vec<AbortHandle>,
}

impl FakeSam {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let fake = Self { address: listener.local_addr().expect("bound"), shared: Arc::default() };
        let shared = fake.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let task = tokio::spawn(serve(stream, shared.clone())).abort_handle();
                shared.lock().expect("whole").tasks.push(task);
            }
        });
        fake
    }

    fn open(&self, folder: &std::path::Path) -> I2p {
        let config = Config { sam: self.address, folder: folder.join("i2p"), tunnels: Tunnels::default() };
        I2p::open(TransportId(4), config)
    }

    fn refuse(&self, refusals: &[(&'static str, &'static str)]) {
        self.shared.lock().expect("whole").refusals = refusals.to_vec();
    }

    fn heard(&self) -> Vec<String> {
        self.shared.lock().expect("whole").heard.clone()
    }
}

/// What becomes of a connection after a line.
enum Next {
    Say(String),
    /// The session lasts as long as the connection.
    Session(String, String),
    Wait(oneshot::Receiver<TcpStream>),
    Join(oneshot::Sender<TcpStream>),
}

async fn serve(stream: TcpStream, shared: Arc<Mutex<Shared>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut own = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            let mut shared = shared.lock().expect("whole");
            shared.sessions.retain(|(id, _)| Some(id) != own.as_ref());
            return Ok(());
        }
        let next = answer(line.trim_end(), &shared, own.as_ref());
        match next {
            Next::Say(text) => reader.get_mut().write_all(text.as_bytes()).await?,
            Next::Session(id, text) => {
                own = Some(id);
                reader.get_mut().write_all(text.as_bytes()).await?;
            }
            Next::Wait(arrival) => {
                reader.get_mut().write_all(b"STREAM STATUS RESULT=OK\n").await?;
                let Ok(mut other) = arrival.await else { return Ok(()) };
                // The line and the first bytes in one write, as bridges do.
                let mut first = vec![0; 4_096];
                let count = other.read(&mut first).await?;
                let line = format!("{} FROM_PORT=0 TO_PORT=0\n", pair(200).0);
                reader.get_mut().write_all(&[line.as_bytes(), &first[..count]].concat()).await?;
                tokio::io::copy_bidirectional(&mut other, &mut reader).await?;
                return Ok(());
            }
            Next::Join(acceptor) => {
                reader.get_mut().write_all(b"STREAM STATUS RESULT=OK\n").await?;
                // It sends nothing before it has the answer.
                let _ = acceptor.send(reader.into_inner());
                return Ok(());
            }
        }
    }
}

fn answer(line: &str, shared: &Mutex<Shared>, own: Option<&String>) -> Next {
    let mut shared = shared.lock().expect("whole");
    shared.heard.push(line.to_owned());
    if let Some((_, refusal)) = shared.refusals.iter().find(|(start, _)| line.starts_with(start)) {
        return Next::Say(format!("{refusal}\n"));
    }
    let word = |key| crate::sam::value(line, key).unwrap_or_default().to_owned();
    let verb: Vec<_> = line.split(' ').take(2).collect();
    match verb[..] {
        ["HELLO", _] => Next::Say("HELLO REPLY RESULT=OK VERSION=3.1\n".into()),
        ["DEST", _] => {
            shared.generated += 1;
            let (public, private) = pair(shared.generated);
            Next::Say(format!("DEST REPLY PUB={public} PRIV={private}\n"))
        }
        ["SESSION", _] => {
            let (id, key) = (word("ID"), word("DESTINATION"));
            shared.sessions.push((id.clone(), key.clone()));
            // A ping first, which must be answered and not taken for the answer.
            Next::Session(id, format!("PING 1\nSESSION STATUS RESULT=OK DESTINATION={key}\n"))
        }
        ["PONG", ..] => Next::Say(String::new()),
        ["NAMING", _] => {
            let name = word("NAME");
            let mut keys = shared.sessions.iter();
            let key =
                keys.find(|(id, key)| if name == "ME" { Some(id) == own } else { name_of(key) == name });
            // Like a bridge that errs: the private key where the public one is asked for.
            Next::Say(key.map_or(format!("NAMING REPLY RESULT=KEY_NOT_FOUND NAME={name}\n"), |(_, key)| {
                format!("NAMING REPLY RESULT=OK NAME={name} VALUE={key}\n")
            }))
        }
        ["STREAM", "ACCEPT"] => {
            let (sender, receiver) = oneshot::channel();
            shared.acceptors.push((word("ID"), sender));
            Next::Wait(receiver)
        }
        ["STREAM", _] => {
            let wanted = Destination::read(&word("DESTINATION")).expect("a destination").name().to_string();
            let session = shared.sessions.iter().find(|(_, key)| name_of(key) == wanted);
            let id = session.map(|(id, _)| id.clone());
            let at = shared.acceptors.iter().position(|(whose, _)| Some(whose) == id.as_ref());
            match at {
                Some(at) => Next::Join(shared.acceptors.remove(at).1),
                None => Next::Say("STREAM STATUS RESULT=CANT_REACH_PEER\n".into()),
            }
        }
        _ => panic!("{line}"),
    }
}

fn name_of(key: &str) -> String {
    Destination::read(key).expect("a destination").name().to_string()
}

async fn events(i2p: &mut I2p) -> Vec<Event> {
    let mut batch = Vec::new();
    poll_fn(|cx| i2p.poll_recv(cx, &mut batch)).await.expect("it goes on");
    batch
}

async fn dial(i2p: &mut I2p, endpoint: &Endpoint) -> Result<Place, DialError> {
    i2p.dial(DialId(7), endpoint);
    loop {
        for event in events(i2p).await {
            if let Event::Dialled { id: DialId(7), result } = event {
                return result.map(|places| places[0]);
            }
        }
    }
}

/// Waits for a condition; the transport's keeper runs in a task of its own.
async fn until(i2p: &I2p, is_met: impl FnMut(&Status) -> bool) -> Status {
    let mut status = i2p.status.clone();
    let waited = tokio::time::timeout(Duration::from_secs(60), status.wait_for(is_met));
    waited.await.expect("in time").expect("the keeper runs").clone()
}

fn is_ready(status: &Status) -> bool {
    status.condition == Condition::Ready
}

fn fails(status: &Status) -> bool {
    matches!(status.condition, Condition::Failing { .. })
}

fn why(status: &Status) -> String {
    let Condition::Failing { why } = &status.condition else { panic!("{status:?}") };
    why.clone()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn send(from: &mut I2p, place: Place, frame: &'static [u8]) {
    let mut batch = VecDeque::from([(place, Bytes::from_static(frame))]);
    poll_fn(|cx| from.poll_send(cx, &mut batch)).await.expect("sent");
}

#[tokio::test]
async fn two_transports_carry_frames_both_ways_and_keep_their_names() {
    let (fake, ann_folder, bob_folder) = (FakeSam::start().await, folder(), folder());
    let mut ann = fake.open(ann_folder.path());
    until(&ann, is_ready).await;
    let name = ann.listening().remove(0);
    let mut bob = fake.open(bob_folder.path());
    let there = dial(&mut bob, &name).await.expect("ann accepts");
    assert_eq!(bob.describe(there), name.to_string());
    send(&mut bob, there, b"hello").await;
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(events(&mut ann).await);
    }
    let [Event::Opened { place: here }, Event::Frame { frame, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&frame[..], ann.describe(*here).as_str()), (&b"hello"[..], "i2p #0"));
    send(&mut ann, *here, b"back").await;
    let told = tokio::select! { told = events(&mut bob) => told, _ = events(&mut ann) => panic!("nothing was sent") };
    assert!(matches!(&told[..], [Event::Frame { frame, .. }] if frame == "back"), "{told:?}");
    bob.hang_up(there);
    assert!(matches!(events(&mut ann).await[..], [Event::Closed { .. }]));
    drop(ann);
    let again = fake.open(ann_folder.path());
    until(&again, is_ready).await;
    assert_eq!(again.listening(), [name], "the name survives a restart");
    assert!(fake.heard().iter().any(|line| line == "PONG 1"), "who pings is answered");
}

#[tokio::test]
async fn no_private_key_goes_anywhere_but_into_its_file_and_the_command_that_needs_it() {
    let (fake, ann_folder, bob_folder) = (FakeSam::start().await, folder(), folder());
    let mut ann = fake.open(ann_folder.path());
    until(&ann, is_ready).await;
    let mut bob = fake.open(bob_folder.path());
    let name = ann.listening().remove(0);
    let there = dial(&mut bob, &name).await.expect("ann accepts");
    send(&mut bob, there, b"hello").await;
    let mut shown = format!("{:?}", events(&mut ann).await);
    for (i2p, folder) in [(&mut ann, &ann_folder), (&mut bob, &bob_folder)] {
        let status = i2p.status.borrow().clone();
        shown +=
            &format!("{i2p:?} {:?} {:?} {status:?} {}", i2p.condition(), i2p.listening(), i2p.listening()[0]);
        shown += &i2p.describe(there);
        let key = std::fs::read_to_string(folder.path().join("i2p/destination.key")).expect("it is kept");
        let public = Destination::read(&key).expect("a key").text();
        let secret = key.get(public.len()..).expect("more than the public part");
        assert!(secret.len() > 300);
        let with_it: Vec<_> = fake.heard().into_iter().filter(|line| line.contains(secret)).collect();
        assert_eq!(with_it.len(), 1, "the bridge was told once");
        assert!(with_it[0].starts_with("SESSION CREATE "), "{}", with_it[0]);
        // Any part of it, as text, that is too long for chance.
        let parts = (0..secret.len() - 16).map(|at| &secret[at..at + 16]);
        assert!(parts.into_iter().all(|part| !shown.contains(part)), "{shown}");
        assert!(
            !shown.contains(public.get(..40).expect("ASCII")),
            "not even the public part: the name is enough"
        );
    }
}

#[tokio::test]
async fn a_router_that_went_away_gets_the_session_again_when_it_is_back() {
    let (fake, folder) = (FakeSam::start().await, folder());
    let i2p = fake.open(folder.path());
    until(&i2p, is_ready).await;
    let name = i2p.listening();
    for task in std::mem::take(&mut fake.shared.lock().expect("whole").tasks) {
        task.abort();
    }
    let status = until(&i2p, fails).await;
    assert!(why(&status).contains("was it stopped") && i2p.listening().is_empty(), "{status:?}");
    until(&i2p, is_ready).await;
    assert_eq!(i2p.listening(), name);
}

#[tokio::test]
async fn a_session_that_the_router_has_forgotten_is_replaced() {
    let (fake, folder) = (FakeSam::start().await, folder());
    let i2p = fake.open(folder.path());
    until(&i2p, is_ready).await;
    let first = fake.shared.lock().expect("whole").sessions[0].0.clone();
    fake.refuse(&[("STREAM ACCEPT", "STREAM STATUS RESULT=INVALID_ID")]);
    // Those that wait are reset; their connections end.
    fake.shared.lock().expect("whole").acceptors.clear();
    assert!(why(&until(&i2p, fails).await).contains("another one is made"));
    fake.refuse(&[]);
    until(&i2p, is_ready).await;
    assert!(fake.shared.lock().expect("whole").sessions.iter().any(|(id, _)| *id != first));
}

#[tokio::test]
async fn a_dial_that_finds_the_session_forgotten_has_it_replaced() {
    let (fake, folder) = (FakeSam::start().await, folder());
    let mut i2p = fake.open(folder.path());
    until(&i2p, is_ready).await;
    let first = fake.shared.lock().expect("whole").sessions[0].0.clone();
    fake.refuse(&[("STREAM CONNECT", "STREAM STATUS RESULT=INVALID_ID")]);
    let own = i2p.listening().remove(0);
    assert!(dial(&mut i2p, &own).await.expect_err("forgotten").to_string().contains("another one is made"));
    let mut status = i2p.status.clone();
    fake.refuse(&[]);
    let replaced = async {
        while fake.shared.lock().expect("whole").sessions.iter().all(|(id, _)| *id == first) {
            status.changed().await.expect("the keeper runs");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), replaced).await.expect("in time");
    until(&i2p, is_ready).await;
}

#[tokio::test]
async fn what_keeps_the_router_from_use_is_told_with_the_remedy_and_tried_again() {
    let (fake, place) = (FakeSam::start().await, folder());
    for (start, answer, part) in [
        ("HELLO", "HTTP/1.1 400 Bad Request", "no SAM bridge"),
        ("HELLO", "HELLO REPLY RESULT=NOVERSION", "update it"),
        ("SESSION", "SESSION STATUS RESULT=DUPLICATED_DEST", "another daemon use a copy"),
        ("SESSION", "SESSION STATUS RESULT=INVALID_KEY", "move it away"),
        ("SESSION", "SESSION STATUS RESULT=I2P_ERROR MESSAGE=\"x\"", "I2P_ERROR"),
        ("NAMING", "NAMING REPLY RESULT=OK NAME=ME VALUE=AAAA", "no SAM bridge"),
    ] {
        fake.refuse(&[(start, answer)]);
        let i2p = fake.open(place.path());
        let told = why(&until(&i2p, fails).await);
        assert!(told.contains(part), "{answer}: {told}");
        fake.refuse(&[]);
        until(&i2p, is_ready).await;
    }
    fake.refuse(&[("DEST", "DEST REPLY PUB=x PRIV=y")]);
    let i2p = fake.open(folder().path());
    assert!(why(&until(&i2p, fails).await).contains("no SAM bridge"), "what is no key is not kept");

    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("free ports").local_addr().expect("bound");
    let config = Config { sam: nobody, folder: place.path().join("other"), tunnels: Tunnels::default() };
    let mut i2p = I2p::open(TransportId(0), config);
    let told = why(&until(&i2p, fails).await);
    assert!(told.contains("cannot be reached") && told.contains("links.i2p.sam"), "{told}");
    let name: Endpoint = format!("i2p://{}", name_of(&pair(1).0)).parse().expect("an endpoint");
    assert_eq!(dial(&mut i2p, &name).await, Err(DialError::Told(told)), "a dial tells the same");
}

#[tokio::test]
async fn failures_to_dial_are_told_apart_and_the_next_attempt_waits() {
    let (fake, folder) = (FakeSam::start().await, folder());
    let mut i2p = fake.open(folder.path());
    until(&i2p, is_ready).await;
    let nobody: Endpoint = format!("i2p://{}", name_of(&pair(99).0)).parse().expect("an endpoint");
    let told = dial(&mut i2p, &nobody).await.expect_err("unknown").to_string();
    assert!(told.contains("is its name right"), "{told}");
    assert!(i2p.dials.not_before(&nobody).is_some(), "it is in no hurry");
    let own = i2p.listening().remove(0);
    for (result, part) in [
        ("STREAM STATUS RESULT=CANT_REACH_PEER", "is the other daemon running"),
        ("STREAM STATUS RESULT=TIMEOUT", "is the other daemon running"),
        ("STREAM STATUS RESULT=LATER", "LATER"),
        ("GARBAGE", "no SAM bridge"),
        // The last: the session is replaced after it.
        ("STREAM STATUS RESULT=INVALID_ID", "another one is made"),
    ] {
        fake.refuse(&[("STREAM CONNECT", result)]);
        i2p.dials = Dials::new();
        let told = dial(&mut i2p, &own).await.expect_err("refused").to_string();
        assert!(told.contains(part), "{result}: {told}");
    }
    fake.refuse(&[("NAMING", "NAMING REPLY RESULT=OK NAME=x VALUE=AAAA")]);
    assert!(dial(&mut i2p, &nobody).await.is_err(), "a name that stands for something else");
    for odd in ["i2p://short.b32.i2p", "i2p://example.i2p"] {
        let told = dial(&mut i2p, &odd.parse().expect("an endpoint")).await.expect_err("wrong");
        assert!(matches!(told, DialError::Wrong(_)), "{odd}: {told}");
    }
    let other: Endpoint = "tor://x.onion:1".parse().expect("an endpoint");
    assert_eq!(dial(&mut i2p, &other).await, Err(DialError::Unsupported));
}
