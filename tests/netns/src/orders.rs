//! Orders to a running program of the test bed: JSON over a Unix socket, a line each, and an answer to each.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::process::{Process, wait_for};

/// The side that obeys.
pub(crate) struct Orders {
    listener: UnixListener,
    clients: HashMap<u64, (UnixStream, Vec<u8>)>,
    serial: u64,
}

impl Orders {
    /// Longest order: a sweep of pings over some thousand pairs.
    const LONGEST: usize = 1 << 20;
    /// Who does not read an answer for so long gets none.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Listens at `path`.
    pub(crate) fn listen(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).context("cannot listen for orders")?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, clients: HashMap::new(), serial: 0 })
    }

    /// What to wait for besides.
    pub(crate) fn fds(&self) -> Vec<PollFd<'_>> {
        let clients = self.clients.values().map(|(client, _)| client.as_fd());
        let all = std::iter::once(self.listener.as_fd()).chain(clients);
        all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect()
    }

    /// Obeys every order that is there by now.
    pub(crate) fn serve<O: DeserializeOwned, A: Serialize>(
        &mut self,
        mut obey: impl FnMut(O) -> A,
    ) -> Result<()> {
        if let Ok((client, _)) = self.listener.accept() {
            client.set_nonblocking(true)?;
            client.set_write_timeout(Some(Self::PATIENCE))?;
            self.serial += 1;
            self.clients.insert(self.serial, (client, Vec::new()));
        }
        self.clients.retain(|_, (client, said)| {
            let open = hear(client, said);
            while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = said.drain(..=end).collect();
                let answer = match serde_json::from_slice(&line) {
                    Ok(order) => serde_json::to_string(&obey(order)),
                    Err(error) => serde_json::to_string(&error.to_string()),
                };
                if answer.map_err(io::Error::from).and_then(|answer| say(client, &answer)).is_err() {
                    return false;
                }
            }
            open && said.len() < Self::LONGEST
        });
        Ok(())
    }
}

/// Takes in what a client says; false once it says no more.
fn hear(client: &mut UnixStream, said: &mut Vec<u8>) -> bool {
    let mut part = [0; 4096];
    loop {
        match client.read(&mut part) {
            Ok(0) => return false,
            Ok(length) => said.extend(&part[..length]),
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
        if said.len() >= Orders::LONGEST {
            return true;
        }
    }
}

/// An answer may be longer than what the socket takes at once.
fn say(client: &mut UnixStream, answer: &str) -> io::Result<()> {
    client.set_nonblocking(false)?;
    writeln!(client, "{answer}")?;
    client.set_nonblocking(true)
}

/// Gives an order to the program that listens at `control`; its answer.
pub(crate) fn order<A: DeserializeOwned>(control: &Path, order: &impl Serialize) -> Result<A> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    writeln!(stream, "{}", serde_json::to_string(order)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("the answer is {line:?}"))
}

/// Waits until a program obeys: it listens before it has its devices, and answers when it has.
pub(crate) fn obeys(process: &mut Process, what: &str, mut answers: impl FnMut() -> bool) -> Result<()> {
    let mut ended = false;
    let waited = wait_for(Duration::from_secs(20), what, || {
        ended = !process.is_running();
        ended || answers()
    });
    anyhow::ensure!(!ended, "{what} ended:\n{}", process.output());
    waited
}
