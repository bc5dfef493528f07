//! Windows for messages between two nodes: the sender is slowed down to what the way and the receiver take.
//!
//! Messages are not repeated when they are lost, so this is no TCP: offsets count the cost of what was *sent*, and a
//! mark tells the receiver where the sender stands, so that what got lost opens the window again. The receiver limits the
//! sender to what it has room for; the sender limits itself to what the way holds without building queues: its window
//! grows while round trips stay short and nothing is lost, and shrinks when much is lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::control::{Mark, Window};

/// What a message of `length` bytes counts: itself, and about what a kernel books for a datagram.
pub(crate) fn cost(length: usize) -> u64 {
    length as u64 + 512
}

/// What a receiver takes from one sender before the application has read it.
pub(crate) const RECEIVE_ROOM: u64 = 512 * 1024;

const WINDOW_START: u64 = 64 * 1024;
const WINDOW_MIN: u64 = 64 * 1024;
/// On short ways a window never holds more than the smallest usual socket buffer, so nothing is lost there.
const WINDOW_MAX_SHORT: u64 = 192 * 1024;
const WINDOW_MAX_LONG: u64 = 2 * 1024 * 1024;
const SHORT_RTT: Duration = Duration::from_millis(4);
/// Marks whose answer is still awaited; older ones are forgotten.
const MARKS_MAX: usize = 64;
const TIMEOUT_MIN: Duration = Duration::from_millis(200);

/// The sender's half.
#[derive(Debug)]
pub(crate) struct SendWindow {
    stream: u32,
    sent: u64,
    answered: u64,
    limit: u64,
    window: u64,
    marked: u64,
    marks: VecDeque<(u64, Instant)>,
    /// When the window closed or the last mark left, whichever was later; a mark is repeated from then.
    waiting_since: Option<Instant>,
    min_rtt: Option<Duration>,
    rtt: Option<Duration>,
    slow_start: bool,
    shrunk_at: u64,
}

impl SendWindow {
    pub(crate) fn new(stream: u32) -> Self {
        Self {
            stream,
            sent: 0,
            answered: 0,
            limit: RECEIVE_ROOM / 2,
            window: WINDOW_START,
            marked: 0,
            marks: VecDeque::new(),
            waiting_since: None,
            min_rtt: None,
            rtt: None,
            slow_start: true,
            shrunk_at: 0,
        }
    }

    /// Whether another message may leave now.
    pub(crate) fn open(&self) -> bool {
        self.sent < self.limit && self.sent - self.answered < self.window
    }

    /// A message that counts `cost` left; the mark that should follow it, if one is due.
    pub(crate) fn sent(&mut self, now: Instant, cost: u64) -> Option<Mark> {
        self.sent += cost;
        if self.sent - self.marked >= self.window / 4 || !self.open() { Some(self.mark(now)) } else { None }
    }

    /// The queue ran empty: the receiver should hear where the stream stands, so that its end is accounted for too.
    pub(crate) fn drained(&mut self, now: Instant) -> Option<Mark> {
        (self.sent - self.marked > WINDOW_START / 4).then(|| self.mark(now))
    }

    fn mark(&mut self, now: Instant) -> Mark {
        self.marked = self.sent;
        self.waiting_since = Some(now);
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((self.sent, now));
        Mark { stream: self.stream, offset: self.sent }
    }

    /// The receiver answered.
    pub(crate) fn window(&mut self, now: Instant, window: Window) {
        if window.stream != self.stream || window.offset > self.sent {
            return;
        }
        self.limit = self.limit.max(window.limit);
        if window.offset <= self.answered {
            return;
        }
        let advance = window.offset - self.answered;
        self.answered = window.offset;
        self.waiting_since = if self.answered == self.marked { None } else { Some(now) };
        let mut sample = None;
        while let Some((offset, at)) = self.marks.front().copied() {
            if offset > window.offset {
                break;
            }
            if offset == window.offset {
                sample = Some(now.saturating_duration_since(at));
            }
            self.marks.pop_front();
        }
        if let Some(sample) = sample {
            self.min_rtt = Some(self.min_rtt.map_or(sample, |min| min.min(sample)));
            self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
        self.adapt(advance, window.lost);
    }

    fn adapt(&mut self, advance: u64, lost: u64) {
        if lost.saturating_mul(50) > advance {
            self.slow_start = false;
            // Once for each window's worth: losses of one burst are one sign.
            if self.answered >= self.shrunk_at {
                self.window = (self.window * 7 / 10).max(WINDOW_MIN);
                self.shrunk_at = self.sent;
            }
            return;
        }
        let short = self.min_rtt.is_none_or(|rtt| rtt < SHORT_RTT);
        let most = if short { WINDOW_MAX_SHORT } else { WINDOW_MAX_LONG };
        let queueing = match (self.min_rtt, self.rtt) {
            (Some(min), Some(rtt)) => rtt > min * 2 + Duration::from_millis(10),
            _ => false,
        };
        if !queueing {
            let step = if self.slow_start { advance } else { advance * 16 * 1024 / self.window };
            self.window = (self.window + step).min(most.max(self.window));
        }
    }

    /// Smoothed round-trip time of marks.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// When [`SendWindow::timeout`] is due, if messages wait for a window that stays closed.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let patience = self.rtt.map_or(TIMEOUT_MIN, |rtt| (rtt * 3).max(TIMEOUT_MIN));
        self.waiting_since.map(|since| since + patience)
    }

    /// Says where the stream stands once more: the mark or its answer was lost, or the receiver had no room.
    pub(crate) fn timeout(&mut self, now: Instant) -> Option<Mark> {
        (self.next_timeout()? <= now).then(|| self.mark(now))
    }

    /// Nothing waits any more.
    pub(crate) fn rest(&mut self) {
        self.waiting_since = None;
    }

    /// Messages wait and the window is closed.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }
}

/// The receiver's half.
#[derive(Debug, Default)]
pub(crate) struct ReceiveWindow {
    stream: Option<u32>,
    marked: u64,
    since_mark: u64,
    queued: u64,
    announced: u64,
}

impl ReceiveWindow {
    /// A message that counts `cost` went to the application's queue.
    ///
    /// False: the sender ignores its window by more than the room again, and the message is not to be kept. Without this one
    /// sender could fill what all of them share.
    pub(crate) fn received(&mut self, cost: u64) -> bool {
        let fits = self.queued.saturating_add(cost) <= 2 * RECEIVE_ROOM;
        if fits {
            self.since_mark = self.since_mark.saturating_add(cost);
            self.queued = self.queued.saturating_add(cost);
        }
        fits
    }

    /// The sender told where it stands.
    pub(crate) fn mark(&mut self, mark: Mark) -> Window {
        let lost = if self.stream == Some(mark.stream) {
            mark.offset.saturating_sub(self.marked).saturating_sub(self.since_mark)
        } else {
            self.stream = Some(mark.stream);
            self.announced = 0;
            0
        };
        self.marked = self.marked.max(mark.offset);
        if self.announced == 0 {
            self.marked = mark.offset;
        }
        self.since_mark = 0;
        self.announce(mark.stream, lost)
    }

    /// The application took messages that count `cost`: news for the sender, if they matter.
    pub(crate) fn consumed(&mut self, cost: u64) -> Option<Window> {
        self.queued = self.queued.saturating_sub(cost);
        let stream = self.stream?;
        (self.limit().saturating_sub(self.announced) >= RECEIVE_ROOM / 4).then(|| self.announce(stream, 0))
    }

    /// A message that counts `cost` found no room after all, and the application will not take it. The sender hears of it
    /// with its next mark, not at once: there is no room just now.
    pub(crate) fn dropped(&mut self, cost: u64) {
        self.queued = self.queued.saturating_sub(cost);
    }

    fn limit(&self) -> u64 {
        self.marked.saturating_add(self.since_mark).saturating_add(RECEIVE_ROOM.saturating_sub(self.queued))
    }

    fn announce(&mut self, stream: u32, lost: u64) -> Window {
        self.announced = self.limit();
        Window { stream, offset: self.marked, limit: self.announced, lost }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RTT: Duration = Duration::from_millis(2);

    /// Sends until the window closes; what arrives is decided by `arrives`.
    fn burst(
        now: Instant,
        sender: &mut SendWindow,
        receiver: &mut ReceiveWindow,
        mut arrives: impl FnMut() -> bool,
    ) -> (u64, Option<Window>) {
        let (mut messages, mut answer) = (0, None);
        while sender.open() {
            messages += 1;
            let mark = sender.sent(now, cost(1_280));
            if arrives() {
                receiver.received(cost(1_280));
            }
            if let Some(mark) = mark {
                answer = Some(receiver.mark(mark));
            }
        }
        (messages, answer)
    }

    #[test]
    fn a_receiver_that_reads_keeps_the_sender_going() {
        let (mut now, mut sender, mut receiver) =
            (Instant::now(), SendWindow::new(1), ReceiveWindow::default());
        let mut messages = 0;
        for _ in 0..100 {
            let (sent, answer) = burst(now, &mut sender, &mut receiver, || true);
            messages += sent;
            now += RTT;
            sender.window(now, answer.expect("a closed window was marked"));
            if let Some(window) = receiver.consumed(sent * cost(1_280)) {
                sender.window(now, window);
            }
        }
        assert!(messages > 100 * WINDOW_START / cost(1_280), "{messages}");
        assert!(sender.window <= WINDOW_MAX_SHORT);
    }

    #[test]
    fn a_receiver_that_stops_reading_stops_the_sender_within_its_room() {
        let (mut now, mut sender, mut receiver) =
            (Instant::now(), SendWindow::new(1), ReceiveWindow::default());
        let mut total = 0;
        for _ in 0..1_000 {
            let (sent, answer) = burst(now, &mut sender, &mut receiver, || true);
            total += sent * cost(1_280);
            now += RTT;
            let again = sender.timeout(now + Duration::from_secs(1)).map(|mark| receiver.mark(mark));
            for window in answer.into_iter().chain(again) {
                sender.window(now, window);
            }
        }
        assert!(total <= RECEIVE_ROOM + cost(1_280), "{total}");
        assert!(!sender.open());
        let window = receiver.consumed(total).expect("room again is news");
        sender.window(now, window);
        assert!(sender.open());
    }

    #[test]
    fn a_mark_at_the_end_of_numbers_does_not_stop_who_reads() {
        let mut receiver = ReceiveWindow::default();
        receiver.received(cost(1));
        receiver.mark(Mark { stream: 1, offset: u64::MAX });
        assert!(receiver.consumed(cost(1)).is_none());
    }

    #[test]
    fn messages_that_found_no_room_do_not_close_the_window_for_good() {
        let (now, mut sender, mut receiver) = (Instant::now(), SendWindow::new(1), ReceiveWindow::default());
        let mut total = 0;
        for turn in 0..100 {
            let now = now + Duration::from_secs(turn);
            let (sent, answer) = burst(now, &mut sender, &mut receiver, || true);
            total += sent;
            receiver.dropped(sent * cost(1_280));
            let again = sender.timeout(now + Duration::from_secs(1)).map(|mark| receiver.mark(mark));
            for window in answer.into_iter().chain(again) {
                sender.window(now, window);
            }
        }
        assert!(total * cost(1_280) > 4 * RECEIVE_ROOM, "{total}");
    }

    #[test]
    fn marks_that_nobody_answers_are_bounded() {
        let (mut now, mut sender) = (Instant::now(), SendWindow::new(1));
        burst(now, &mut sender, &mut ReceiveWindow::default(), || false);
        for _ in 0..10 * MARKS_MAX {
            now = sender.next_timeout().expect("messages wait");
            assert!(sender.timeout(now).is_some());
        }
        assert_eq!(sender.marks.len(), MARKS_MAX);
    }

    #[test]
    fn a_restarted_receiver_takes_the_stream_up_where_it_stands() {
        let (now, mut sender) = (Instant::now(), SendWindow::new(9));
        let (_, _) = burst(now, &mut sender, &mut ReceiveWindow::default(), || true);
        assert!(!sender.open());
        let mut restarted = ReceiveWindow::default();
        let mark = sender.timeout(now + Duration::from_secs(1)).expect("a closed window is marked again");
        sender.window(now + RTT, restarted.mark(mark));
        assert!(sender.open());
    }

    #[test]
    fn a_sender_that_ignores_its_window_gets_no_more_than_twice_the_room() {
        let mut receiver = ReceiveWindow::default();
        let kept = (0..10_000).filter(|_| receiver.received(cost(1_280))).count() as u64;
        assert_eq!(kept, 2 * RECEIVE_ROOM / cost(1_280));
        receiver.consumed(cost(1_280));
        assert!(receiver.received(cost(1_280)));
    }

    proptest! {
        #[test]
        fn lost_messages_never_close_the_window_for_good(losses: Vec<bool>, stream: u32) {
            let (mut now, mut sender, mut receiver) = (Instant::now(), SendWindow::new(stream), ReceiveWindow::default());
            let mut losses = losses.into_iter();
            for _ in 0..20 {
                let mut got = 0;
                let (sent, answer) = burst(now, &mut sender, &mut receiver, || {
                    let arrives = !losses.next().unwrap_or(false);
                    got += u64::from(arrives);
                    arrives
                });
                prop_assert!(sent > 0);
                now += RTT;
                sender.window(now, answer.expect("a closed window was marked"));
                if let Some(window) = receiver.consumed(got * cost(1_280)) {
                    sender.window(now, window);
                }
                if let Some(mark) = sender.timeout(now + Duration::from_secs(1)) {
                    sender.window(now, receiver.mark(mark));
                }
                prop_assert!(sender.open());
            }
        }

        #[test]
        fn hostile_marks_do_no_harm(marks: Vec<(u32, u64, bool)>, costs: Vec<u64>) {
            let mut receiver = ReceiveWindow::default();
            for ((stream, offset, last), cost) in marks.into_iter().zip(costs) {
                receiver.mark(Mark { stream, offset: if last { u64::MAX } else { offset } });
                receiver.received(cost);
                receiver.consumed(cost);
                receiver.dropped(cost);
            }
        }

        #[test]
        fn a_hostile_window_does_no_harm(windows: Vec<(bool, u64, u64, u64)>) {
            let (mut now, mut sender) = (Instant::now(), SendWindow::new(1));
            for (ours, offset, limit, lost) in windows {
                now += RTT;
                sender.window(now, Window { stream: u32::from(ours), offset, limit, lost });
                if sender.open() {
                    sender.sent(now, cost(10));
                }
                prop_assert!(sender.window <= WINDOW_MAX_LONG && sender.window >= WINDOW_MIN);
            }
        }
    }
}
