//! The soak with churn in a short form: a mesh answers while daemons come and go.

use std::time::Duration;

use byway_bench::side::peer::Programs;
use byway_bench::soak::churn::{Plan, words};

#[test]
fn a_mesh_answers_while_daemons_come_and_go() {
    let plan = Plan {
        time: Duration::from_secs(45),
        seed: 7,
        nodes: 12,
        degree: 4.0,
        every: Duration::from_secs(5),
        settings: Vec::new(),
        programs: Programs::default(),
    };
    let outcome = plan.run(|line| println!("{line}")).unwrap();
    println!("{}", words(&outcome));
    assert!(outcome.faults().is_empty(), "seed {}: {:?}", plan.seed, outcome.faults());
    assert!(outcome.done.values().sum::<u64>() >= 8, "{:?}", outcome.done);
    assert!(outcome.pings.joined >= 20, "{:?}", outcome.pings);
}
