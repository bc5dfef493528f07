//! One question to a resolver: a peer whose addresses do not give its keys back must have heard a name first.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};

/// Asks the resolver on `[::1]:port` for the IPv6 address of `name`; an error if it does not answer.
pub fn ask(name: &str, port: u16) -> Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port)))?;
    socket.send(&question(name)?)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    ensure!(length >= 12 && answer[..2] == ID && answer[3] & 0x0f == 0, "the resolver knows no such name");
    Ok(())
}

const ID: [u8; 2] = [0, 7];

/// Header, name, AAAA, IN.
fn question(name: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![ID[0], ID[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        ensure!((1..64).contains(&label.len()), "{label:?} is no label");
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 28, 0, 1]);
    Ok(bytes)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_question_has_its_labels_with_their_lengths() {
        let bytes = question("ab.fips").unwrap();
        assert_eq!(bytes[12..], *b"\x02ab\x04fips\x00\x00\x1c\x00\x01");
        assert!(question("a..b").is_err() && question(&"x".repeat(64)).is_err());
    }
}
