//! What would the same traffic have cost without this task, and how sure is that?
//!
//! Of what larger models were asked the bills are known. Of what was answered here, nobody knows what asking would have cost but for the
//! probes that were asked of the larger model, drawn with a known probability: from their bills and from the price of every kept
//! prompt the sum follows, with an interval that assumes nothing of the traffic ([`sizewise_measure::drawn`]). People's answers, wrong answers and
//! cores are costs too, where the task file says what they cost. Nothing is taken for an acceptable model that nobody named or checked.

mod alternative;
#[cfg(test)]
mod tests;
mod told;

pub(crate) use told::text;

use crate::{clock, error::Result, project::Project};
use alternative::Alternative;
use serde::Serialize;
use sizewise_contract::{
    Answer, StoredInput, Task, Tier,
    units::{Dollars, UnixMillis},
};
use sizewise_engine::standings;
use sizewise_measure::drawn::{Sum, sum};
use sizewise_store::{Billed, Store};
use std::collections::BTreeMap;

/// Records that are read at a time.
const PAGE: usize = 2_000;
const DAY_MS: i64 = 86_400_000;
/// How often the interval may be wrong; half of it where errors are priced, as their interval has a risk of its own.
const RISK: f64 = 0.05;
/// With fewer bills of probes than that, no saving is claimed.
const FEWEST: usize = 20;

/// What a task saved in a stretch of time. Money is in millionths of a dollar.
#[derive(Debug, Serialize)]
pub(crate) struct Savings {
    task: String,
    since: UnixMillis,
    until: UnixMillis,
    /// Decisions whose records are kept.
    decisions: u64,
    /// Those of them about which a larger model was asked for the caller.
    asked: u64,
    /// Those whose texts were not kept, or whose bills were not yet written down in their time: nothing is estimated of them, on either side.
    left_out: u64,
    probes: Probes,
    costs: Vec<Cost>,
    /// What all costs that are counted come to.
    spent: Amount,
    against: Vec<Against>,
    /// With which confidence all bounds of one comparison hold together.
    confidence: f64,
}

#[derive(Debug, Default, Serialize)]
struct Probes {
    /// Drawn to be asked of the larger model.
    drawn: usize,
    /// Of those, with a bill.
    billed: usize,
}

/// A cost of doing the task here.
#[derive(Debug, Serialize)]
struct Cost {
    what: &'static str,
    /// How many there were: calls, answers of people, wrong answers, milliseconds of cores.
    count: f64,
    /// What they cost; none where nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Amount>,
    /// In words: where it comes from, or which setting is missing.
    note: String,
}

/// An amount of money with its bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Amount {
    /// The estimate; none where there is none.
    micro_usd: Option<i64>,
    low: i64,
    high: i64,
}

/// A comparison with somebody else who would have done all of it.
#[derive(Debug, Serialize)]
struct Against {
    provider: String,
    model: String,
    why: String,
    /// `probes`, `escalations` or `bound`.
    basis: &'static str,
    cost: Amount,
    saved: Amount,
    /// The estimate of what was saved as a share of that cost.
    saved_share: Option<f64>,
    /// Share of that cost which goes on being paid for what is asked of larger models.
    escalated_share_of_cost: Option<f64>,
    /// Whether there are bills of probes enough to claim anything.
    enough: bool,
    note: String,
}

/// What one pass over the records collects, beside the alternatives' sums.
#[derive(Debug, Default)]
struct Seen {
    decisions: u64,
    asked: u64,
    left_out: u64,
    escalated: u64,
    probed: u64,
    calls: u64,
    probes: Probes,
    core_us: u64,
    /// Answers given here, by question.
    served: BTreeMap<String, u64>,
}

/// What a task saved since a moment, or in the latest so many decisions if those are fewer.
///
/// # Errors
/// Fails when the store or the settings cannot be read, or `named` is no provider.
pub(crate) fn savings(
    (project, store): (&Project, &Store),
    task: &Task,
    named: Option<&str>,
    (days, most): (u32, usize),
) -> Result<Savings> {
    let until = clock::now();
    let mut since = UnixMillis(until.0 - i64::from(days) * DAY_MS);
    if let Some(moment) = store.moment_of_latest(&task.name, most)? {
        since = since.max(moment);
    }
    let mut others = alternative::all(project, task, named)?;
    let mut seen = Seen::default();
    let mut after = (since, String::new());
    loop {
        let page = store.billed_after(&task.name, &after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = (last.record.at, last.record.id.clone());
        for billed in page {
            seen.take(task, &billed, &mut others);
        }
    }
    let (costs, risk_of_errors) = costs((store, task), &seen, since)?;
    let spent = costs.iter().filter_map(|cost| cost.amount).fold(Amount::default(), Amount::plus);
    let risk = if risk_of_errors > 0.0 { RISK / 2.0 } else { RISK };
    let against = others.iter().map(|other| against(other, &seen, (spent, risk))).collect();
    Ok(Savings {
        task: task.name.clone(),
        since,
        until,
        decisions: seen.decisions,
        asked: seen.asked,
        left_out: seen.left_out,
        probes: seen.probes,
        costs,
        spent,
        against,
        confidence: (1.0 - risk - risk_of_errors).max(0.0),
    })
}

impl Seen {
    fn take(&mut self, task: &Task, billed: &Billed, others: &mut [Alternative]) {
        let Billed { record, escalated, drawn, probe } = billed;
        self.decisions += 1;
        let called = |answer: &Answer| answer.remote.as_ref().is_some_and(|remote| remote.attempts > 0);
        // Remembered: it would have been so as well had everything been asked.
        let remembered = |answer: &Answer| answer.tier == Tier::Remote && !called(answer);
        self.asked += u64::from(record.answers.iter().any(called));
        for step in
            record.answers.iter().flat_map(|answer| &answer.path).filter(|step| step.tier != Tier::Remote)
        {
            self.core_us = self.core_us.saturating_add(step.elapsed_us);
        }
        for answer in record.answers.iter().filter(|answer| answer.answered() && answer.tier != Tier::Remote)
        {
            *self.served.entry(answer.question.clone()).or_default() += 1;
        }
        for (bill, sum) in [(escalated, &mut self.escalated), (probe, &mut self.probed)] {
            if let Some(bill) = bill {
                *sum = sum.saturating_add(bill.micro_usd.0);
                self.calls += 1;
            }
        }
        let all = record.answers.len() == task.questions.len();
        if all && record.answers.iter().all(remembered) {
            return;
        }
        let whole = all && record.answers.iter().all(called);
        let unknown = escalated.is_none() && record.answers.iter().any(called);
        let text = match &record.input {
            StoredInput::Redacted(text) | StoredInput::Full(text) => Some(text),
            StoredInput::Nothing => None,
        };
        match (whole, escalated, text) {
            (true, Some(bill), text) => {
                others.iter_mut().for_each(|other| other.asked(bill, text.map(String::as_str)));
            }
            (false, _, Some(text)) if !unknown => {
                self.probes.drawn += usize::from(drawn.is_some());
                self.probes.billed += usize::from(drawn.is_some() && probe.is_some());
                others.iter_mut().for_each(|other| other.not_asked(text, *drawn, probe.as_ref()));
            }
            _ => self.left_out += 1,
        }
    }
}

impl Amount {
    fn exactly(micro_usd: u64) -> Self {
        let amount = i64::try_from(micro_usd).unwrap_or(i64::MAX);
        Self { micro_usd: Some(amount), low: amount, high: amount }
    }

    fn of(estimate: Option<f64>, (low, high): (f64, f64)) -> Self {
        Self {
            micro_usd: estimate.map(|e| e.round() as i64),
            low: low.floor() as i64,
            high: high.ceil() as i64,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            micro_usd: self.micro_usd.or(Some(0)).zip(other.micro_usd).map(|(a, b)| a.saturating_add(b)),
            low: self.low.saturating_add(other.low),
            high: self.high.saturating_add(other.high),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            micro_usd: self.micro_usd.zip(other.micro_usd.or(Some(0))).map(|(a, b)| a.saturating_sub(b)),
            low: self.low.saturating_sub(other.high),
            high: self.high.saturating_sub(other.low),
        }
    }
}

fn price(each: Dollars, count: f64) -> f64 {
    each.0.0 as f64 * count
}

/// What doing the task here cost, line by line, and the risk that the bounds of it do not hold.
fn costs((store, task): (&Store, &Task), seen: &Seen, since: UnixMillis) -> Result<(Vec<Cost>, f64)> {
    let settings = &task.savings;
    let mut costs = vec![
        Cost {
            what: "larger_models",
            count: seen.asked as f64,
            amount: Some(Amount::exactly(seen.escalated)),
            note: "calls for what was not answered here, as billed".into(),
        },
        Cost {
            what: "probes",
            count: seen.probes.billed as f64,
            amount: Some(Amount::exactly(seen.probed)),
            note: "the larger model's answers to what was drawn at random, as billed".into(),
        },
    ];
    let labels = store.answered_since(&task.name, since)? as f64;
    costs.push(match (settings.usd_per_label, settings.minutes_per_label) {
        (Some(each), _) => {
            let amount = price(each, labels);
            let amount = Some(Amount::of(Some(amount), (amount, amount)));
            Cost { what: "labels", count: labels, amount, note: "people's answers at usd_per_label".into() }
        }
        (None, minutes) => {
            let time = minutes
                .map_or(String::new(), |minutes| format!("{:.1} hours of people; ", minutes * labels / 60.0));
            let note = format!("{time}not counted: usd_per_label under [savings] is not said");
            Cost { what: "labels", count: labels, amount: None, note }
        }
    });
    let (errors, risk) = errors((store, task), seen)?;
    costs.push(errors);
    let core_hours = seen.core_us as f64 / 3.6e9;
    let amount = settings.usd_per_core_hour.map(|each| price(each, core_hours));
    costs.push(Cost {
        what: "cores",
        count: seen.core_us as f64 / 1e3,
        amount: amount.map(|amount| Amount::of(Some(amount), (amount, amount))),
        note: match amount {
            Some(_) => {
                "time in the tiers here, as if each had a core for itself, at usd_per_core_hour".into()
            }
            None => {
                "not counted: usd_per_core_hour under [savings] is not said; energy is not counted".into()
            }
        },
    });
    Ok((costs, risk))
}

/// What wrong answers given here cost: the served error that probes tell, of the release in force, for all of them.
fn errors((store, task): (&Store, &Task), seen: &Seen) -> Result<(Cost, f64)> {
    let told = match standings(store, &task.name) {
        Ok((_, standings)) => standings,
        Err(sizewise_engine::Error::NotTrained { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let (mut count, mut low, mut high, mut risk) = (Some(0.0), 0.0, 0.0, 0.0);
    for (question, answers) in &seen.served {
        let standing = told.iter().find(|standing| standing.question == *question);
        let error = standing.map(|standing| standing.served_error);
        let answers = *answers as f64;
        count = count.zip(error.and_then(|error| error.estimate)).map(|(sum, share)| sum + share * answers);
        low += error.map_or(0.0, |error| error.low) * answers;
        high += error.map_or(1.0, |error| error.high) * answers;
        risk += standing.map_or(0.0, |standing| 1.0 - standing.promise.confidence);
    }
    let known = count.is_some();
    let each = task.savings.usd_per_error;
    let amount = each
        .map(|each| Amount::of(count.map(|count| price(each, count)), (price(each, low), price(each, high))));
    let note = match (each, known) {
        (None, _) => "not counted: usd_per_error under [savings] is not said".into(),
        (Some(_), true) => format!(
            "between {low:.0} and {high:.0} wrong answers, from the served error that probes tell of the release in force; those of the larger model are not counted for it"
        ),
        (Some(_), false) => {
            "no probe has told yet how many answers are wrong: the bounds hold, and there is no estimate"
                .into()
        }
    };
    let cost = Cost { what: "errors", count: count.unwrap_or(0.0), amount, note };
    Ok((cost, if each.is_some() { risk } else { 0.0 }))
}

/// One comparison.
fn against(other: &Alternative, seen: &Seen, (spent, risk): (Amount, f64)) -> Against {
    let local = sum(other.size, &other.drawn, risk);
    let (low, high) = (other.exact.0 + local.low, other.exact.1 + local.high);
    let ratio = (other.asked_size > 0.0).then(|| other.asked_cost / other.asked_size);
    let all_asked = other.size <= 0.0;
    let (basis, estimate) = match (local.estimate, ratio) {
        _ if all_asked => ("bills", Some(other.exact.0)),
        (Some(estimate), _) => ("probes", Some(other.exact.0 + estimate)),
        (None, Some(ratio)) => ("escalations", Some((other.exact.0 + ratio * other.size).clamp(low, high))),
        (None, None) => ("bound", None),
    };
    let cost = Amount::of(estimate, (low, high));
    let saved = cost.minus(spent);
    let seen_bills = other.drawn.iter().filter(|part| part.share.is_some()).count();
    let Sum { estimate: local_estimate, .. } = local;
    let narrow = local_estimate.is_some_and(|estimate| local.high - local.low <= estimate.max(1.0));
    let enough = all_asked || (seen_bills >= FEWEST && narrow);
    let note = match (enough, basis) {
        _ if other.is_free => "this provider has no prices in the settings (price_in, price_out): asking it counts as nothing".into(),
        (true, _) => "estimated from bills of probes, weighted by how likely each was drawn".into(),
        (false, "probes") => format!("not enough probes: {seen_bills} bills of the larger model; the bounds hold all the same"),
        (false, "escalations") => "not enough probes: the estimate takes what was answered here to cost as much for its length as what was asked; that is no sample".into(),
        _ => "not enough probes: only a bound from prices is known, as if each byte of the prompt were a token and each answer as long as it may be".into(),
    };
    let share = |part: f64| cost.micro_usd.filter(|whole| *whole > 0).map(|whole| part / whole as f64);
    Against {
        provider: other.provider.clone(),
        model: other.model.clone(),
        why: other.why.clone(),
        basis,
        saved_share: saved.micro_usd.and_then(|saved| share(saved as f64)),
        escalated_share_of_cost: share(seen.escalated as f64),
        cost,
        saved,
        enough,
        note,
    }
}
