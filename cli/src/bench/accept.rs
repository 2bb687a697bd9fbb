//! Accepting: `POST /v1/messages` into conversations with nobody outside, against bare publishes of the same bytes, also such that
//! come by HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chat4all_domain::message;
use serde_json::Value;

use super::aim::Aim;
use super::bare::Bare;
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
    /// Bare publishes that come by HTTP.
    bare: Vec<Run>,
}

impl Rounds {
    fn each(runs: &[Run], value: impl Fn(&Run) -> f64) -> Vec<f64> {
        runs.iter().map(value).collect()
    }

    /// Each of these, and the mean of the raw runs right before and right after.
    fn pairs(&self, these: &[Run], value: impl Fn(&Run) -> f64) -> Vec<(f64, f64)> {
        let around = self
            .raw
            .windows(2)
            .map(|pair| f64::midpoint(value(&pair[0]), value(&pair[1])));
        these.iter().map(&value).zip(around).collect()
    }

    /// These in relation to that mean.
    fn ratio(&self, these: &[Run], value: impl Fn(&Run) -> f64) -> Vec<f64> {
        let pairs = self.pairs(these, value).into_iter();
        pairs.map(|(these, raw)| these / raw).collect()
    }

    /// How much more these are than that mean.
    fn more(&self, these: &[Run], value: impl Fn(&Run) -> f64) -> Vec<f64> {
        let pairs = self.pairs(these, value).into_iter();
        pairs.map(|(these, raw)| these - raw).collect()
    }
}

pub(super) fn takes(plan: &Plan) -> Duration {
    // Bare, ours and bare by HTTP, one and many in flight, and two of them at half load; each begins with one more that is bare.
    Duration::from_secs(15) + plan.runs(8 * plan.rounds + 3)
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
    let bare = Bare::start(&publish, &post).await?;
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
            let bare = closed(Arc::clone(&bare), in_flight, times);
            rounds.bare.push(bare.await?);
            let raw = closed(Arc::clone(&publish), in_flight, times);
            rounds.raw.push(raw.await?);
        }
        let name = |what: &str| format!("{what}, {in_flight} in flight");
        let (raw, ours, bare) = (&rounds.raw, &rounds.ours, &rounds.bare);
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
        let what = name("bare publishes by HTTP, one handler that does nothing else");
        report.add(what, "/s", &Rounds::each(bare, Run::rate));
        if in_flight == 1 {
            let p50 = |run: &Run| run.percentile_ms(0.5);
            report.add(name("(a) p50"), "ms", &Rounds::each(raw, p50));
            report.add(name("(b1) p50"), "ms", &Rounds::each(ours, p50));
            let aim = Aim::AtMost(1.3);
            let ratio = rounds.ratio(ours, p50);
            report.aim(name("p50 of (b1) / (a)"), "×", &ratio, aim);
            let what = name("p50 of bare publishes by HTTP / (a)");
            report.add(what, "×", &rounds.ratio(bare, p50));
        } else {
            let aim = Aim::AtLeast(0.8);
            let ratio = rounds.ratio(ours, Run::rate);
            report.aim(name("rate of (b1) / (a)"), "×", &ratio, aim);
            let what = name("rate of bare publishes by HTTP / (a)");
            report.add(what, "×", &rounds.ratio(bare, Run::rate));
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
    let more = rounds.more(&rounds.ours, p99);
    let aim = Aim::AtMost(5.0);
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
            bare: runs(&[20, 20]),
        };
        let (ours, bare) = (&rounds.ours, &rounds.bare);
        assert_eq!(rounds.ratio(ours, Run::rate), [0.5, 0.25]);
        assert_eq!(rounds.more(ours, Run::rate), [-10.0, -30.0]);
        assert_eq!(rounds.ratio(bare, Run::rate), [1.0, 0.5]);
    }
}
