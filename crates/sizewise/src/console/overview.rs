//! How does every task stand, at a glance?

use super::{Console, Who, json};
use crate::{
    clock,
    commands::{list, spending},
    error::Result,
};
use serde::Serialize;
use serde_json::{Value, json};
use sizewise_contract::{task::Budget, units::MicroUsd};
use sizewise_models::remote::ProviderState;
use sizewise_store::Spent;
use std::collections::BTreeMap;

/// Up to how many waiting questions are counted.
pub(super) const COUNTED: u32 = 1_000;

#[derive(Serialize)]
struct Home {
    tasks: Vec<TaskLine>,
    /// How each provider is doing; for those who run the server.
    providers: Vec<Value>,
}

#[derive(Serialize)]
struct TaskLine {
    #[serde(flatten)]
    line: list::Line,
    /// Whether this server answers for it.
    served: bool,
    /// Whether more wait than were counted.
    more_waiting: bool,
    money: Money,
    budget: Budget,
    alarms: Vec<Alarm>,
}

/// What larger models have cost.
#[derive(Default, Serialize)]
struct Money {
    today_micro_usd: MicroUsd,
    month_micro_usd: MicroUsd,
    calls_this_month: u64,
}

/// Something that somebody should look at.
#[derive(Serialize)]
struct Alarm {
    /// `bad` or `open`.
    weight: &'static str,
    what: String,
    /// What to do about it.
    way_out: String,
}

impl Console {
    /// All tasks that are there for somebody.
    ///
    /// # Errors
    /// Fails when the project or its store cannot be read.
    pub(crate) fn home(
        &self,
        served: &[String],
        providers: &BTreeMap<String, ProviderState>,
        who: &Who,
    ) -> Result<Vec<u8>> {
        let spent = spending::spending(&self.store)?.days;
        let names = self.project.task_names()?;
        let own = names.into_iter().filter(|name| who.may_see(name));
        let tasks = own.map(|name| self.line(name, served, &spent)).collect::<Result<_>>()?;
        let providers = match who.reads_texts() {
            true => providers.iter().map(|(name, state)| provider(name, state)).collect(),
            false => Vec::new(),
        };
        json(&Home { tasks, providers })
    }

    fn line(&self, name: String, served: &[String], spent: &[Spent]) -> Result<TaskLine> {
        let waiting = self.store.waiting_up_to(&name, COUNTED + 1)?;
        let served = served.contains(&name);
        let task = self.project.task(&name).ok();
        let counted = u64::from(waiting.min(COUNTED));
        let line = list::line(&self.project, &self.store, name, counted)?;
        let mut alarms = Vec::new();
        let mut alarm = |weight, what: String, way_out: String| alarms.push(Alarm { weight, what, way_out });
        if let Some(problem) = &line.problem {
            alarm("bad", problem.clone(), "mend the task file".into());
        }
        match line.release {
            None => alarm("open", "not trained".into(), format!("sizewise train {}", line.task)),
            Some(_) if !served => alarm("bad", "not served".into(), "restart `sizewise serve`".into()),
            Some(_) => {}
        }
        let unproven = line.questions.iter().filter(|standing| !standing.certified);
        let unproven: Vec<&str> = unproven.map(|standing| standing.question.as_str()).collect();
        if line.release.is_some() && !unproven.is_empty() {
            let what = format!("not certified: {}", unproven.join(", "));
            alarm("open", what, format!("sizewise certify {}", line.task));
        }
        let in_force = self.store.in_force(&line.task)?.map(|release| release.manifest.contract);
        if let (Some(contract), Some(task)) = (in_force, &task)
            && contract != task.contract_hash()
        {
            let what = "the task file has changed since the release in force".to_owned();
            alarm("open", what, format!("sizewise train {}", line.task));
        }
        Ok(TaskLine {
            money: money(&line.task, spent),
            budget: task.map(|task| task.budget).unwrap_or_default(),
            more_waiting: waiting > COUNTED,
            served,
            alarms,
            line,
        })
    }
}

fn money(task: &str, spent: &[Spent]) -> Money {
    let today = clock::now().day();
    let month = today.get(..7).unwrap_or(&today);
    let mut money = Money::default();
    for day in spent.iter().filter(|day| day.payer == task && day.day.starts_with(month)) {
        money.month_micro_usd = money.month_micro_usd.saturating_add(day.micro_usd);
        money.calls_this_month = money.calls_this_month.saturating_add(day.calls);
        if day.day == today {
            money.today_micro_usd = money.today_micro_usd.saturating_add(day.micro_usd);
        }
    }
    money
}

/// How a provider is doing.
pub(super) fn provider(name: &str, state: &ProviderState) -> Value {
    json!({
        "provider": name, "calls": state.calls, "failures": state.failures, "resting": state.resting,
        "problem": state.problem,
    })
}
