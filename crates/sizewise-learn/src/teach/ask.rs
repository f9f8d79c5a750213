//! How is a text put to the teacher, and which answers count?
//!
//! The contract is the prompt (`models::remote::questions`). What does not fit it is asked for once more; then the text counts as
//! unanswered.

use super::{answers::TeacherAnswer, purse::Purse};
use crate::error::{Error, Result};
use serde_json::Value;
use sizewise_contract::{Question, Task, units::Prices};
use sizewise_models::remote::{
    Ask, Chat, Reply, Then, Trouble,
    questions::{longest_answer, messages, read, repair, schema},
};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How often one call is tried when the server has trouble.
const TRIES: u32 = 8;
/// The first wait after trouble; each further one is twice as long.
pub const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Between two looks at the stop flag.
const NAP: Duration = Duration::from_millis(20);

/// Everything a call needs.
#[derive(Debug, Clone, Copy)]
pub struct Teacher<'a> {
    /// The contract.
    pub task: &'a Task,
    /// The server.
    pub chat: &'a Chat,
    /// The model.
    pub model: &'a str,
    /// The money.
    pub purse: &'a Purse,
    /// What tokens cost.
    pub prices: Prices,
    /// Most tokens of an answer; by default what the longest one can take.
    pub most_tokens: Option<u32>,
    /// Today, as YYYY-MM-DD.
    pub date: &'a str,
    /// Calls at the same time.
    pub parallel: usize,
    /// The first wait after trouble, as [`FIRST_WAIT`].
    pub first_wait: Duration,
    /// Raised when the user wants to stop.
    pub stop: &'a AtomicBool,
}

/// Why no more texts were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every text was asked.
    Done,
    /// The budget does not hold another call.
    Budget,
    /// The user stopped the work.
    Stopped,
}

/// What became of one of many things.
pub(super) enum Step<R> {
    /// It is done.
    Done(R),
    /// No more can be done.
    Ended(Ended),
}

impl Teacher<'_> {
    /// Asks texts, several at a time, and hands every answer to `keep` at once. `sent` is what leaves: a text, or its redacted form.
    ///
    /// # Errors
    /// Fails when the server refuses for good, or has trouble for too long; the answers that came are kept.
    pub fn ask(
        &self,
        texts: &[&str],
        sent: &(dyn Fn(&str) -> String + Sync),
        keep: &(dyn Fn(TeacherAnswer) -> Result<()> + Sync),
    ) -> Result<Ended> {
        self.each(texts, &|text, over| self.one(text, &sent(text), over), keep)
    }

    /// Does something with a model for each of many things, several at a time, and hands what comes of it to `keep` at once.
    pub(super) fn each<T: Sync, R>(
        &self,
        things: &[T],
        one: &(dyn Fn(&T, &AtomicBool) -> Result<Step<R>> + Sync),
        keep: &(dyn Fn(R) -> Result<()> + Sync),
    ) -> Result<Ended> {
        let (next, ended) = (AtomicUsize::new(0), Mutex::new(Ok(Ended::Done)));
        let over = AtomicBool::new(false);
        let work = || {
            while let Some(thing) = things.get(next.fetch_add(1, Ordering::Relaxed)) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let outcome = match one(thing, &over) {
                    Ok(Step::Done(done)) => keep(done).map(|()| None),
                    Ok(Step::Ended(why)) => Ok(Some(why)),
                    Err(error) => Err(error),
                };
                if let Some(why) = outcome.transpose() {
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    // The first reason is the one to tell.
                    if !over.swap(true, Ordering::Relaxed) {
                        *ended = why;
                    }
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.parallel.min(things.len()).max(1) {
                scope.spawn(work);
            }
            work();
        });
        ended.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that asking a text can cost, without a second attempt.
    #[must_use]
    pub fn most_cost(&self, text: &str) -> sizewise_contract::units::MicroUsd {
        let questions = self.questions();
        let (schema, messages) = (schema(&questions), messages(&questions, text));
        let ask = self.ask_for(&messages, &schema);
        self.prices.of(self.chat.most_read(&ask), u64::from(ask.most_tokens))
    }

    fn questions(&self) -> Vec<&Question> {
        self.task.questions.iter().collect()
    }

    fn ask_for<'b>(&'b self, messages: &'b [(&'static str, String)], schema: &'b Value) -> Ask<'b> {
        let most_tokens = self.most_tokens.unwrap_or_else(|| longest_answer(&self.questions()));
        Ask { model: self.model, messages, schema, typed: &[], most_tokens }
    }

    fn one(&self, text: &str, sent: &str, over: &AtomicBool) -> Result<Step<TeacherAnswer>> {
        let questions = self.questions();
        let schema = schema(&questions);
        let mut messages = messages(&questions, sent);
        let mut answer = TeacherAnswer {
            text: text.to_owned(),
            labels: BTreeMap::new(),
            problem: None,
            asked: self.model.to_owned(),
            model: self.model.to_owned(),
            date: self.date.to_owned(),
            request: None,
        };
        for attempt in 0..2 {
            let reply = match self.call(&self.ask_for(&messages, &schema), over)? {
                Called::Reply(reply) => reply,
                Called::NotThis(problem) => {
                    answer.problem = Some(problem);
                    break;
                }
                Called::Ended(why) => return Ok(Step::Ended(why)),
            };
            answer.model = reply.model.clone().unwrap_or(answer.model);
            answer.request = reply.request.clone();
            match read(&questions, &reply.content) {
                Ok(labels) => {
                    (answer.labels, answer.problem) = (labels, None);
                    break;
                }
                Err(problem) => {
                    let cut =
                        if reply.cut_off { "; it was cut off: allow more with --max-tokens" } else { "" };
                    answer.problem = Some(format!("{problem}{cut}"));
                    if attempt == 0 {
                        messages.extend(repair(&reply.content, &problem));
                    }
                }
            }
        }
        Ok(Step::Done(answer))
    }

    /// One call, tried again while the server has trouble. Every attempt has its own reservation.
    pub(super) fn call(&self, ask: &Ask<'_>, over: &AtomicBool) -> Result<Called> {
        let (mut wait, mut tries) = (self.first_wait, 0);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Called::Ended(Ended::Stopped));
            }
            let most = self.prices.of(self.chat.most_read(ask), u64::from(ask.most_tokens));
            let Some(reserved) = self.purse.reserve(most)? else {
                // Calls under way will give back what they do not need.
                if self.purse.is_in_use() && !over.load(Ordering::Relaxed) {
                    std::thread::sleep(NAP);
                    continue;
                }
                return Ok(Called::Ended(Ended::Budget));
            };
            let trouble = match self.chat.send(ask) {
                Ok(reply) => {
                    let cost = reply.usage.map_or(most, |usage| self.prices.of(usage.read, usage.written));
                    self.purse.settle(reserved, cost)?;
                    return Ok(Called::Reply(reply));
                }
                Err(trouble) => trouble,
            };
            let cost = if trouble.may_cost { most } else { Default::default() };
            self.purse.settle(reserved, cost)?;
            tries += 1;
            let asked_for = match &trouble.then {
                Then::NotThis => return Ok(Called::NotThis(trouble.problem)),
                Then::AtOnce if tries < TRIES => continue,
                Then::Later(after) if tries < TRIES => *after,
                _ => return Err(Error::Model(given_up(trouble, tries).into_error(self.chat))),
            };
            let until = Instant::now() + asked_for.unwrap_or_default().max(wait);
            wait *= 2;
            while Instant::now() < until {
                if self.stop.load(Ordering::Relaxed) || over.load(Ordering::Relaxed) {
                    return Ok(Called::Ended(Ended::Stopped));
                }
                std::thread::sleep(NAP.min(until.saturating_duration_since(Instant::now())));
            }
        }
    }
}

/// What became of one call.
pub(super) enum Called {
    /// The model said something.
    Reply(Reply),
    /// The server does not take this call; it may take others.
    NotThis(String),
    /// No more calls are made.
    Ended(Ended),
}

fn given_up(mut trouble: Trouble, tries: u32) -> Trouble {
    if tries > 1 {
        trouble.problem = format!("{} ({tries} times)", trouble.problem);
    }
    trouble
}

#[cfg(test)]
mod tests;
