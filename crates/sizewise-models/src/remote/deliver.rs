//! How does a question get its answer, when every provider may fail in every way?
//!
//! One deadline covers everything: waits, retries, other providers. Every call has its own reservation of money, made before and
//! settled after; a call that was given up keeps its reservation, as it may have cost. What does not fit the contract is asked for
//! once more, then the next provider is asked.

use super::{
    dialect::{Ask, Reply, Then, Trouble, Usage},
    hedge::Hedge,
    provider::Provider,
    questions::{Typed, repair},
    trace::Trace,
};
use serde_json::Value;
use sizewise_contract::units::MicroUsd;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Calls to one provider for one question, where nobody else could be asked.
pub(super) const TRIES: u32 = 4;
/// The same while there is another.
pub(super) const TRIES_OF_MANY: u32 = 2;
/// The first wait after trouble; each further one is twice as long, and half of it is chance.
const FIRST_WAIT: Duration = Duration::from_millis(150);
/// With less than that before the deadline no call is begun.
const LEAST_TIME: Duration = Duration::from_millis(200);
/// A provider that wants a longer wait than that is passed over while there is another.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The money that calls are paid from.
pub trait Money: Send + Sync + std::fmt::Debug {
    /// Takes out the most that a call to a provider can cost, of what is at hand; none where a disk must be asked.
    fn reserve_at_hand(&self, provider: &str, most: MicroUsd) -> Option<u64>;
    /// The same; may wait for a disk.
    fn reserve(&self, provider: &str, most: MicroUsd) -> Reserve;
    /// Says what the call did cost. Waits for nothing.
    fn settle(&self, reservation: u64, cost: MicroUsd);
    /// Says how many tokens a call has read and written, whatever they cost. Waits for nothing.
    fn count(&self, tokens: u64) {
        let _ = tokens;
    }
}

/// What became of taking money out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// It is taken out under this number.
    Held(u64),
    /// A budget does not hold it.
    Spent,
    /// The ledger cannot be written: nothing may be spent.
    Broken,
}

/// What is asked of every provider alike.
#[derive(Debug, Clone)]
pub struct Question {
    /// Roles and what they say.
    pub messages: Vec<(&'static str, String)>,
    /// The JSON schema of an answer.
    pub schema: Value,
    /// The questions as they are, for whoever takes them so.
    pub typed: Vec<Typed>,
    /// Most tokens of an answer, where the provider's settings say nothing.
    pub most_tokens: u32,
    /// Where its calls belong in what the caller traces; none where nobody does.
    pub trace: Option<Trace>,
}

/// What came of a question.
#[derive(Debug)]
pub struct Delivered<T> {
    /// The answer, as the contract has it.
    pub answer: Result<T, NoAnswer>,
    /// The provider that was called last.
    pub provider: String,
    /// The exact model that answered, or was asked.
    pub model: String,
    /// Calls made.
    pub attempts: u32,
    /// What they cost, or may have cost.
    pub cost: MicroUsd,
    /// What they read and wrote, as far as providers said.
    pub usage: Usage,
}

/// Why there is no answer; the last reason, as seen from the last provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    /// The kind.
    pub kind: Undelivered,
    /// In words, for logs: no text of the input is in it.
    pub problem: String,
}

/// The kinds of having no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// The money does not suffice.
    Budget,
    /// Nobody answered in time.
    Unavailable,
    /// This input is refused.
    Refused,
    /// Answers came that the contract does not know.
    OffContract,
}

struct Delivery<'a, T> {
    question: &'a Question,
    accept: &'a (dyn Fn(&str) -> Result<T, String> + Sync),
    money: &'a Arc<dyn Money>,
    deadline: Instant,
    attempts: AtomicU32,
    cost: Tally,
    read: AtomicU64,
    written: AtomicU64,
}

/// What calls cost, in micro-dollars, those that were cut off included.
type Tally = Arc<AtomicU64>;

/// How a provider is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    /// In its turn, while so many others could be asked after it.
    Turn(usize),
    /// Because another takes long: once, and without waiting for a place or for the end of a pause.
    Hedge,
}

impl Manner {
    /// How many others could be asked after it, and whether it is asked because another takes long.
    pub(super) fn facts(self) -> (usize, bool) {
        match self {
            Self::Turn(others) => (others, false),
            Self::Hedge => (0, true),
        }
    }
}

/// Asks providers in their order until one gives an answer that `accept` takes.
pub async fn deliver<T>(
    targets: &[Arc<Provider>],
    question: &Question,
    accept: &(dyn Fn(&str) -> Result<T, String> + Sync),
    (money, deadline): (&Arc<dyn Money>, Instant),
) -> Delivered<T> {
    let (attempts, cost) = (AtomicU32::new(0), Tally::default());
    let (read, written) = (AtomicU64::new(0), AtomicU64::new(0));
    let delivery = Delivery { question, accept, money, deadline, attempts, cost, read, written };
    let none = |kind, problem: &str| NoAnswer { kind, problem: problem.to_owned() };
    let mut last = (none(Undelivered::Unavailable, "no provider is named"), String::new(), String::new());
    for (position, target) in targets.iter().enumerate() {
        let second = targets.get(position + 1).unwrap_or(target);
        // A call that is cut off counts as spent from here on, before anybody is told what was.
        let (first, other) = {
            let turn = pin!(delivery.ask(target, Manner::Turn(targets.len() - position - 1)));
            match Hedge::of(target, second) {
                None => (Some(turn.await), None),
                Some(hedge) => {
                    let other = Box::pin(delivery.ask(second, Manner::Hedge));
                    hedge.race(turn, other, Result::is_ok).await
                }
            }
        };
        for (came, target, in_turn) in [(first, target, true), (other, second, false)] {
            let Some(came) = came else { continue };
            let (name, asked) = (target.name().to_owned(), target.model().to_owned());
            match came {
                Ok((answer, model)) => {
                    let model = model.unwrap_or(asked);
                    return delivery.ended(Ok(answer), (name, model));
                }
                // What was refused or could not be paid says more than that the next one was not there.
                Err(why) if position == 0 && in_turn || why.kind != Undelivered::Unavailable => {
                    last = (why, name, asked);
                }
                Err(_) => {}
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    let (why, provider, model) = last;
    delivery.ended(Err(why), (provider, model))
}

impl<T> Delivery<'_, T> {
    fn ended(&self, answer: Result<T, NoAnswer>, (provider, model): (String, String)) -> Delivered<T> {
        let attempts = self.attempts.load(Ordering::Relaxed);
        let load = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        let usage = Usage { read: load(&self.read), written: load(&self.written) };
        Delivered { answer, provider, model, attempts, cost: MicroUsd(load(&self.cost)), usage }
    }

    /// Asks one provider.
    async fn ask(&self, target: &Arc<Provider>, manner: Manner) -> Result<(T, Option<String>), NoAnswer> {
        let mut messages = self.question.messages.clone();
        let none = |kind, problem: String| NoAnswer { kind, problem };
        for attempt in 0..2 {
            let reply = self.call(target, &messages, manner).await?;
            match (self.accept)(&reply.content) {
                Ok(answer) => return Ok((answer, reply.model)),
                Err(problem) if attempt == 0 && !reply.cut_off && target.dialect().converses() => {
                    messages.extend(repair(&reply.content, &problem));
                }
                Err(_) if reply.cut_off => {
                    let problem = "its answer was cut off: max_tokens of the provider allows more";
                    return Err(none(Undelivered::OffContract, problem.into()));
                }
                Err(_) => break,
            }
        }
        Err(none(Undelivered::OffContract, "its answers are outside of the contract".into()))
    }

    /// One call, tried again while that makes sense.
    async fn call(
        &self,
        target: &Arc<Provider>,
        messages: &[(&'static str, String)],
        manner: Manner,
    ) -> Result<Reply, NoAnswer> {
        let (others, hedges) = manner.facts();
        let none = |kind, problem: &str| NoAnswer { kind, problem: problem.to_owned() };
        let late = || none(Undelivered::Unavailable, "the deadline came first");
        let most_tokens = target.most_tokens().unwrap_or(self.question.most_tokens);
        let Question { schema, typed, .. } = self.question;
        let ask = Ask { model: target.model(), messages, schema, typed, most_tokens };
        let mut tries = 0;
        loop {
            if self.deadline.saturating_duration_since(Instant::now()) < LEAST_TIME {
                return Err(late());
            }
            let waited = self.until(target, others);
            let permit = tokio::time::timeout_at(waited.into(), target.permit()).await;
            let permit = permit.map_err(|_| late())?.ok_or_else(late)?;
            let leave = match target.breaker().leave(Instant::now()) {
                Ok(leave) => leave,
                // Whoever has nobody else to ask waits with the others.
                Err(at) if others == 0 && !hedges && at + LEAST_TIME < self.deadline => {
                    drop(permit);
                    tokio::time::sleep_until(at.into()).await;
                    tokio::time::sleep(pause(0)).await;
                    continue;
                }
                Err(_) => {
                    let problem = "it failed too often, or wants to be left alone for a while";
                    return Err(none(Undelivered::Unavailable, problem));
                }
            };
            let most = target.prices().of(target.most_read(&ask), u64::from(most_tokens));
            let held = match reserve(self.money, target.name(), most, self.deadline).await {
                Ok(held) => held.counted(&self.cost),
                Err(problem) => return Err(none(Undelivered::Budget, problem)),
            };
            if tries == 0 && !hedges {
                target.breaker().earn();
            }
            tries += 1;
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let until = self.until(target, others);
            let asked = (target.dialect().convention().1, target.model());
            let mut calling = self.question.trace.as_ref().map(|trace| trace.calls(target, asked, until));
            let outcome = target.call(&ask, until, (leave, held.sent()), &mut calling).await;
            drop((permit, calling));
            let cost = match &outcome {
                Ok(reply) => reply.usage.map_or(most, |usage| target.prices().of(usage.read, usage.written)),
                Err(Trouble { may_cost: true, .. }) => most,
                Err(_) => MicroUsd(0),
            };
            if let Ok(Reply { usage: Some(usage), .. }) = &outcome {
                self.money.count(usage.total());
                self.read.fetch_add(usage.read, Ordering::Relaxed);
                self.written.fetch_add(usage.written, Ordering::Relaxed);
            }
            held.settle(cost);
            let trouble = match outcome {
                Ok(reply) => return Ok(reply),
                Err(trouble) => trouble,
            };
            let wait = match trouble.then {
                Then::NotThis => return Err(none(Undelivered::Refused, &trouble.problem)),
                Then::Never { .. } => return Err(none(Undelivered::Unavailable, &trouble.problem)),
                Then::AtOnce if tries < TRIES => continue,
                Then::AtOnce => return Err(none(Undelivered::Refused, &trouble.problem)),
                Then::Later(wait) => wait.unwrap_or_else(|| pause(tries)),
            };
            // Whoever was silent once is not waited for again while there is another.
            let silent = Instant::now() >= until;
            let too_long = others > 0 && (wait > PATIENCE || silent);
            let gone = Instant::now() + wait >= self.deadline;
            let most = if others > 0 { TRIES_OF_MANY } else { TRIES };
            if hedges || tries >= most || too_long || gone || !target.breaker().pays_retry() {
                return Err(none(Undelivered::Unavailable, &trouble.problem));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Until when one call may take: long enough for the others to be asked as well.
    fn until(&self, target: &Provider, others: usize) -> Instant {
        let left = self.deadline.saturating_duration_since(Instant::now());
        Instant::now() + target.timeout().min(if others > 0 { left / 2 } else { left })
    }
}

/// Money that is taken out for one call. Given up before anything was sent it is put back; given up afterwards it is spent, as the
/// call may have cost that much.
#[derive(Debug)]
pub(super) struct Held {
    money: Arc<dyn Money>,
    reservation: u64,
    most: MicroUsd,
    sent: AtomicBool,
    settled: bool,
    /// Where what it comes to is added up.
    tally: Option<Tally>,
}

impl Held {
    /// Adds what it comes to to this sum, however it ends.
    fn counted(self, tally: &Tally) -> Self {
        // A field of what is dropped by hand cannot be replaced by a struct update.
        let mut held = self;
        held.tally = Some(Arc::clone(tally));
        held
    }

    /// To be raised before the first byte goes out.
    pub(super) fn sent(&self) -> &AtomicBool {
        &self.sent
    }

    /// Says how many tokens the call has read and written.
    pub(super) fn count(&self, tokens: u64) {
        self.money.count(tokens);
    }

    /// Says what the call did cost.
    pub(super) fn settle(mut self, cost: MicroUsd) {
        self.put_down(cost);
    }

    fn put_down(&mut self, cost: MicroUsd) {
        if !std::mem::replace(&mut self.settled, true) {
            self.money.settle(self.reservation, cost);
            if let Some(tally) = &self.tally {
                let added = |sum: u64| Some(sum.saturating_add(cost.0));
                let _ = tally.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let cost = if self.sent.load(Ordering::Relaxed) { self.most } else { MicroUsd(0) };
        self.put_down(cost);
    }
}

/// Takes money out; where a disk must be asked, away from the threads that answer.
pub(super) async fn reserve(
    money: &Arc<dyn Money>,
    provider: &str,
    most: MicroUsd,
    deadline: Instant,
) -> Result<Held, &'static str> {
    let money = Arc::clone(money);
    let held = move |money: Arc<dyn Money>, reservation: u64, free: bool| Held {
        money,
        reservation,
        most,
        sent: AtomicBool::new(false),
        settled: free,
        tally: None,
    };
    if most == MicroUsd(0) {
        // What costs nothing is never in a budget's way.
        return Ok(held(money, 0, true));
    }
    if let Some(reservation) = money.reserve_at_hand(provider, most) {
        return Ok(held(money, reservation, false));
    }
    let name = provider.to_owned();
    let taken = tokio::task::spawn_blocking(move || match money.reserve(&name, most) {
        // Held from here on, so that a caller who has left gives it back.
        Reserve::Held(reservation) => Ok(held(money, reservation, false)),
        Reserve::Spent => Err("the budget does not hold another call"),
        Reserve::Broken => Err("the ledger cannot be written"),
    });
    let taken = tokio::time::timeout_at(deadline.into(), taken).await;
    taken
        .map_err(|_| "the ledger could not be written in time")?
        .map_err(|_| "the ledger cannot be written")?
}

/// The wait after so many tries: half of it by chance, so that callers do not come back together.
pub(super) fn pause(tries: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << tries.min(6));
    let chance = f64::from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.subsec_nanos())
            % 1_000,
    ) / 1_000.0;
    full.mul_f64(0.5 + chance / 2.0)
}
