//! Who else could have done the task, and what would each of its prompts have cost there?
//!
//! The task's larger model, and models that are acceptable: those the owner named, and those whose answers to gold rows
//! (`teach --gold-check`) show that they keep the promise, with a risk that all that were checked share.

use crate::{
    error::{Error, Result},
    project::Project,
};
use sizewise_contract::{Bill, Question, Task, did_you_mean, units::Prices};
use sizewise_engine::prompt;
use sizewise_learn::{
    dataset::read_gold,
    teach::answers::{CHECK_FILE, TeacherAnswer, read_answers},
};
use sizewise_measure::{binomial, drawn::Part};
use sizewise_models::remote::{Provider, ProviderSettings};
use std::collections::{BTreeMap, HashMap};

/// Somebody else who could have done all of it, with what is known of that.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) why: String,
    pub(super) is_free: bool,
    /// Whether bills are its own; else their tokens are counted at its prices.
    own_bills: bool,
    prices: Prices,
    /// Most tokens of a prompt without its text, and of an answer.
    most: (u64, u64),
    /// What inputs come to that were asked as a whole: at least, and at most.
    pub(super) exact: (f64, f64),
    /// The most that inputs can come to that were not: as if each byte were a token.
    pub(super) size: f64,
    /// Those of the latter that were asked as probes.
    pub(super) drawn: Vec<Part>,
    /// What asked inputs came to of the most that they could come to, where both are known.
    pub(super) asked_cost: f64,
    pub(super) asked_size: f64,
}

/// The larger model first, then whoever is acceptable, the cheapest first.
pub(super) fn all(project: &Project, task: &Task, named: Option<&str>) -> Result<Vec<Alternative>> {
    let known = &project.settings().provider;
    let mut found = Vec::new();
    if let Some(larger) = &task.cascade.remote {
        found.push(Alternative::new(task, (larger, find(known, larger)?), "the task's larger model", true)?);
    }
    let mut acceptable = Vec::new();
    let own = task.savings.acceptable.iter().map(|name| (name.as_str(), "acceptable, as the task file says"));
    let called = named.map(|name| (name, "named by you; whether it keeps the promise is not known here"));
    for (name, why) in called.into_iter().chain(own) {
        let is_there = |one: &Alternative| one.provider == name;
        if !found.iter().any(is_there) && !acceptable.iter().any(is_there) {
            acceptable.push(Alternative::new(task, (name, find(known, name)?), why, false)?);
        }
    }
    for (name, why) in checked(project, task)? {
        let is_there = |one: &Alternative| one.provider == name;
        if !found.iter().any(is_there) && !acceptable.iter().any(is_there) {
            acceptable.push(Alternative::new(task, (&name, find(known, &name)?), &why, false)?);
        }
    }
    // Of those that are acceptable the cheapest counts; whoever was named is shown in any case.
    acceptable.sort_by_key(|one| (named != Some(one.provider.as_str()), one.most_of("").round() as u64));
    let shown = 1 + usize::from(named.is_some());
    acceptable.truncate(shown);
    found.extend(acceptable);
    Ok(found)
}

fn find<'p>(known: &'p BTreeMap<String, ProviderSettings>, name: &str) -> Result<&'p ProviderSettings> {
    known.get(name).ok_or_else(|| {
        let way_out = match did_you_mean(name, known.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("describe it in sizewise.toml under [provider.{name}], with its prices"),
        };
        Error::usage(format!("no provider is called `{name}`; {way_out}"))
    })
}

/// Providers whose models' answers to gold rows show that the promise is kept, and how.
fn checked(project: &Project, task: &Task) -> Result<Vec<(String, String)>> {
    let folder = project.task_folder(&task.name);
    let answers = read_answers(&folder.join(CHECK_FILE))?;
    let mut by_model: BTreeMap<&str, HashMap<&str, &TeacherAnswer>> = BTreeMap::new();
    for answer in &answers {
        by_model.entry(&answer.asked).or_default().insert(&answer.text, answer);
    }
    if by_model.is_empty() {
        return Ok(Vec::new());
    }
    let gold = read_gold(task, &folder.join(&task.data.dev))?.examples;
    let models = by_model.len() as f64;
    let keeps = |answers: &HashMap<&str, &TeacherAnswer>| {
        let mut rows = 0;
        for (position, question) in task.questions.iter().enumerate() {
            let promise = task.promise_of(question);
            let pairs = gold.iter().filter_map(|row| {
                let answer = answers.get(row.text.as_str())?;
                Some((row.class_label(position)?, answer.class_labels(task).get(position).copied().flatten()))
            });
            let (mut wrong, mut of) = (0, 0);
            for (truth, said) in pairs {
                of += 1;
                wrong += u64::from(said != Some(truth));
            }
            let confidence = 1.0 - (1.0 - promise.confidence) / models;
            if of == 0 || binomial::upper_bound(wrong, of, confidence) > promise.max_served_error {
                return None;
            }
            rows = rows.max(of);
        }
        Some(rows)
    };
    let mut found = Vec::new();
    for (name, settings) in &project.settings().provider {
        if let Some(rows) = by_model.get(settings.model.as_str()).and_then(keeps) {
            found
                .push((name.clone(), format!("acceptable: {rows} gold rows show that it keeps the promise")));
        }
    }
    Ok(found)
}

impl Alternative {
    fn new(
        task: &Task,
        (name, settings): (&str, &ProviderSettings),
        why: &str,
        own_bills: bool,
    ) -> Result<Self> {
        // Nothing is called: neither keys nor headers are needed to know what a prompt costs.
        let settings = ProviderSettings { headers: BTreeMap::new(), key: None, ..settings.clone() };
        let provider = Provider::new(name, &settings, None).map_err(sizewise_engine::Error::Model)?;
        let questions: Vec<&Question> = task.questions.iter().collect();
        let prices = provider.prices();
        Ok(Self {
            provider: name.to_owned(),
            model: provider.model().to_owned(),
            why: why.to_owned(),
            is_free: prices.is_free(),
            own_bills,
            prices,
            most: provider.most(&prompt(&questions, "")),
            exact: (0.0, 0.0),
            size: 0.0,
            drawn: Vec::new(),
            asked_cost: 0.0,
            asked_size: 0.0,
        })
    }

    /// The most that asking about a text can cost: every byte of the request a token, and the longest answer.
    pub(super) fn most_of(&self, text: &str) -> f64 {
        let bytes = serde_json::to_string(text).map_or(text.len(), |json| json.len() - 2) as u64;
        self.cost_of(self.most.0 + bytes, self.most.1)
    }

    fn cost_of(&self, read: u64, written: u64) -> f64 {
        (read as f64 * self.prices.read.0 as f64 + written as f64 * self.prices.written.0 as f64) / 1e6
    }

    /// What a bill would have come to here; none where that cannot be known of it.
    fn of_bill(&self, bill: &Bill) -> Option<f64> {
        if self.own_bills {
            return Some(bill.micro_usd.0 as f64);
        }
        (bill.read > 0).then(|| self.cost_of(bill.read, bill.written))
    }

    /// An input about all of whose questions a larger model was asked.
    pub(super) fn asked(&mut self, bill: &Bill, text: Option<&str>) {
        let most = text.map(|text| self.most_of(text));
        match (self.of_bill(bill), most) {
            (Some(cost), most) => {
                self.exact = (self.exact.0 + cost, self.exact.1 + cost);
                if let Some(most) = most {
                    self.asked_cost += cost;
                    self.asked_size += most;
                }
            }
            (None, Some(most)) => self.exact.1 += most,
            (None, None) => {}
        }
    }

    /// An input that was answered here, at least in part.
    pub(super) fn not_asked(&mut self, text: &str, drawn: Option<f64>, probe: Option<&Bill>) {
        let size = self.most_of(text);
        self.size += size;
        if let Some(probability) = drawn {
            let cost = probe.and_then(|bill| self.of_bill(bill));
            let share = cost.map(|cost| if size > 0.0 { cost / size } else { 0.0 });
            self.drawn.push(Part { size, probability, share });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn the_price_of_a_prompt_is_that_of_the_request_with_its_text() {
        let task = crate::wire::testing::support_task();
        let questions: Vec<&Question> = task.questions.iter().collect();
        for dialect in ["openai", "anthropic", "gemini", "responses", "decisions", "systemone"] {
            let settings = format!(
                "url = \"https://models.example/v1\"\nmodel = \"m\"\ndialect = \"{dialect}\"\nprice_in = 1\nprice_out = 2"
            );
            let settings: ProviderSettings = toml::from_str(&settings).unwrap();
            let other = Alternative::new(&task, ("primary", &settings), "", true).unwrap();
            let provider = Provider::new("primary", &settings, None).unwrap();
            for text in ["", "where is my parcel", "a \"quoted\"\nline, and \u{e4}\u{1f600}"] {
                let (read, written) = provider.most(&prompt(&questions, text));
                assert_eq!(other.most_of(text), other.cost_of(read, written), "{dialect}: {text}");
            }
        }
    }
}
