//! The benchmark in a short form: what is taken arrives. How fast is not judged here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::time::Duration;

use byway_bench::fleet::{Fleet, START, built_byway};
use byway_bench::messages::{Load, Seen, measure};
use byway_bench::{open, open_node, streams};

const LOAD: Load = Load { size: 1280, time: Duration::from_secs(60), count: 20_000 };

async fn seen(fleet: &Fleet, target: usize) -> Seen {
    let (from, to) =
        (open(fleet.api(0), false).await.unwrap(), open(fleet.api(target), false).await.unwrap());
    from.reaches(&to, START).await.unwrap();
    measure(&from, &to, LOAD).await.unwrap()
}

fn judge(seen: &Seen, logs: &str) {
    println!("{:.1} Mbit/s, {seen:?}", seen.mbits());
    assert_eq!(seen.sent, LOAD.count, "{logs}");
    assert!(seen.share() >= 0.99, "{seen:?}\n{logs}");
    assert_eq!(seen.repeated, 0, "at most once");
}

#[tokio::test(flavor = "multi_thread")]
async fn nearly_all_messages_arrive_and_a_stream_arrives_whole() {
    let fleet = Fleet::byway(&built_byway().unwrap()).await.unwrap();
    let far = seen(&fleet, 2).await;
    judge(&far, &fleet.logs());
    let near = seen(&fleet, 0).await;
    judge(&near, &fleet.logs());
    assert_eq!(near.reordered, 0, "one path keeps the order");

    let (from, to) = (open_node(fleet.api(0)).await.unwrap(), open_node(fleet.api(2)).await.unwrap());
    let carried = streams::measure(from, to, 10_000_000).await.unwrap();
    println!("{:.1} Mbit/s in a stream", carried.mbits());
    assert_eq!(carried.bytes, 10_000_000);
    fleet.stop().await.unwrap();
}
