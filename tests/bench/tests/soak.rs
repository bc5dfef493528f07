//! The soak in a short form: TCP goes on while peers, keys and configurations change.

use std::time::Duration;

use byway_bench::side::peer::Programs;
use byway_bench::soak::Plan;

#[test]
fn traffic_goes_on_while_peers_come_and_go_keys_rotate_and_the_configuration_changes() {
    let plan = Plan {
        time: Duration::from_secs(20),
        seed: 7,
        streams: 4,
        programs: Programs::default(),
        settings: Vec::new(),
    };
    let outcome = plan.run(|_| ()).unwrap();
    println!("{}", outcome.words());
    assert!(outcome.faults().is_empty(), "seed {}: {:?}\n{}", plan.seed, outcome.faults(), outcome.words());
    for what in ["peer started", "configuration reloaded"] {
        assert!(outcome.done.get(what).is_some_and(|count| *count > 0), "{:?}", outcome.done);
    }
}
