//! How does a call become a row of the store?
//!
//! Personal data is masked before anything is written, in the prompt as in text and answer. A place is named by the hash of what is
//! constant; numbers and blanks do not count, so that a prompt with today's date is the same tomorrow.

use super::{Counts, Exchange};
use crate::error::Result;
use serde_json::Value;
use sizewise_contract::{ContentHash, units::UnixMillis};
use sizewise_engine::{redact_by_rules, redact_quickly};
use sizewise_learn::sites::{Call, Called, Facts, Fixed, Said, Tool};
use sizewise_store::{ObservedBounds, ObservedCall, SiteWriter};
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
    time::{Duration, Instant},
};

/// Calls in one transaction: others write to the same store, and must not wait long.
const TOGETHER: usize = 128;
/// For how long a transaction waits for further calls.
const GATHER: Duration = Duration::from_millis(200);
/// How often what is kept is counted anew.
const COUNT: Duration = Duration::from_secs(600);

/// What is recorded, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) redacted: bool,
    pub(crate) kept: ObservedBounds,
}

pub(super) struct Writer {
    store: SiteWriter,
    redacted: bool,
    counts: Arc<Counts>,
}

impl Writer {
    pub(super) fn open(folder: &Path, bounds: Bounds, counts: Arc<Counts>) -> Result<Self> {
        Ok(Self { store: SiteWriter::open(folder, bounds.kept)?, redacted: bounds.redacted, counts })
    }

    /// Writes until it is told to stop.
    pub(super) fn run(mut self, receiver: &Receiver<Option<Box<Exchange>>>) {
        let mut counted = Instant::now();
        while let Ok(Some(first)) = receiver.recv() {
            let mut batch = vec![*first];
            let mut stop = false;
            let until = Instant::now() + GATHER;
            while batch.len() < TOGETHER && !stop {
                match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(Some(next)) => batch.push(*next),
                    Ok(None) => stop = true,
                    Err(_) => break,
                }
            }
            self.keep(batch);
            if counted.elapsed() > COUNT {
                if let Err(error) = self.store.count() {
                    eprintln!("what was observed could not be counted: {error}");
                }
                counted = Instant::now();
            }
            if stop {
                break;
            }
        }
    }

    fn keep(&mut self, batch: Vec<Exchange>) {
        let bytes: usize = batch.iter().map(Exchange::bytes).sum();
        let rows: Vec<ObservedCall> =
            batch.iter().filter_map(|exchange| row(exchange, self.redacted)).collect();
        drop(batch);
        self.counts.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let refused = self.store.write(&rows).unwrap_or_else(|error| {
            eprintln!("relayed calls could not be recorded: {error}");
            rows.len() as u64
        });
        self.counts.kept.fetch_add(rows.len() as u64 - refused, Ordering::Relaxed);
        self.counts.dropped.fetch_add(refused, Ordering::Relaxed);
    }
}

/// What is kept of a call; none where it is no decision about a text.
pub(super) fn row(exchange: &Exchange, redacted: bool) -> Option<ObservedCall> {
    let (heard, answered) = exchange.read()?;
    let (cost, is_estimate) = exchange.cost(&heard, &answered);
    let masked = |text: String| if redacted { redact_quickly(&text) } else { text };
    let masked_value = |value: Value| if redacted { mask(value) } else { value };
    let said_value = |value: Value| if redacted { mask_said(value) } else { value };
    let tool = |tool: Tool| Tool { parameters: masked_value(tool.parameters), ..tool };
    let asking = &exchange.asking;
    let facts = Facts {
        name: asking.site.clone().map(|name| if redacted { mask_short(&name) } else { name }),
        protocol: asking.protocol.name().to_owned(),
        provider: exchange.answering.provider.clone(),
        model: asking.model.clone(),
        key_id: asking.key_id.clone(),
        fixed: Fixed {
            system: masked(heard.fixed.system),
            tools: heard.fixed.tools.into_iter().map(tool).collect(),
            // Its values are the labels that the program allows.
            schema: heard.fixed.schema.map(said_value),
        },
    };
    let called = |called: Called| Called { arguments: said_value(called.arguments), ..called };
    let call = Call {
        text: masked(heard.text),
        said: Said {
            text: answered.said.text.map(|text| if redacted { mask_answer(text) } else { text }),
            calls: answered.said.calls.into_iter().map(called).collect(),
        },
        asked: exchange.answering.model.clone(),
        model: match answered.model {
            model if model.is_empty() => exchange.answering.model.clone(),
            model => model,
        },
        request: answered.request,
        latency_us: u64::try_from(exchange.latency.as_micros()).unwrap_or(u64::MAX),
        micro_usd: cost.0,
        is_estimate,
        at: UnixMillis(0),
    };
    Some(ObservedCall {
        place_id: place_id(&facts),
        place: serde_json::to_string(&facts).ok().filter(|place| place.len() <= PLACE_BYTES)?,
        at: exchange.at,
        call: serde_json::to_string(&call).ok()?,
        micro_usd: cost,
    })
}

/// Names the place that a call comes from. A name that the program gives is all that counts, but for whose program it is.
pub(super) fn place_id(facts: &Facts) -> String {
    let Facts { name, protocol, model, key_id, fixed, .. } = facts;
    let key = key_id.as_deref().unwrap_or_default();
    let form = |value: &Option<Value>| value.as_ref().map(Value::to_string).unwrap_or_default();
    let mut hash = ContentHash::builder();
    match name {
        Some(name) => ["named", name, key].iter().for_each(|part| hash.field(part.as_bytes())),
        None => {
            let tools: Vec<String> =
                fixed.tools.iter().map(|tool| format!("{} {}", tool.name, tool.parameters)).collect();
            let parts =
                [protocol, model, key, &normal(&fixed.system), &tools.join("\n"), &form(&fixed.schema)];
            parts.iter().for_each(|part| hash.field(part.as_bytes()));
        }
    }
    hash.finish().short()
}

/// A prompt with one blank for each run of blanks and one sign for each number.
fn normal(prompt: &str) -> String {
    let mut out = String::with_capacity(prompt.len());
    for c in prompt.trim().chars() {
        let c = match c {
            c if c.is_whitespace() => ' ',
            c if c.is_numeric() => '#',
            c => c,
        };
        if !(matches!(c, ' ' | '#') && out.ends_with(c)) {
            out.push(c);
        }
    }
    out
}

/// An answer that is JSON stays so.
fn mask_answer(text: String) -> String {
    match serde_json::from_str::<Value>(&text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => mask_said(value).to_string(),
        _ => mask_short(&text),
    }
}

/// Longest constant part of a call: places are few and kept for long. `bytes`
const PLACE_BYTES: usize = 32 << 10;
/// Longest answer that may be a label. `bytes`
const LABEL_BYTES: usize = 60;

/// An answer without personal data. A short one may be a label, and a country or a firm may be one: of it go numbers and addresses alone.
fn mask_short(text: &str) -> String {
    if text.len() <= LABEL_BYTES { redact_by_rules(text) } else { redact_quickly(text) }
}

/// What a model said as JSON, without personal data in its texts, numbers and keys.
fn mask_said(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(mask_short(&text)),
        Value::Array(items) => items.into_iter().map(mask_said).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (mask_short(&key), mask_said(value))).collect()
        }
        Value::Number(number) => {
            let written = number.to_string();
            let masked = redact_by_rules(&written);
            if masked == written { Value::Number(number) } else { Value::String(masked) }
        }
        other => other,
    }
}

/// The same value with personal data in its texts masked; its keys are the program's own.
fn mask(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact_quickly(&text)),
        Value::Array(items) => items.into_iter().map(mask).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, mask(value))).collect(),
        other => other,
    }
}
