//! In which words does a provider want to be asked, and what does its answer say?
//!
//! Pure functions: a question that asks for JSON of a schema becomes the body of a request, a status with a body becomes a reply or
//! a named trouble. What we act on is typed; the rest of what a server says is passed over.

mod anthropic;
mod gemini;
mod openai;
mod responses;
mod typed;

use super::questions::Typed;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The longest wait that a server may ask for and get.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Words of a protocol that some models do not take: each is left out, or replaced, once a server refused it.
pub(super) const NEW_LIMIT: u8 = 1;
pub(super) const NO_TEMPERATURE: u8 = 2;
pub(super) const NO_SCHEMA: u8 = 4;

/// The protocol of a provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Chat Completions, as OpenAI and most servers of open models speak it.
    #[default]
    OpenAi,
    /// Messages, as Anthropic speaks it.
    Anthropic,
    /// `generateContent`, as Gemini speaks it.
    Gemini,
    /// Responses, as OpenAI speaks it.
    Responses,
    /// Decisions, as OpenAI speaks it, and another server of ours.
    Decisions,
    /// System One, as `TypeSafe` speaks it, and another server of ours.
    SystemOne,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The model, as its provider calls it.
    pub model: &'a str,
    /// Roles (`system`, `user`, `assistant`) and what they say.
    pub messages: &'a [(&'static str, String)],
    /// The JSON schema that the answer must have.
    pub schema: &'a Value,
    /// The questions themselves, for protocols that take them as they are.
    pub typed: &'a [Typed],
    /// Most tokens of the answer.
    pub most_tokens: u32,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the model said.
    pub content: String,
    /// Tokens that were read and written, where the server says so.
    pub usage: Option<Usage>,
    /// The server's name for the request.
    pub request: Option<String>,
    /// The exact model that answered.
    pub model: Option<String>,
    /// Whether the answer was cut off at its longest.
    pub cut_off: bool,
}

/// Tokens of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Read.
    #[serde(rename = "prompt_tokens")]
    pub read: u64,
    /// Written.
    #[serde(rename = "completion_tokens")]
    pub written: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.read.saturating_add(self.written)
    }
}

/// Why there was no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub problem: String,
    /// Whether the call may have cost something all the same: it broke off on the way.
    pub may_cost: bool,
    /// What can be done.
    pub then: Then,
}

/// What can be done after a call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// The same call may succeed later; not before so long, where the server says so.
    Later(Option<Duration>),
    /// The same call will now be put in other words: try again at once.
    AtOnce,
    /// This text is refused; others may be answered.
    NotThis,
    /// No call will succeed until a person acts.
    Never {
        /// The way out.
        way_out: String,
    },
}

/// The head and body of a reply, whole.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// Its status.
    pub status: u16,
    /// `x-request-id` or the like.
    pub request: Option<&'a str>,
    /// `retry-after`.
    pub retry_after: Option<&'a str>,
    /// Its body; none when it broke off.
    pub body: Option<&'a [u8]>,
}

impl Dialect {
    /// Where a call goes, below the provider's address.
    #[must_use]
    pub fn path(self, model: &str) -> String {
        match self {
            Self::OpenAi => "/chat/completions".into(),
            Self::Anthropic => "/messages".into(),
            Self::Gemini => format!("/models/{model}:generateContent"),
            Self::Responses => "/responses".into(),
            Self::Decisions => "/decisions".into(),
            Self::SystemOne => "/systemone".into(),
        }
    }

    /// Who speaks it first, and what a call asks for, in the words of OpenTelemetry's conventions for generative models.
    #[must_use]
    pub fn convention(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenAi | Self::Responses => ("openai", "chat"),
            Self::Anthropic => ("anthropic", "chat"),
            Self::Gemini => ("gcp.gemini", "generate_content"),
            Self::Decisions => ("openai", "decide"),
            Self::SystemOne => ("typesafe", "decide"),
        }
    }

    /// Whether one may talk with it: whoever answers typed questions says the same again.
    #[must_use]
    pub fn converses(self) -> bool {
        !matches!(self, Self::Decisions | Self::SystemOne)
    }

    /// How a key is carried, with what else the protocol wants in the head.
    #[must_use]
    pub fn headers(self, key: Option<&str>) -> Vec<(&'static str, String)> {
        let mut headers = match self {
            Self::Anthropic => vec![("anthropic-version", "2023-06-01".to_owned())],
            _ => Vec::new(),
        };
        headers.extend(key.map(|key| match self {
            Self::Anthropic => ("x-api-key", key.to_owned()),
            Self::Gemini => ("x-goog-api-key", key.to_owned()),
            _ => ("authorization", format!("Bearer {key}")),
        }));
        headers
    }

    /// The body of a call; `unknown` are the words that this server has refused.
    #[must_use]
    pub fn body(self, ask: &Ask<'_>, unknown: u8) -> Value {
        match self {
            Self::OpenAi => openai::body(ask, unknown),
            Self::Anthropic => anthropic::body(ask, unknown),
            Self::Gemini => gemini::body(ask, unknown),
            Self::Responses => responses::body(ask, unknown),
            Self::Decisions => typed::decisions_body(ask),
            Self::SystemOne => typed::system_one_body(ask),
        }
    }

    /// What a reply says to the typed questions that were asked.
    ///
    /// # Errors
    /// Whatever it says went wrong, and the words that it does not take.
    pub fn read(self, heard: Heard<'_>, asked: &[Typed]) -> Result<Reply, (Trouble, u8)> {
        if heard.status != 200 {
            return Err(refused(heard));
        }
        let odd =
            |problem: &str| (Trouble { problem: problem.into(), may_cost: true, then: Then::Later(None) }, 0);
        let body = heard.body.ok_or_else(|| odd("the reply broke off"))?;
        let found = match self {
            Self::OpenAi => openai::read(body),
            Self::Anthropic => anthropic::read(body),
            Self::Gemini => gemini::read(body),
            Self::Responses => responses::read(body),
            Self::Decisions => typed::read_decisions(body, asked),
            Self::SystemOne => typed::read_system_one(body, asked),
        };
        let mut reply = found.map_err(odd)?;
        reply.request = heard.request.map(printable).or(reply.request);
        // No question is read in no token: whoever says so does not count.
        reply.usage = reply.usage.filter(|usage| usage.read > 0);
        Ok(reply)
    }
}

/// What a status that is none of success says.
fn refused(heard: Heard<'_>) -> (Trouble, u8) {
    let said = said(heard.body.unwrap_or_default());
    let never = |way_out: &str| Then::Never { way_out: way_out.into() };
    let learnt = match heard.status {
        400 if said.contains("max_completion_tokens") => NEW_LIMIT,
        400 if said.contains("temperature") => NO_TEMPERATURE,
        400 | 422
            if ["response_format", "json_schema", "text.format"].iter().any(|word| said.contains(word)) =>
        {
            NO_SCHEMA
        }
        _ => 0,
    };
    let then = match heard.status {
        400 | 422 if learnt > 0 => Then::AtOnce,
        400 | 413 | 422 => Then::NotThis,
        401 | 403 => never("name a key that the server takes: --key env:NAME or --key file:PATH"),
        402 => never("the account has no money left, or wants to be paid first"),
        404 => never("check --model, and --url: it is all before /chat/completions, as in https://HOST/v1"),
        300..=399 => never("it sends callers elsewhere: name that address with --url"),
        408 | 409 | 425 | 429 | 500..=599 => Then::Later(heard.retry_after.and_then(wait)),
        _ => never("check --url: this does not look like a server with language models"),
    };
    let colon = if said.is_empty() { "" } else { ": " };
    // A gateway that gave up may have handed the call on.
    let may_cost = matches!(heard.status, 502 | 504);
    (
        Trouble { problem: format!("it answered with status {}{colon}{said}", heard.status), may_cost, then },
        learnt,
    )
}

/// What a server says went wrong, short.
fn said(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let error = json.get("error").unwrap_or(&json);
    printable(error.get("message").or(Some(error)).and_then(Value::as_str).unwrap_or_default())
}

/// What a stranger wrote, short and without what would steer a terminal.
fn printable(written: &str) -> String {
    written.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What the system messages say, and the others, for protocols that keep them apart.
fn apart<'a>(ask: &Ask<'a>) -> (String, Vec<&'a (&'static str, String)>) {
    let (system, others): (Vec<_>, Vec<_>) = ask.messages.iter().partition(|(role, _)| *role == "system");
    (system.iter().map(|(_, said)| said.as_str()).collect::<Vec<_>>().join("\n\n"), others)
}

/// How long a server asks callers to wait: seconds, or until a date (RFC 9110, section 10.2.3).
pub(super) fn wait(text: &str) -> Option<Duration> {
    let seconds = match text.trim().parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
            date(text)? as f64 - now.as_secs_f64()
        }
    };
    seconds.is_finite().then(|| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_WAIT.as_secs_f64())))
}

/// Seconds since 1970 of a date as in `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let words: Vec<&str> = text.split([' ', ':']).filter(|word| !word.is_empty()).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words.as_slice() else { return None };
    let number = |word: &str| word.parse::<i64>().ok().filter(|n| (0..10_000).contains(n));
    let month = MONTHS.find(*month).filter(|at| at % 3 == 0)? as i64 / 3 + 1;
    // Days from the civil date, after Howard Hinnant's `days_from_civil`.
    let year = number(year)? - i64::from(month <= 2);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + number(day)? - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + number(hour)? * 3_600 + number(minute)? * 60 + number(second)?)
}

#[cfg(test)]
mod tests;
