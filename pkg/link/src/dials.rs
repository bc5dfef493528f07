//! Dials that take time and fail often: through networks that hide who speaks with whom.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use byway_identity::OsEntropy;

use crate::{Backoff, DialError, DialId, Endpoint, Lookups};

/// Dials that are under way, and how long each endpoint that failed is left alone.
///
/// The core asks again soon after a failure, as is right where a dial is a datagram. Where it makes a network build circuits and
/// ask its directories, the pause belongs here.
pub struct Dials<T> {
    lookups: Lookups<T>,
    under_way: HashMap<DialId, Endpoint>,
    pauses: HashMap<Endpoint, (Backoff, Instant)>,
    refused: VecDeque<(DialId, DialError)>,
}

/// Which dial has ended, and how; with a success comes what was dialled.
pub type DialOutcome<T> = (DialId, Result<(T, Endpoint), DialError>);

/// Pause after an endpoint's first failure, and after many.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Endpoints whose failures are remembered: eight for each of as many peers as a daemon has.
const PAUSES_MAX: usize = 8 * 1_024;

impl<T: Send + 'static> Dials<T> {
    /// None under way.
    #[expect(clippy::new_without_default, reason = "it makes a channel, which no default should")]
    pub fn new() -> Self {
        Self {
            lookups: Lookups::new(),
            under_way: HashMap::new(),
            pauses: HashMap::new(),
            refused: VecDeque::new(),
        }
    }

    /// When `endpoint` is to be tried again, if it failed; what is given to [`Self::start`] waits for it.
    pub fn not_before(&self, endpoint: &Endpoint) -> Option<Instant> {
        self.pauses.get(endpoint).map(|(_, until)| *until)
    }

    /// Runs `work` in a task; its outcome, or `late` after `patience`, comes out of [`Self::poll`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(
        &mut self,
        id: DialId,
        endpoint: &Endpoint,
        patience: Duration,
        late: DialError,
        work: impl Future<Output = Result<T, DialError>> + Send + 'static,
    ) {
        match self.lookups.start(id, patience, late, work) {
            Ok(()) => drop(self.under_way.insert(id, endpoint.clone())),
            Err(why) => self.refuse(id, why),
        }
    }

    /// Answers a dial without an attempt.
    pub fn refuse(&mut self, id: DialId, why: DialError) {
        self.refused.push_back((id, why));
    }

    /// An outcome, if there is one.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<DialOutcome<T>> {
        if let Some((id, why)) = self.refused.pop_front() {
            return Poll::Ready((id, Err(why)));
        }
        self.lookups.poll(cx).map(|(id, result)| (id, self.ended(id, result)))
    }

    fn ended(&mut self, id: DialId, result: Result<T, DialError>) -> Result<(T, Endpoint), DialError> {
        let endpoint = self.under_way.remove(&id).ok_or(DialError::Unreachable)?;
        match result {
            Ok(stream) => {
                self.pauses.remove(&endpoint);
                Ok((stream, endpoint))
            }
            Err(why) => {
                if self.pauses.len() < PAUSES_MAX || self.pauses.contains_key(&endpoint) {
                    let now = Instant::now();
                    let fresh = (Backoff::new(PAUSE, PAUSE_MAX), now);
                    let (backoff, until) = self.pauses.entry(endpoint).or_insert(fresh);
                    *until = now + backoff.failed(&mut OsEntropy);
                }
                Err(why)
            }
        }
    }
}

/// Shows counts alone.
impl<T> fmt::Debug for Dials<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dials")
            .field("under_way", &self.under_way.len())
            .field("paused", &self.pauses.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn endpoint(number: u64) -> Endpoint {
        format!("tor://{number}.onion:1").parse().expect("an endpoint")
    }

    #[tokio::test]
    async fn a_failure_makes_an_endpoint_wait_and_a_success_forgets_it() {
        let mut dials = Dials::new();
        let one = endpoint(1);
        for turn in 0..3 {
            dials.start(DialId(turn), &one, LONG, DialError::Name, ready(Err(DialError::Unreachable)));
            let (id, result) = poll_fn(|cx| dials.poll(cx)).await;
            assert_eq!((id, result.map(|((), _)| ())), (DialId(turn), Err(DialError::Unreachable)));
            let pause = dials.not_before(&one).expect("it failed") - Instant::now();
            assert!(pause > Duration::from_millis(300) * 2u32.pow(turn as u32), "turn {turn}: {pause:?}");
        }
        assert_eq!(dials.not_before(&endpoint(2)), None, "others need not wait");
        dials.start(DialId(9), &one, LONG, DialError::Name, ready(Ok(())));
        let (_, result) = poll_fn(|cx| dials.poll(cx)).await;
        assert_eq!((result, dials.not_before(&one)), (Ok(((), one.clone())), None));
    }

    #[tokio::test]
    async fn each_dial_is_answered_though_it_is_late_or_one_too_many() {
        let mut dials = Dials::<()>::new();
        dials.start(DialId(0), &endpoint(0), Duration::ZERO, DialError::Name, pending());
        assert_eq!(poll_fn(|cx| dials.poll(cx)).await, (DialId(0), Err(DialError::Name)));
        for number in 1..200 {
            dials.start(DialId(number), &endpoint(number), LONG, DialError::Name, pending());
        }
        for number in 65..200 {
            assert_eq!(poll_fn(|cx| dials.poll(cx)).await, (DialId(number), Err(DialError::Name)));
        }
        assert_eq!(dials.under_way.len(), 64);
    }

    #[tokio::test]
    async fn no_more_endpoints_are_remembered_than_a_daemon_has() {
        let mut dials = Dials::<()>::new();
        for number in 0..PAUSES_MAX as u64 + 100 {
            dials.under_way.insert(DialId(number), endpoint(number));
            assert!(dials.ended(DialId(number), Err(DialError::Unreachable)).is_err());
        }
        assert_eq!((dials.pauses.len(), dials.under_way.len()), (PAUSES_MAX, 0));
    }
}
