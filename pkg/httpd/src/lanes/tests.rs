//! Lanes over a realm, whose queues hold 64 messages.

use std::sync::Arc;

use byway_api::memory::{Realm, queue};
use byway_api::{OpenNode, Request, Service as _};

use super::*;

fn message(to: Addr, number: usize) -> Outgoing {
    let request = Request { deadline: Some(Duration::from_secs(5)), ..Request::default() };
    Outgoing { to, kind: Kind::Message, payload: number.to_be_bytes().to_vec().into(), request }
}

async fn open(realm: &Realm) -> Arc<dyn Node> {
    realm.open(OpenNode::default()).await.expect("there is room")
}

/// Fills the queue of `to`, so that three more wait in the lane.
async fn fill(lanes: &mut Lanes<'_>, to: Addr) {
    for number in 0..queue(Kind::Message) {
        let outcome = lanes.send(message(to, number)).await.expect("it is known at once");
        outcome.result.expect("the queue has room");
    }
    for number in 0..3 {
        assert!(lanes.send(message(to, queue(Kind::Message) + number)).await.is_none(), "it waits");
    }
}

#[tokio::test]
async fn a_lane_that_waits_keeps_order_and_stops_no_other() {
    let realm = Realm::new();
    let (from, slow, quick) = (open(&realm).await, open(&realm).await, open(&realm).await);
    let mut lanes = Lanes::new(&*from);
    fill(&mut lanes, slow.addr()).await;
    assert_eq!(lanes.queued(), 3 * (8 + 64));
    assert_eq!((lanes.queued_to(&slow.addr()), lanes.queued_to(&quick.addr())), (lanes.queued(), 0));
    assert!(lanes.send(message(quick.addr(), 0)).await.is_some_and(|outcome| outcome.result.is_ok()));

    let total = queue(Kind::Message) + 3;
    let mut outcomes = Vec::new();
    for number in 0..total {
        let incoming = slow.recv(Kind::Message).await.expect("it is there");
        assert_eq!(incoming.payload, number.to_be_bytes().as_slice(), "in order");
        while outcomes.len() < (number + 1).min(3) {
            lanes.next(&mut outcomes).await;
        }
    }
    assert!(outcomes.iter().all(|outcome| outcome.to == slow.addr() && outcome.result.is_ok()));
    assert_eq!((outcomes.len(), lanes.queued()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_refused_when_its_time_is_over() {
    let realm = Realm::new();
    let (from, deaf) = (open(&realm).await, open(&realm).await);
    let mut lanes = Lanes::new(&*from);
    fill(&mut lanes, deaf.addr()).await;
    let (started, mut outcomes) = (Instant::now(), Vec::new());
    while outcomes.len() < 3 {
        lanes.next(&mut outcomes).await;
    }
    assert_eq!(started.elapsed().as_secs(), 5, "those behind wait no longer than the first");
    for outcome in outcomes {
        assert_eq!(outcome.result.map_err(|error| error.code), Err(Code::Busy));
    }
    assert_eq!(lanes.queued(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_given_up_is_sent_to_again_once_it_reads() {
    let realm = Realm::new();
    let (from, deaf) = (open(&realm).await, open(&realm).await);
    let mut lanes = Lanes::new(&*from);
    fill(&mut lanes, deaf.addr()).await;
    assert_eq!(lanes.give_up(Duration::from_secs(1)), 0, "it has not waited that long");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(lanes.give_up(Duration::from_secs(1)), 2, "all but the first");
    let refused = lanes.send(message(deaf.addr(), 0)).await.expect("it is known at once");
    assert_eq!(refused.result.map_err(|error| error.code), Err(Code::Busy));
    deaf.recv(Kind::Message).await.expect("it is there");
    let mut outcomes = Vec::new();
    lanes.next(&mut outcomes).await;
    assert!(matches!(&outcomes[..], [outcome] if outcome.result.is_ok()));
    deaf.recv(Kind::Message).await.expect("it is there");
    let sent = lanes.send(message(deaf.addr(), 0)).await.expect("it is known at once");
    sent.result.expect("there is room again");
    assert_eq!(lanes.queued(), 0);
}
