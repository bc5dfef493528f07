use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_seed(&[0x42; 32])
}

fn is_key(result: Result<SigningKey, KeyFileError>) -> bool {
    result.is_ok_and(|read| read.seed() == key().seed())
}

/// The text of the refusal; keys cannot be printed, so `expect_err` is no help.
fn refusal(result: Result<SigningKey, KeyFileError>) -> String {
    result.err().expect("should have been refused").to_string()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("PEM holds base64")
}

#[test]
fn a_plain_file_is_the_48_bytes_that_openssl_reads() {
    let text = encode_pem(&key(), None).expect("needs nothing");
    let head = hex::decode("302e020100300506032b657004220420").expect("hex");
    assert_eq!(der(&text), [&head[..], &[0x42; 32]].concat());
    assert!(
        text.starts_with("-----BEGIN PRIVATE KEY-----\n") && text.ends_with("-----END PRIVATE KEY-----\n")
    );
    assert!(is_key(decode(text.as_bytes(), None)));
    assert!(is_key(decode(text.as_bytes(), Some("not needed"))));
}

#[test]
fn white_space_around_a_pem_block_and_windows_line_ends_do_no_harm() {
    let text = encode_pem(&key(), None).expect("needs nothing");
    assert!(is_key(decode(format!("\n  {}\n\n", text.as_str()).as_bytes(), None)));
    assert!(is_key(decode(text.replace('\n', "\r\n").as_bytes(), None)));
}

#[test]
fn an_encrypted_file_opens_with_its_passphrase_only() {
    let text = encode_pem(&key(), Some("correct horse")).expect("a passphrase");
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert!(!der(&text).windows(8).any(|window| window == [0x42; 8]), "the seed shows");
    assert!(is_key(decode(text.as_bytes(), Some("correct horse"))));
    assert_eq!(refusal(decode(text.as_bytes(), None)), "the key is encrypted: give its passphrase");
    assert!(refusal(decode(text.as_bytes(), Some(""))).starts_with("the passphrase does not fit"));
    // About one wrong passphrase in 256 survives the padding check; none may be reported otherwise.
    for wrong in 0..8 {
        assert!(matches!(decode(text.as_bytes(), Some(&format!("{wrong}"))), Err(KeyFileError::Passphrase)));
    }
    assert!(matches!(encode_pem(&key(), Some("")), Err(KeyFileError::EmptyPassphrase)));
}

#[test]
fn two_encryptions_of_one_key_have_nothing_in_common() {
    let [first, second] = [(); 2].map(|()| encode_pem(&key(), Some("same")).expect("a passphrase"));
    assert_ne!(*first, *second);
}

/// Made with OpenSSL 3: `openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 2048 -passout pass:byway` of the seed of 0x42 bytes.
#[test]
fn a_file_that_openssl_encrypted_with_pbkdf2_is_read() {
    assert!(is_key(decode(OPENSSL_PBKDF2.as_bytes(), Some("byway"))));
    assert!(matches!(decode(OPENSSL_PBKDF2.as_bytes(), Some("Byway")), Err(KeyFileError::Passphrase)));
}

/// Made with OpenSSL 3: `openssl pkcs8 -topk8 -scrypt -passout pass:byway` of the same key.
#[test]
fn a_file_that_openssl_encrypted_with_scrypt_is_read() {
    assert!(is_key(decode(OPENSSL_SCRYPT.as_bytes(), Some("byway"))));
}

#[test]
fn raw_inet256_files_are_read() {
    assert!(is_key(decode(&key().to_inet256_bytes(), None)));
}

#[test]
fn a_file_that_asks_for_too_much_work_is_refused_before_the_work() {
    // N and r of scrypt, raised to where it would take 532 MB.
    let honest = der(OPENSSL_SCRYPT);
    let at = honest.windows(4).position(|window| window == [0x02, 0x02, 0x40, 0x00]).expect("N");
    let mut costly = honest.clone();
    costly[at + 2] = 0x7f;
    costly[at + 3] = 0xff;
    let block = costly.windows(3).position(|window| window == [0x02, 0x01, 0x08]).expect("r");
    costly[block + 2] = 0x7f;
    let text = pem("ENCRYPTED PRIVATE KEY", &costly);
    assert!(matches!(decode(text.as_bytes(), Some("byway")), Err(KeyFileError::Costly)));
}

#[test]
fn what_is_no_key_is_refused_with_what_helps() {
    for (bytes, text) in [
        (&b""[..], "not a key file"),
        (b"\0", "not a key file"),
        (b"hello, world", "not a key file"),
        (b"-----BEGIN PRIVATE KEY-----", "not a key file"),
        (b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", "not a key file"),
        (b"-----BEGIN \x1b[31m-----\n", "not a key file"),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "\"OPENSSH PRIVATE KEY\"",
        ),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\"CERTIFICATE\""),
        (b"\x12\0dilithium2.private\x01\x02\x03", "another algorithm"),
        (b"\x07\0ed25519", "not a key file"),
    ] {
        assert!(refusal(decode(bytes, None)).contains(text), "{}", refusal(decode(bytes, None)));
    }
    assert!(matches!(decode(&[0; MAX_LENGTH + 1], None), Err(KeyFileError::TooLong)));
    let mut mixed = key().to_inet256_bytes();
    mixed[80] ^= 1;
    assert!(refusal(decode(&mixed, None)).contains("damaged"));
}

#[test]
fn every_truncation_of_every_form_is_refused() {
    let plain = encode_pem(&key(), None).expect("needs nothing");
    for whole in
        [plain.trim_ascii().as_bytes(), OPENSSL_SCRYPT.trim_ascii().as_bytes(), &key().to_inet256_bytes()]
    {
        for length in 0..whole.len() {
            assert!(decode(&whole[..length], None).is_err(), "{length} of {}", whole.len());
        }
    }
}

#[test]
fn a_new_file_is_for_its_owner_only_and_never_replaces_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("node.key");
    create(&path, &key(), None).expect("a writable folder");
    assert_eq!(fs::metadata(&path).expect("just made").permissions().mode() & 0o777, 0o600);
    assert!(is_key(load(&path, None)));

    let other = SigningKey::from_seed(&[1; 32]);
    let error = create(&path, &other, None).expect_err("the file is there");
    assert!(error.to_string().contains("exists already"), "{error}");
    assert!(is_key(load(&path, None)));

    save(&path, &other.to_inet256_bytes(), Existing::Replace).expect("asked for");
    assert!(load(&path, None).is_ok_and(|read| read.seed() == other.seed()));
    let names: Vec<_> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["node.key"], "nothing else is left behind");
}

#[test]
fn a_link_in_the_place_of_a_new_file_is_not_followed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, elsewhere) = (folder.path().join("node.key"), folder.path().join("elsewhere"));
    std::os::unix::fs::symlink(&elsewhere, &path).expect("a link");
    assert!(matches!(create(&path, &key(), None), Err(KeyFileError::Exists { .. })));
    assert!(!elsewhere.exists());
}

#[test]
fn a_file_that_others_can_read_is_refused_with_the_command_that_helps() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("node.key");
    create(&path, &key(), None).expect("a writable folder");
    for mode in [0o640, 0o604, 0o660, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our file");
        let text = refusal(load(&path, None));
        assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
        assert!(text.contains(&format!("{mode:03o}")), "{text}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("our file");
    assert!(is_key(load(&path, None)));
}

#[test]
fn folders_devices_and_missing_files_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(load(folder.path(), None), Err(KeyFileError::NotAFile { .. })));
    assert!(matches!(load(Path::new("/dev/zero"), None), Err(KeyFileError::NotAFile { .. })));
    let missing = folder.path().join("missing");
    assert!(refusal(load(&missing, None)).contains("missing"));
    let nowhere = folder.path().join("no/such/folder");
    assert!(matches!(create(&nowhere, &key(), None), Err(KeyFileError::Io { .. })));
}

#[test]
fn an_endless_file_is_read_no_further_than_the_cap() {
    let bytes = read_capped(std::io::repeat(0)).expect("zeros");
    assert_eq!(bytes.len(), MAX_LENGTH + 1);
}

const OPENSSL_PBKDF2: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjyZCQDvoyRzwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEASrhPcmZHOMOBTvUw2AowIEQBeL
fFam6QqpMs66pnj9Llg1njPHkdbVlnkmArVrb4bq1145Jos2jWmulG11spQLD+s1
9jIBDjLzt17g4P6ODjA=
-----END ENCRYPTED PRIVATE KEY-----
";

const OPENSSL_SCRYPT: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAjuso5taWtgdwICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBCbIqiuQbCwrmLnyKnqj3rQBEC7aaQ1mqMcvPaW
72RASOOQnD0IbzPzBLrwCoeVr8D/X+QMFoFekYgUQ3/+jdmK+XZS4c6o2hYrvHih
OzzYdjzx
-----END ENCRYPTED PRIVATE KEY-----
";
