//! The suite is worth something: routers with a fault each fail it.

use std::time::Instant;

use bytes::Bytes;
use byway_beacon::Beacon;
use byway_identity::Prefix;
use byway_network::{
    Action, Class, Constraint, Cost, FrameError, Hop, Network, Outbox, Plane, Route, Setup, To, Unroutable,
};
use byway_sim::{Factory, suite};

/// Does nothing at all, and promises everything.
struct Nothing;

impl Network for Nothing {
    fn peer_up(&mut self, _: Instant, _: Hop, _: Class, _: Cost, _: &mut Outbox) {}
    fn peer_cost(&mut self, _: Instant, _: Hop, _: Class, _: Cost, _: &mut Outbox) {}
    fn peer_down(&mut self, _: Instant, _: Hop, _: &mut Outbox) {}
    fn handle_above(
        &mut self,
        _: Instant,
        _: To,
        _: Bytes,
        _: &Constraint,
        _: &mut Outbox,
    ) -> Result<(), Unroutable> {
        Ok(())
    }
    fn handle_below(&mut self, _: Instant, _: Hop, _: Bytes, _: &mut Outbox) -> Result<(), FrameError> {
        Ok(())
    }
    fn find(&mut self, _: Instant, _: Prefix, _: &Constraint, _: &mut Outbox) {}
    fn sample(&mut self, _: Instant, _: &Constraint, _: &mut Outbox) {}
    fn set_digest(&mut self, _: Instant, _: [u8; 32], _: &mut Outbox) {}
    fn heartbeat(&mut self, _: Instant, _: &mut Outbox) {}
    fn next_heartbeat(&self) -> Option<Instant> {
        None
    }
    fn overhead(&self) -> usize {
        0
    }
    fn next_hop(&self, _: To, _: &Constraint) -> Option<Hop> {
        None
    }
    fn routes(&self, _: usize) -> Vec<Route> {
        Vec::new()
    }
}

/// What is wrong with a [`Faulty`] beacon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Sends everything in plane `any`.
    AnyPlane,
    /// Delivers each payload twice.
    Double,
    /// Does not listen when a neighbour goes down.
    Stubborn,
    /// Gives each frame a whole life again.
    Undying,
    /// Wants a heartbeat all the time.
    Restless,
    /// Takes frames from anyone.
    Open,
    /// Takes any demand and ignores it.
    Careless,
    /// Never notices that a neighbour came back, nor that new ones come.
    Deaf,
}

struct Faulty {
    inner: Beacon,
    fault: Fault,
    now: Instant,
    hops: usize,
}

impl Faulty {
    fn boxed(now: Instant, setup: Setup, fault: Fault) -> Box<dyn Network> {
        Box::new(Self { inner: Beacon::new(now, setup), fault, now, hops: 0 })
    }

    fn spoil(&self, from: &mut Outbox, out: &mut Outbox) {
        for action in from.drain() {
            match action {
                Action::Send { hop, frame } if self.fault == Fault::Undying && frame.first() == Some(&2) => {
                    let mut frame = frame.to_vec();
                    frame[2] = 128;
                    out.send(hop, frame.into());
                }
                Action::Deliver { .. } if self.fault == Fault::Double => {
                    out.push(action.clone());
                    out.push(action);
                }
                other => out.push(other),
            }
        }
    }
}

impl Network for Faulty {
    fn peer_up(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        self.now = now;
        self.hops += 1;
        if self.fault != Fault::Deaf || self.hops <= 2 {
            self.inner.peer_up(now, hop, class, cost, out);
        }
    }
    fn peer_cost(&mut self, now: Instant, hop: Hop, class: Class, cost: Cost, out: &mut Outbox) {
        self.inner.peer_cost(now, hop, class, cost, out);
    }
    fn peer_down(&mut self, now: Instant, hop: Hop, out: &mut Outbox) {
        if self.fault != Fault::Stubborn {
            self.inner.peer_down(now, hop, out);
        }
    }
    fn handle_above(
        &mut self,
        now: Instant,
        to: To,
        payload: Bytes,
        by: &Constraint,
        out: &mut Outbox,
    ) -> Result<(), Unroutable> {
        let by = match self.fault {
            Fault::AnyPlane => Constraint::in_plane(Plane::Any),
            Fault::Careless => Constraint::in_plane(by.plane),
            _ => by.clone(),
        };
        self.inner.handle_above(now, to, payload, &by, out)
    }
    fn handle_below(
        &mut self,
        now: Instant,
        hop: Hop,
        frame: Bytes,
        out: &mut Outbox,
    ) -> Result<(), FrameError> {
        self.now = now;
        let mut inner = Outbox::default();
        let result = self.inner.handle_below(now, hop, frame, &mut inner);
        self.spoil(&mut inner, out);
        if self.fault == Fault::Open { result.or(Ok(())) } else { result }
    }
    fn find(&mut self, now: Instant, prefix: Prefix, by: &Constraint, out: &mut Outbox) {
        self.inner.find(now, prefix, by, out);
    }
    fn sample(&mut self, now: Instant, by: &Constraint, out: &mut Outbox) {
        self.inner.sample(now, by, out);
    }
    fn set_digest(&mut self, now: Instant, digest: [u8; 32], out: &mut Outbox) {
        self.inner.set_digest(now, digest, out);
    }
    fn heartbeat(&mut self, now: Instant, out: &mut Outbox) {
        self.now = now;
        self.inner.heartbeat(now, out);
    }
    fn next_heartbeat(&self) -> Option<Instant> {
        if self.fault == Fault::Restless { Some(self.now) } else { self.inner.next_heartbeat() }
    }
    fn overhead(&self) -> usize {
        self.inner.overhead()
    }
    fn next_hop(&self, to: To, by: &Constraint) -> Option<Hop> {
        self.inner.next_hop(to, by)
    }
    fn routes(&self, limit: usize) -> Vec<Route> {
        self.inner.routes(limit)
    }
}

/// Asserts that `factory`'s router fails each of the cases called `names`.
fn fails(factory: Factory, names: &[&str]) {
    for name in names {
        let case = suite::CASES.iter().find(|case| case.name == *name).expect("such a case is in the suite");
        assert!((case.run)(factory).is_err(), "{name} passes");
    }
}

#[test]
fn a_router_that_does_nothing_fails_every_case() {
    for case in suite::CASES {
        assert!((case.run)(|_, _| Box::new(Nothing)).is_err(), "{} passes", case.name);
    }
}

#[test]
fn a_router_that_ignores_planes_fails() {
    fails(
        |now, setup| Faulty::boxed(now, setup, Fault::AnyPlane),
        &["no_frame_leaves_its_plane", "no_frame_leaves_its_plane_during_churn"],
    );
}

#[test]
fn a_router_that_delivers_twice_fails() {
    fails(
        |now, setup| Faulty::boxed(now, setup, Fault::Double),
        &["chain_5_send_recv_all", "copies_made_by_links_are_not_multiplied"],
    );
}

#[test]
fn a_router_that_does_not_notice_a_dead_neighbour_fails() {
    fails(
        |now, setup| Faulty::boxed(now, setup, Fault::Stubborn),
        &["a_ring_heals_within_a_second_and_stays_healed", "churn_leaves_no_scars"],
    );
}

#[test]
fn a_router_that_lets_frames_live_for_ever_fails() {
    fails(|now, setup| Faulty::boxed(now, setup, Fault::Undying), &["a_frame_that_goes_round_is_dropped"]);
}

#[test]
fn a_router_whose_timer_never_rests_fails() {
    fails(|now, setup| Faulty::boxed(now, setup, Fault::Restless), &["chain_2_send_recv_all"]);
}

#[test]
fn a_router_that_forgives_everything_fails() {
    fails(
        |now, setup| Faulty::boxed(now, setup, Fault::Open),
        &["a_neighbour_that_is_not_up_is_not_heard", "a_frame_over_a_link_outside_its_plane_is_dropped"],
    );
}

#[test]
fn a_router_that_ignores_demands_fails() {
    fails(
        |now, setup| Faulty::boxed(now, setup, Fault::Careless),
        &[
            "a_constraint_that_cannot_be_shown_is_refused",
            "the_first_hop_is_of_the_families_that_were_asked_for",
        ],
    );
}

#[test]
fn a_router_that_takes_no_neighbour_back_fails() {
    fails(
        |now, setup| Faulty::boxed(now, setup, Fault::Deaf),
        &["a_restored_link_carries_within_two_seconds", "partitions_part_and_merge"],
    );
}
