//! `byway ping`.

use std::time::Duration;

use byway_api::{ApiError, Code, Request};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Context;
use crate::failure::Failure;
use crate::out::Out;
use crate::target::resolve;

/// Asks a node for signs of life, and tells how long they took.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address or petname.
    #[arg(allow_hyphen_values = true)]
    pub(crate) addr: String,
    /// How many to ask for; without it until Ctrl-C.
    #[arg(short, long, value_name = "N")]
    pub(crate) count: Option<u32>,
    /// Seconds between them.
    #[arg(short, long, value_name = "S", default_value_t = 1.0)]
    pub(crate) interval: f64,
    /// Seconds to wait for each.
    #[arg(short = 'W', long, value_name = "S", default_value_t = 5.0)]
    pub(crate) wait: f64,
}

/// Pings on the way at once, so that a short interval to a dead node grows nothing.
const OUTSTANDING_MAX: usize = 1_000;

#[derive(Serialize)]
struct Answer {
    seq: u32,
    rtt_ms: Option<f64>,
    trouble: Option<String>,
}

/// What came of all of them.
#[derive(Default)]
struct Tally {
    sent: u32,
    /// Milliseconds, in the order of arrival.
    answers: Vec<f64>,
    trouble: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    sent: u32,
    received: usize,
    /// Share, 0 to 1.
    loss: f64,
    min_ms: Option<f64>,
    avg_ms: Option<f64>,
    max_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let to = resolve(context.service, &args.addr).await?;
    let node = context.service.main();
    let request = Request { mancon: context.level, deadline: Some(super::seconds(args.wait)?) };
    let interval = super::seconds(args.interval)?.max(Duration::from_millis(1));
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outstanding = JoinSet::new();
    let mut tally = Tally::default();
    loop {
        let more = args.count.is_none_or(|count| tally.sent < count);
        if !more && outstanding.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            () = context.stop.wait() => break,
            Some(joined) = outstanding.join_next() => {
                let (seq, result) = joined.map_err(|error| Failure::could_not(error.to_string()))?;
                tally.note(seq, result, context.out)?;
            }
            _ = ticks.tick(), if more && outstanding.len() < OUTSTANDING_MAX => {
                tally.sent += 1;
                let (node, seq) = (node.clone(), tally.sent);
                outstanding.spawn(async move { (seq, node.ping(to, request).await) });
            }
        }
    }
    // What is still on the way when the user stops is neither lost nor answered.
    tally.sent -= outstanding.len() as u32;
    let summary = tally.summary();
    if context.out.json {
        context.out.object(&summary)?;
    } else {
        context.out.line(format!("--- {to}\n{}", summary.text()))?;
    }
    if summary.received == 0 && summary.sent > 0 {
        return Err(Failure::no(tally.trouble.unwrap_or_default()));
    }
    Ok(())
}

impl Tally {
    fn note(
        &mut self,
        seq: u32,
        result: Result<Duration, ApiError>,
        out: &mut Out<'_>,
    ) -> Result<(), Failure> {
        let answer = match result {
            Ok(rtt) => {
                let rtt = rtt.as_secs_f64() * 1e3;
                self.answers.push(rtt);
                Answer { seq, rtt_ms: Some(rtt), trouble: None }
            }
            // Asking again changes nothing about these.
            Err(error) if hopeless(error.code) => return Err(error.into()),
            Err(error) => {
                self.trouble = Some(error.detail.clone());
                Answer { seq, rtt_ms: None, trouble: Some(error.detail) }
            }
        };
        if out.json {
            return out.object(&answer);
        }
        match (answer.rtt_ms, answer.trouble) {
            (Some(rtt), _) => out.line(format!("answer {seq}: {rtt:.2} ms")),
            (None, trouble) => out.line(format!("no answer {seq}: {}", trouble.unwrap_or_default())),
        }
    }

    fn summary(&self) -> Summary {
        let mut sorted = self.answers.clone();
        sorted.sort_by(f64::total_cmp);
        let lost = self.sent as usize - sorted.len();
        Summary {
            sent: self.sent,
            received: sorted.len(),
            loss: if self.sent == 0 { 0.0 } else { lost as f64 / f64::from(self.sent) },
            min_ms: sorted.first().copied(),
            avg_ms: (!sorted.is_empty()).then(|| sorted.iter().sum::<f64>() / sorted.len() as f64),
            max_ms: sorted.last().copied(),
            p99_ms: sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied(),
        }
    }
}

impl Summary {
    fn text(&self) -> String {
        let loss = self.loss * 100.0;
        let mut text = format!("{} sent, {} answered, {loss:.1}% lost", self.sent, self.received);
        if let (Some(min), Some(avg), Some(max), Some(p99)) =
            (self.min_ms, self.avg_ms, self.max_ms, self.p99_ms)
        {
            text += &format!("; min {min:.2} avg {avg:.2} max {max:.2} p99 {p99:.2} ms");
        }
        text
    }
}

fn hopeless(code: Code) -> bool {
    matches!(
        code,
        Code::ManconUnsatisfied
            | Code::TargetForbidden
            | Code::BadRequest
            | Code::Unauthorized
            | Code::Closed
    )
}

#[cfg(test)]
mod tests {
    use byway_identity::Addr;

    use super::super::fake::Fake;
    use super::*;

    fn args(addr: Addr, count: Option<u32>) -> Args {
        Args { addr: addr.to_string(), count, interval: 0.001, wait: 0.05 }
    }

    #[tokio::test]
    async fn answers_are_counted_and_summed_up() {
        let fake = Fake::new();
        let ran = fake.run(async |context| run(&args(fake.addr(), Some(3)), context).await).await;
        let text = ran.data();
        assert_eq!(ran.status(), 0, "{text}");
        assert!(text.contains("answer 3:") && text.contains("3 sent, 3 answered, 0.0% lost; min"), "{text}");
    }

    #[tokio::test]
    async fn silence_is_a_no() {
        let fake = Fake::new();
        let nobody = Addr::from_bytes([1; 32]);
        let ran = fake.json(async |context| run(&args(nobody, Some(2)), context).await).await;
        let last = ran.data().lines().last().map(str::to_owned).expect("a summary");
        let summary: serde_json::Value = serde_json::from_str(&last).expect("an object");
        assert_eq!((summary["sent"].as_u64(), summary["received"].as_u64()), (Some(2), Some(0)));
        assert_eq!(summary["loss"].as_f64(), Some(1.0));
        assert_eq!(ran.status(), 1);
    }

    #[tokio::test]
    async fn ctrl_c_ends_it_with_the_summary() {
        let fake = Fake::new();
        fake.stop();
        let ran = fake.run(async |context| run(&args(fake.addr(), None), context).await).await;
        assert!(ran.data().contains("0 sent, 0 answered"), "{}", ran.data());
        assert_eq!(ran.status(), 0);
    }

    #[test]
    fn the_99th_percentile_leaves_the_worst_hundredth_out() {
        let tally = Tally { sent: 200, answers: (1..=200).map(f64::from).collect(), trouble: None };
        let summary = tally.summary();
        assert_eq!((summary.p99_ms, summary.max_ms, summary.avg_ms), (Some(198.0), Some(200.0), Some(100.5)));
        assert_eq!(Tally { sent: 1, ..Tally::default() }.summary().p99_ms, None);
    }
}
