use byway_identity::SeededEntropy;
use proptest::prelude::*;

use super::*;
use crate::OnionKey;

const COOKIE: [u8; 32] = [9; 32];
const INFO: &str = "250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=80 TAG=x SUMMARY=\"Connecting\"\r\n\
                    250-status/circuit-established=0\r\n250 OK\r\n";

struct Talk {
    conversation: Conversation,
    said: Vec<String>,
    told: Vec<Progress>,
    cookie: Option<PathBuf>,
    is_listening: bool,
}

fn talk(password: Option<&[u8]>) -> Talk {
    let folder = tempfile::tempdir().expect("a folder");
    let key = OnionKey::load_or_create(folder.path(), &mut SeededEntropy::new(5)).expect("made");
    let password = password.map(|password| Zeroizing::new(password.to_vec()));
    let wanted = Wanted { password, address: key.address(), key: key.blob(), ports: (2_561, 40_000) };
    let (conversation, first) = Conversation::new(wanted, &mut SeededEntropy::new(6));
    let mut talk =
        Talk { conversation, said: Vec::new(), told: Vec::new(), cookie: None, is_listening: false };
    talk.take(vec![first]);
    talk
}

impl Talk {
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write(bytes) => {
                    self.said.push(String::from_utf8(bytes.to_vec()).expect("lines are text"));
                }
                Effect::ReadCookie(path) => self.cookie = Some(path),
                Effect::Listening => self.is_listening = true,
                Effect::Progress(progress) => self.told.push(progress),
            }
        }
    }

    fn hears(&mut self, text: &str) -> Result<(), Trouble> {
        let mut out = Vec::new();
        let result = self.conversation.received(text.as_bytes(), &mut out);
        self.take(out);
        result
    }

    fn last(&self) -> &str {
        self.said.last().map(|line| line.trim_end()).unwrap_or_default()
    }

    /// Answers a challenge as a tor with `cookie`.
    fn challenge(&mut self, cookie: [u8; 32]) -> Result<(), Trouble> {
        let nonce = hex::decode(self.last().rsplit(' ').next().expect("a nonce")).expect("digits");
        let content = [&cookie[..], &nonce, &[4; 32]].concat();
        let hash = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SERVER_KEY), &content);
        let line = format!(
            "250 AUTHCHALLENGE SERVERHASH={} SERVERNONCE={}\r\n",
            hex::encode_upper(hash.as_ref()),
            "04".repeat(32)
        );
        self.hears(&line)
    }

    fn service(&self) -> String {
        self.conversation.wanted.address.to_string().replace(".onion", "")
    }
}

fn protocol_info(methods: &str) -> String {
    format!(
        "250-PROTOCOLINFO 1\r\n250-AUTH METHODS={methods} COOKIEFILE=\"/run/tor/c\\\"ookie\"\r\n250-VERSION Tor=\"0.4.9\"\r\n250 OK\r\n"
    )
}

#[test]
fn a_cookie_is_proved_and_never_sent_and_the_service_is_added() {
    let mut talk = talk(None);
    assert_eq!(talk.last(), "PROTOCOLINFO 1");
    talk.hears(&protocol_info("COOKIE,SAFECOOKIE,HASHEDPASSWORD")).expect("goes on");
    assert_eq!(talk.cookie, Some(PathBuf::from("/run/tor/c\"ookie")));
    let mut out = Vec::new();
    talk.conversation.cookie(Zeroizing::new(COOKIE.to_vec()), &mut out).expect("of the right length");
    talk.take(out);
    talk.challenge(COOKIE).expect("tor knows the cookie");
    assert!(talk.last().starts_with("AUTHENTICATE ") && talk.last().len() == 13 + 64, "{}", talk.last());
    talk.hears("250 OK\r\n250 OK\r\n").expect("goes on");
    assert!(talk.last().starts_with("GETINFO status/bootstrap-phase"), "{}", talk.last());
    talk.hears(INFO).expect("goes on");
    let progress = talk.told.last().expect("told");
    assert_eq!((progress.percent, &progress.doing[..], progress.is_cut_off), (80, "Connecting", false));
    assert!(talk.last().starts_with("ADD_ONION ED25519-V3:"), "{}", talk.last());
    assert!(talk.last().ends_with(" Flags=DiscardPK Port=2561,127.0.0.1:40000"), "{}", talk.last());
    talk.hears(&format!("250-ServiceID={}\r\n250 OK\r\n", talk.service())).expect("goes on");
    assert!(talk.is_listening);
    assert!(talk.said.iter().all(|line| !line.contains(&hex::encode(COOKIE))), "the cookie was sent");
}

#[test]
fn whoever_does_not_know_the_cookie_learns_nothing() {
    let mut talk = talk(None);
    talk.hears(&protocol_info("SAFECOOKIE")).expect("goes on");
    let mut out = Vec::new();
    talk.conversation.cookie(Zeroizing::new(COOKIE.to_vec()), &mut out).expect("of the right length");
    talk.take(out);
    let before = talk.said.len();
    assert_eq!(talk.challenge([8; 32]), Err(Trouble::Cookie));
    assert_eq!(talk.said.len(), before, "no proof was given");

    let mut short = self::talk(None);
    short.hears(&protocol_info("SAFECOOKIE")).expect("goes on");
    let refused = short.conversation.cookie(Zeroizing::new(vec![1; 31]), &mut Vec::new());
    assert_eq!(refused, Err(Trouble::Cookie));
}

#[test]
fn a_password_goes_as_digits_and_a_wrong_one_is_told() {
    let mut talk = talk(Some(b"o\"n"));
    talk.hears(&protocol_info("COOKIE,SAFECOOKIE,HASHEDPASSWORD")).expect("goes on");
    assert_eq!(talk.last(), "AUTHENTICATE 6f226e");
    assert_eq!(talk.hears("515 Authentication failed\r\n"), Err(Trouble::Password));
}

#[test]
fn methods_that_do_not_fit_are_told_apart() {
    for (password, methods, why) in [
        (Some(&b"x"[..]), "COOKIE,SAFECOOKIE", Trouble::PasswordUnknown),
        (None, "HASHEDPASSWORD", Trouble::PasswordMissing),
        (None, "COOKIE", Trouble::Methods),
        (None, "LATER", Trouble::Methods),
    ] {
        assert_eq!(talk(password).hears(&protocol_info(methods)), Err(why), "{methods}");
    }
    let mut open = talk(None);
    open.hears(&protocol_info("NULL")).expect("nothing is asked for");
    assert_eq!(open.last(), "AUTHENTICATE");
}

#[test]
fn something_else_behind_the_port_is_no_tor() {
    assert_eq!(talk(None).hears("HTTP/1.1 400 Bad Request\r\n\r\n"), Err(Trouble::NotTor));
    assert_eq!(talk(None).hears("250 OK\r\n"), Err(Trouble::NotTor));
    assert_eq!(talk(None).hears("510 Unrecognized command\r\n"), Err(Trouble::NotTor));
}

fn steady() -> Talk {
    let mut talk = talk(None);
    talk.hears(&protocol_info("NULL")).expect("goes on");
    talk.hears(&format!("250 OK\r\n250 OK\r\n{INFO}")).expect("goes on");
    talk.hears(&format!("250-ServiceID={}\r\n250 OK\r\n", talk.service())).expect("goes on");
    talk
}

#[test]
fn a_refused_service_and_one_of_another_name_are_told() {
    let to_the_service = || {
        let mut talk = talk(None);
        talk.hears(&protocol_info("NULL")).expect("goes on");
        talk.hears(&format!("250 OK\r\n250 OK\r\n{INFO}")).expect("goes on");
        talk
    };
    let refused = to_the_service().hears("550 Onion address collision\r\n");
    assert_eq!(refused, Err(Trouble::Refused("Onion address collision".to_owned())));
    let other = "250-ServiceID=pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd\r\n250 OK\r\n";
    assert_eq!(to_the_service().hears(other), Err(Trouble::OtherName));
}

#[test]
fn events_tell_progress_loss_and_a_wrong_clock() {
    let mut talk = steady();
    for (event, check) in [
        (
            "STATUS_CLIENT WARN BOOTSTRAP PROGRESS=85 SUMMARY=\"Going\" WARNING=\"No route \x1b[2Jto host\"",
            (|progress| {
                progress.percent == 85 && progress.complaint.as_deref() == Some("No route [2Jto host")
            }) as fn(&Progress) -> bool,
        ),
        ("STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=100 SUMMARY=\"Done\"", |progress| {
            progress.percent == 100 && progress.complaint.is_none()
        }),
        ("STATUS_CLIENT NOTICE CIRCUIT_NOT_ESTABLISHED REASON=X", |progress| progress.is_cut_off),
        ("STATUS_CLIENT NOTICE CIRCUIT_ESTABLISHED", |progress| !progress.is_cut_off),
        ("STATUS_GENERAL WARN CLOCK_SKEW SKEW=-86400 MIN_SKEW=-60 SOURCE=DIRSERV:x", |progress| {
            progress.skew == Some(-86_400)
        }),
        ("HS_DESC UPLOADED x UNKNOWN $AB~c", |progress| progress.is_published),
    ] {
        talk.told.clear();
        talk.hears(&format!("650 {event}\r\n")).expect("an event ends nothing");
        assert!(talk.told.iter().any(check), "{event}: {:?}", talk.told);
    }
    talk.told.clear();
    talk.hears("650 STREAM 1 NEW\r\n650 \r\n").expect("an event ends nothing");
    assert!(talk.told.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_panic_at_any_step(bytes: Vec<u8>, text in "[0-9]{3}[ -][A-Z_]{0,12}[ =].{0,80}\r\n") {
        for mut talk in [talk(None), steady()] {
            let mut out = Vec::new();
            let _ = talk.conversation.received(text.as_bytes(), &mut out);
            let _ = talk.conversation.received(&bytes, &mut out);
        }
    }
}
