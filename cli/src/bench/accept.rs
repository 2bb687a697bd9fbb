//! Accepting: `POST /v1/messages` into conversations with nobody outside, against bare publishes of the same bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chat4all_domain::message;
use serde_json::Value;

use super::aim::Aim;
use super::load::{Operation, Run, closed, open};
use super::plan::Plan;
use super::post::Post;
use super::raw::{Publish, Template};
use super::report::Report;
use super::{IN_FLIGHT, progress};

/// Enough that no conversation is special; they lie in all partitions.
const CONVERSATIONS: usize = 256;

impl Operation for Post {
    async fn once(&self, n: u64, _: Instant) -> anyhow::Result<()> {
        self.send(n).await.map(drop)
    }
}

/// What one round gave.
#[derive(Default)]
struct Rounds {
    raw: Vec<Run>,
    ours: Vec<Run>,
}

impl Rounds {
    fn each(runs: &[Run], value: impl Fn(&Run) -> f64) -> Vec<f64> {
        runs.iter().map(value).collect()
    }

    /// Each of ours, and the mean of the raw runs right before and right after.
    fn pairs(&self, value: impl Fn(&Run) -> f64) -> Vec<(f64, f64)> {
        let around = self
            .raw
            .windows(2)
            .map(|pair| f64::midpoint(value(&pair[0]), value(&pair[1])));
        let ours = self.ours.iter().map(&value);
        ours.zip(around).collect()
    }

    /// Ours in relation to that mean.
    fn ratio(&self, value: impl Fn(&Run) -> f64) -> Vec<f64> {
        let pairs = self.pairs(value).into_iter();
        pairs.map(|(ours, raw)| ours / raw).collect()
    }

    /// How much more ours is than that mean.
    fn more(&self, value: impl Fn(&Run) -> f64) -> Vec<f64> {
        let pairs = self.pairs(value).into_iter();
        pairs.map(|(ours, raw)| ours - raw).collect()
    }
}

pub(super) fn takes(plan: &Plan) -> Duration {
    // Bare and ours, one and many in flight, and both at half load; each of the three begins with one more that is bare.
    Duration::from_secs(15) + plan.runs(6 * plan.rounds + 3)
}

/// # Errors
/// The stack does not start, or refuses.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    progress("accept: the system, and beside it a bare nats-server");
    let target = plan.target(&[]).await?;
    report.synced("the stack", target.sync().await?);
    let log = target.log().await?;
    let post = Arc::new(Post::prepare(&target, target.groups(CONVERSATIONS).await?)?);
    let template = Template::last(&log, &sent(&post.send(0).await?)?).await?;
    let bytes = template.bytes();
    let publish = Publish::prepare(&target.layout()?, CONVERSATIONS, template).await?;
    report.synced("bare publishes", publish.sync(target.client()).await?);
    let times = plan.times();
    let mut most = (f64::NAN, f64::NAN);
    for in_flight in IN_FLIGHT {
        progress(format_args!(
            "accept: {in_flight} in flight, envelopes of {bytes} bytes"
        ));
        let mut rounds = Rounds::default();
        let (mut most_behind, mut behind, mut level) = (Vec::new(), Vec::new(), Vec::new());
        let raw = closed(Arc::clone(&publish), in_flight, times);
        rounds.raw.push(raw.await?);
        for _ in 0..plan.rounds {
            let ours = closed(Arc::clone(&post), in_flight, times);
            let (ours, lag) = target.watching_lag(&log, ours).await?;
            rounds.ours.push(ours);
            most_behind.push(lag.most as f64);
            behind.push(lag.at_the_end as f64);
            let ended = Instant::now();
            target.catch_up(&log).await?;
            level.push(ended.elapsed().as_secs_f64() * 1e3);
            let raw = closed(Arc::clone(&publish), in_flight, times);
            rounds.raw.push(raw.await?);
        }
        let name = |what: &str| format!("{what}, {in_flight} in flight");
        let (raw, ours) = (&rounds.raw, &rounds.ours);
        report.add(
            name("(a) bare publishes"),
            "/s",
            &Rounds::each(raw, Run::rate),
        );
        report.add(
            name("(b1) messages accepted"),
            "/s",
            &Rounds::each(ours, Run::rate),
        );
        if in_flight == 1 {
            let p50 = |run: &Run| run.percentile_ms(0.5);
            report.add(name("(a) p50"), "ms", &Rounds::each(raw, p50));
            report.add(name("(b1) p50"), "ms", &Rounds::each(ours, p50));
            let aim = Aim::AtMost(1.3);
            report.aim(name("p50 of (b1) / (a)"), "×", &rounds.ratio(p50), aim);
        } else {
            let aim = Aim::AtLeast(0.8);
            let ratio = rounds.ratio(Run::rate);
            report.aim(name("rate of (b1) / (a)"), "×", &ratio, aim);
            let mean = |runs: &[Run]| runs.iter().map(Run::rate).sum::<f64>() / runs.len() as f64;
            most = (mean(raw), mean(ours));
        }
        let what = name("(b1) projector's lag, the most of once a second");
        report.add(what, "events", &most_behind);
        let what = name("(b1) projector's lag when the load ends");
        report.add(what, "events", &behind);
        let what = name("(b1) until it has caught up after that");
        report.add(what, "ms", &level);
    }
    half_load(plan, report, (&publish, &post), most, async || {
        target.catch_up(&log).await
    })
    .await?;
    target.stop().await
}

/// Both at half of what each can take, from the moment at which each was meant to begin.
async fn half_load(
    plan: &Plan,
    report: &mut Report,
    (publish, post): (&Arc<Publish>, &Arc<Post>),
    (most_raw, most_ours): (f64, f64),
    level: impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    progress("accept: at half of what each can take");
    let p99 = |run: &Run| run.percentile_ms(0.99);
    let mut rounds = Rounds::default();
    let raw = open(Arc::clone(publish), most_raw / 2.0, plan.times());
    rounds.raw.push(raw.await?);
    for _ in 0..plan.rounds {
        let ours = open(Arc::clone(post), most_ours / 2.0, plan.times());
        rounds.ours.push(ours.await?);
        level().await?;
        let raw = open(Arc::clone(publish), most_raw / 2.0, plan.times());
        rounds.raw.push(raw.await?);
    }
    let raw = Rounds::each(&rounds.raw, p99);
    report.add("(a) p99 at half load, open loop", "ms", &raw);
    let ours = Rounds::each(&rounds.ours, p99);
    report.add("(b1) p99 at half load, open loop", "ms", &ours);
    let (more, aim) = (rounds.more(p99), Aim::AtMost(5.0));
    report.aim("p99 of (b1) − (a) at half load", "ms", &more, aim);
    Ok(())
}

/// The message that an answer names.
fn sent(answer: &[u8]) -> anyhow::Result<message::Id> {
    let answer: Value = serde_json::from_slice(answer)?;
    let id = |name: &str| {
        answer[name]
            .as_str()
            .with_context(|| format!("no {name} in the answer"))
    };
    Ok(message::Id {
        conversation: id("conversation_id")?.parse()?,
        message: id("message_id")?.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_ours_is_compared_with_the_mean_of_the_two_around_it() {
        let runs = |counts: &[usize]| -> Vec<Run> {
            let run = |count: &usize| Run::new(vec![1; *count], Duration::from_secs(1));
            counts.iter().map(run).collect()
        };
        let rounds = Rounds {
            raw: runs(&[10, 30, 50]),
            ours: runs(&[10, 10]),
        };
        assert_eq!(rounds.ratio(Run::rate), [0.5, 0.25]);
        assert_eq!(rounds.more(Run::rate), [-10.0, -30.0]);
    }
}
