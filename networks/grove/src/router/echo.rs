//! Whether the way in use still carries, and what it costs from end to end.
//!
//! Nodes say what their links cost, and may be wrong, or lie, or swallow what they are given. An ECHO goes along the way in
//! use and comes back by what each node notes on it, exactly as payloads and their answers do.

use super::*;
use crate::packet::{ECHO, Led};
use crate::remote::Echo;

/// Between two echoes on a way that is in use.
pub(super) const PERIOD: Duration = Duration::from_secs(10);
/// So many without an answer, and the way is left.
const TRIES: u8 = 3;

impl Router {
    /// Sees to it that echoes are sent along the way to a node that is in use, the first one then.
    pub(super) fn mind_way(&mut self, at: Instant, addr: &Addr, plane: Plane) {
        let Some(remote) = self.remotes.get_mut(addr, plane) else { return };
        let first = remote.paths.as_ref().and_then(|paths| paths.chosen.first());
        if let Some(first) = first.filter(|_| remote.echo.is_none()) {
            let path = first.id;
            remote.echo = Some(Echo { at, tries: 0, nonce: 0, sent: at, path });
        }
    }

    /// Sends the echoes that are due, and leaves ways that are silent.
    pub(super) fn echo_again(&mut self, now: Instant, out: &mut Outbox) {
        let is_due = |remote: &crate::remote::Remote| remote.echo.is_some_and(|echo| echo.at <= now);
        let due = self.remotes.iter().filter(|(.., remote)| is_due(remote));
        let due: Vec<(Addr, Plane)> = due.map(|(addr, plane, _)| (*addr, plane)).collect();
        for (addr, plane) in due {
            self.echo(now, addr, plane, out);
        }
    }

    fn echo(&mut self, now: Instant, addr: Addr, plane: Plane, out: &mut Outbox) {
        let nonce = self.entropy.next_u64();
        let Some(remote) = self.remotes.get_mut(&addr, plane) else { return };
        let (Some(mut echo), Some(paths)) = (remote.echo.take(), &mut remote.paths) else { return };
        if echo.tries >= TRIES && paths.chosen.first().is_some_and(|path| path.id == echo.path) {
            paths.silent(echo.path);
            echo.tries = 0;
            remote.probe_at = Some(now);
            self.unsure.insert((addr, plane));
            self.remotes.moved();
        }
        let Some(remote) = self.remotes.get_mut(&addr, plane) else { return };
        // A way that the last round has not shown whole has to be tried before the next payload, whenever that is.
        // Else the next payload has an echo beside it.
        let is_idle = echo.tries == 0 && remote.used + super::probe::RECENT < now;
        let first = remote.paths.as_ref().and_then(|paths| paths.chosen.first());
        let first = first.filter(|first| !is_idle || !first.sure);
        // Without a way, or anybody who uses it, there is nothing to ask.
        let Some(path) = first else { return };
        let tries = if echo.path == path.id { echo.tries + 1 } else { 1 };
        let at = now + path.patience();
        let (labels, to) = (path.labels.clone(), remote.id.front());
        remote.echo = Some(Echo { at, tries, nonce, sent: now, path: path.id });
        let hop = labels.first().and_then(|label| self.labels.get(label));
        if let Some(hop) = hop.filter(|hop| plane.has(hop.family)) {
            let what = [&to[..], &nonce.to_be_bytes()].concat();
            out.send(*hop, Led::start(plane, labels).emit(ECHO, &what));
        }
    }

    pub(super) fn hear_echo(
        &mut self,
        now: Instant,
        hop: Hop,
        label: u16,
        bytes: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        let (mut head, at) = Led::parse(&bytes, hop.family)?;
        let mut reader = byway_wire::Reader::new(&bytes[at..]);
        let (to, nonce): ([u8; 4], u64) = (reader.array()?, reader.u64_be()?);
        reader.finish()?;
        if let Some(next) = head.next() {
            let led = self.lead_on(hop, label, &head, next, bytes, out);
            if led == Err(FrameError::NoWay) && to != [0; 4] {
                head.note(label);
                self.complain_home(now, hop, &head, next, out);
            }
            return led;
        }
        let peer = self.peers.get_mut(&hop).ok_or(FrameError::NotUp)?;
        if !peer.probes.take(now) {
            return Err(FrameError::Excess);
        }
        head.note(label);
        if to == self.own.id.front() {
            let what = [&[0; 4][..], &nonce.to_be_bytes()].concat();
            out.send(hop, Led::start(head.plane, head.home()).emit(ECHO, &what));
            return Ok(());
        }
        if to != [0; 4] {
            self.complain_home(now, hop, &head, 0, out);
            return Err(FrameError::NoWay);
        }
        let answered = |echo: &Echo| echo.tries > 0 && echo.nonce == nonce;
        let mut moved = false;
        for (_, plane, remote) in self.remotes.iter_mut() {
            let Some(echo) = remote.echo.as_mut().filter(|echo| answered(echo)) else { continue };
            if plane != head.plane {
                continue;
            }
            let took = now.saturating_duration_since(echo.sent);
            (echo.tries, echo.at) = (0, now + PERIOD);
            let paths = remote.paths.iter_mut().flat_map(|paths| &mut paths.chosen);
            moved = paths
                .filter(|path| path.id == echo.path)
                .fold(false, |moved, path| moved | path.measure(took));
            break;
        }
        if moved {
            self.remotes.moved();
        }
        Ok(())
    }
}
