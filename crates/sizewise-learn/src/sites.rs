//! Which questions does somebody's program ask again and again, and what do they cost?
//!
//! ```text
//!   places ─► gather ─► template ──────────► kinds ───────► site
//!   calls     small     what varies in       what is        money, examples,
//!   as kept   ones      the calls' text      answered       how alike repeats are
//! ```
//!
//! A place is what one call shows of where it came from; a call site is found by comparing the calls of a place. All of it is
//! arithmetic on texts that were kept: nothing is asked of anybody.

pub mod kinds;
mod shingles;
mod task_file;
mod template;
mod write;

pub use kinds::{Answers, Asked, Kind};
pub use template::Template;
pub use write::{FromSite, Gold, Written, write};

use crate::prepare::text_key;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sizewise_contract::{
    ContentHash,
    units::{MicroUsd, UnixMillis},
};
use std::collections::{BTreeMap, BTreeSet};
use template::Group;

/// Places with at most so many different texts are looked at together: their prompt itself may be what varies.
const SMALL: usize = 2;
/// Fewest small places that are taken for one.
const FEWEST_SMALL: usize = 8;
/// Labels are worth waiting for up to so many of each: from there on twice as many rows buy a point or less on the public sets.
const WORTH_PER_LABEL: usize = 50;
/// The same for all labels together, at least and at most.
const WORTH: std::ops::RangeInclusive<usize> = 300..=10_000;

/// What is constant about calls, in the words of no protocol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fixed {
    /// What the model is told before the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// The tools that it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// The JSON schema that its answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of what it takes.
    pub parameters: Value,
}

/// Where calls come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What the program calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The protocol: `chat`, `responses` or `messages`.
    pub protocol: String,
    /// The provider, by its name in the settings.
    pub provider: String,
    /// The model, as the program names it.
    pub model: String,
    /// The public id of the program's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// What is constant about its calls.
    pub fixed: Fixed,
}

/// What a model said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Tools that it called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Called>,
}

/// A tool that was called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Called {
    /// Its name.
    pub name: String,
    /// With what.
    pub arguments: Value,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// What it asked about.
    pub text: String,
    /// What was answered.
    pub said: Said,
    /// The model, as the provider was asked for it.
    pub asked: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// The provider's name for the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// From the request to the end of its answer.
    pub latency_us: u64,
    /// What it cost.
    pub micro_usd: u64,
    /// Whether the provider said no tokens, so that the cost is a guess from the length.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_estimate: bool,
    /// When it came; kept beside it.
    #[serde(skip)]
    pub at: UnixMillis,
}

/// A place with its calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its name.
    pub id: String,
    /// Where it is.
    pub facts: Facts,
    /// Calls in all.
    pub calls: u64,
    /// What they have cost.
    pub micro_usd: MicroUsd,
    /// When the first call came.
    pub first_at: UnixMillis,
    /// When the latest came.
    pub last_at: UnixMillis,
    /// The calls that are kept, oldest first.
    pub kept: Vec<Call>,
}

/// A call site: a task waiting to be found.
#[derive(Debug, Clone, Serialize)]
pub struct Site {
    /// Names it; stays the same while the prompt does.
    pub id: String,
    /// Where its calls come from.
    #[serde(flatten)]
    pub facts: Facts,
    /// What is constant in the text of its calls.
    pub template: Template,
    /// Calls in all. Where the calls of a place are no longer all kept, by their share of those that are.
    pub calls: u64,
    /// Calls that are kept and have the template.
    pub kept: usize,
    /// Different texts among them.
    pub distinct: usize,
    /// What all calls have cost.
    pub micro_usd: MicroUsd,
    /// Share of the kept calls whose cost is a guess.
    pub estimated: f64,
    /// When the first call came.
    pub first_at: UnixMillis,
    /// When the latest came.
    pub last_at: UnixMillis,
    /// The median time of a call, in microseconds.
    pub median_latency_us: u64,
    /// What is asked.
    pub questions: Vec<Asked>,
    /// Whether at least one question can become one of a task.
    pub is_task: bool,
    /// How often texts that came more than once were answered alike.
    pub repeats: Repeats,
    /// Different texts with an answer to learn from.
    pub examples: usize,
    /// About how many more are worth waiting for.
    pub worth_waiting_for: usize,
    /// Sites whose prompts read nearly the same: probably one.
    pub alike: Vec<String>,
    /// The calls, their text without the template.
    #[serde(skip)]
    pub rows: Vec<Call>,
    /// The answer of each row to each question. `[rows][questions]`
    #[serde(skip)]
    pub labels: Vec<Labels>,
}

/// A label for each question of a site; none where a call has none.
type Labels = Vec<Option<String>>;

/// Texts that came more than once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Repeats {
    /// How many.
    pub texts: usize,
    /// How many of them were always answered alike.
    pub alike: usize,
}

/// Finds call sites, the dearest first.
#[must_use]
pub fn discover(places: Vec<Place>) -> Vec<Site> {
    let mut sites: Vec<Site> = gather(places).into_iter().flat_map(sites_of).collect();
    sites.sort_by(|a, b| (b.micro_usd, b.calls, &a.id).cmp(&(a.micro_usd, a.calls, &b.id)));
    let prompts: Vec<String> = sites.iter().map(Site::prompt).collect();
    for (one, other) in shingles::alike(&prompts) {
        for (here, there) in [(one, other), (other, one)] {
            let id = sites.get(there).map(|site| site.id.clone());
            if let Some(site) = sites.get_mut(here) {
                site.alike.extend(id);
            }
        }
    }
    sites
}

impl Site {
    /// All that is constant in what the model is told; `{text}` stands for what varies.
    #[must_use]
    pub fn prompt(&self) -> String {
        let Template { before, after, .. } = &self.template;
        let user = format!("{before}{{text}}{after}");
        let parts = [self.facts.fixed.system.trim(), if user == "{text}" { "" } else { user.trim() }];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }
}

/// Takes places together whose prompts differ from call to call: what varies in them is a part of the text.
fn gather(places: Vec<Place>) -> Vec<Place> {
    let is_small = |place: &Place| {
        let texts: BTreeSet<&str> = place.kept.iter().map(|call| call.text.as_str()).collect();
        place.facts.name.is_none() && texts.len() <= SMALL && !place.facts.fixed.system.is_empty()
    };
    let (small, mut whole): (Vec<Place>, Vec<Place>) = places.into_iter().partition(is_small);
    let mut groups: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for place in small {
        let Facts { protocol, model, key_id, fixed, .. } = &place.facts;
        let key = serde_json::json!([protocol, model, key_id, fixed.tools, fixed.schema]).to_string();
        groups.entry(key).or_default().push(place);
    }
    for (key, group) in groups {
        if group.len() < FEWEST_SMALL {
            whole.extend(group);
            continue;
        }
        let mut together = Place {
            id: short_hash(&["gathered", &key]),
            facts: Facts::default(),
            calls: 0,
            micro_usd: MicroUsd(0),
            first_at: UnixMillis(i64::MAX),
            last_at: UnixMillis(i64::MIN),
            kept: Vec::new(),
        };
        for place in group {
            together.calls += place.calls;
            together.micro_usd = together.micro_usd.saturating_add(place.micro_usd);
            together.first_at = together.first_at.min(place.first_at);
            together.last_at = together.last_at.max(place.last_at);
            let system = place.facts.fixed.system.clone();
            let with_prompt =
                |call: Call| Call { text: format!("[system]\n{system}\n[user]\n{}", call.text), ..call };
            together.kept.extend(place.kept.into_iter().map(with_prompt));
            let fixed = Fixed { system: String::new(), ..place.facts.fixed };
            together.facts = Facts { fixed, ..place.facts };
        }
        together.kept.sort_by_key(|call| call.at);
        whole.push(together);
    }
    whole
}

/// The sites of a place: one, unless its calls have several templates and answers of several kinds.
fn sites_of(place: Place) -> Vec<Site> {
    let texts: Vec<&str> = place.kept.iter().map(|call| call.text.as_str()).collect();
    let said: Vec<String> = place.kept.iter().map(|call| kinds::plain(&call.said)).collect();
    let groups = match place.facts.name {
        Some(_) => vec![Group { key: None, rows: (0..texts.len()).collect() }],
        None => template::groups(&texts, &said),
    };
    let all = place.kept.len().max(1);
    groups.into_iter().map(|group| site(&place, &group, all)).collect()
}

fn site(place: &Place, group: &Group, all: usize) -> Site {
    let calls: Vec<&Call> = group.rows.iter().filter_map(|row| place.kept.get(*row)).collect();
    let template = Template::of(&calls.iter().map(|call| call.text.as_str()).collect::<Vec<_>>());
    let inner = |call: &&Call| Some(Call { text: template.inner(&call.text)?.to_owned(), ..(*call).clone() });
    let rows: Vec<Call> = calls.iter().filter_map(inner).collect();
    let Answers { asked: questions, labels } =
        kinds::answers(&rows.iter().map(|call| &call.said).collect::<Vec<_>>(), &place.facts.fixed);
    let share = group.rows.len() as f64 / all as f64;
    let of_all = |number: u64| (number as f64 * share).round() as u64;
    let id = match (&place.facts.name, group.key.clone().or_else(|| template.key())) {
        (None, Some(key)) => short_hash(&[&place.id, &key]),
        _ => place.id.clone(),
    };
    let mut seen: BTreeMap<u64, (usize, BTreeSet<&Labels>)> = BTreeMap::new();
    for (row, labels) in rows.iter().zip(&labels) {
        let (count, answers) = seen.entry(text_key(&row.text)).or_default();
        *count += 1;
        answers.insert(labels);
    }
    let again = seen.values().filter(|(count, _)| *count > 1);
    let repeats = Repeats {
        texts: again.clone().count(),
        alike: again.filter(|(_, answers)| answers.len() == 1).count(),
    };
    let examples =
        seen.values().filter(|(_, answers)| answers.iter().any(|labels| labels.iter().any(Option::is_some)));
    let examples = examples.count();
    let is_task = questions.iter().any(|asked| asked.kind.is_question());
    let most_labels = questions.iter().map(|asked| asked.kind.labels().len()).max().unwrap_or(0);
    let wanted = (most_labels * WORTH_PER_LABEL).clamp(*WORTH.start(), *WORTH.end());
    let mut latencies: Vec<u64> = calls.iter().map(|call| call.latency_us).collect();
    latencies.sort_unstable();
    Site {
        id,
        facts: place.facts.clone(),
        calls: of_all(place.calls),
        kept: rows.len(),
        distinct: seen.len(),
        micro_usd: MicroUsd(of_all(place.micro_usd.0)),
        estimated: calls.iter().filter(|call| call.is_estimate).count() as f64 / calls.len().max(1) as f64,
        first_at: place.first_at,
        last_at: place.last_at,
        median_latency_us: latencies.get(latencies.len() / 2).copied().unwrap_or(0),
        questions,
        is_task,
        repeats,
        examples,
        worth_waiting_for: if is_task { wanted.saturating_sub(examples) } else { 0 },
        alike: Vec::new(),
        template,
        rows,
        labels,
    }
}

fn short_hash(parts: &[&str]) -> String {
    let mut hash = ContentHash::builder();
    parts.iter().for_each(|part| hash.field(part.as_bytes()));
    hash.finish().short()
}

#[cfg(test)]
mod tests;
