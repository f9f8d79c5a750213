//! In how few bytes is a record kept, and how fast is it put down?
//!
//! A third of its JSON and a tenth of its time: a version, and the fields in their order without names. Records of builds that kept JSON
//! are read as they are.

use crate::error::{Error, Result};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use serde::{Deserialize, Serialize};
use sizewise_contract::{
    Answer, ContentHash, Disposition, EscalationReason, Record, Step, StoredInput, Tier,
    answer::{EscalatedTo, RemoteUse},
    units::UnixMillis,
};
use std::borrow::Cow;

/// The first byte of this form; no JSON begins with it.
const VERSION: u8 = 1;

/// What a record is found by.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    pub(crate) id: &'a str,
    pub(crate) task: &'a str,
    pub(crate) at: i64,
}

/// Fields are added with a new version alone: those of a kept record are told apart by their places.
#[derive(Serialize, Deserialize)]
struct Form<'a> {
    #[serde(borrow)]
    head: Head<'a>,
    release: [u8; 32],
    input: Input<'a>,
    answers: Vec<Reply<'a>>,
    elapsed_us: u64,
    key_id: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
enum Input<'a> {
    Nothing,
    Redacted(&'a str),
    Full(&'a str),
}

#[derive(Serialize, Deserialize)]
struct Reply<'a> {
    question: &'a str,
    /// Why it was handed on and to whom; none where it was answered.
    escalated: Option<(EscalationReason, EscalatedTo)>,
    value: &'a str,
    class: usize,
    confidence: Option<f64>,
    threshold: Option<f64>,
    probabilities: Cow<'a, [f32]>,
    tier: Tier,
    certified: bool,
    handed_on: Option<EscalationReason>,
    /// JSON: seldom there, and millions of times as dear as its bytes.
    remote: Option<String>,
    path: Cow<'a, [Step]>,
}

/// Writes a record behind what is there.
pub(crate) fn push(record: &Record, bytes: &mut Vec<u8>) -> Result<()> {
    let unwritable = Error::Internal("a record has a compact form");
    bytes.push(VERSION);
    let form = form(record)?;
    *bytes = postcard::to_extend(&form, std::mem::take(bytes)).map_err(|_| unwritable)?;
    Ok(())
}

/// What a record is found by, of one that [`push`] wrote.
pub(crate) fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let (VERSION, rest) = bytes.split_first().map(|(version, rest)| (*version, rest))? else { return None };
    postcard::take_from_bytes(rest).ok().map(|(head, _)| head)
}

/// Reads a record as it is kept, by this build or an earlier one; none where it is no such.
pub(crate) fn read(bytes: &[u8]) -> Option<Record> {
    match bytes.split_first()? {
        (&VERSION, rest) => match postcard::take_from_bytes(rest).ok()? {
            (form, []) => record(form),
            _ => None,
        },
        _ => serde_json::from_slice(bytes).ok(),
    }
}

fn form(record: &Record) -> Result<Form<'_>> {
    let Record { id, task, release, at, input, answers, elapsed_us, key_id } = record;
    let input = match input {
        StoredInput::Nothing => Input::Nothing,
        StoredInput::Redacted(text) => Input::Redacted(text),
        StoredInput::Full(text) => Input::Full(text),
    };
    Ok(Form {
        head: Head { id, task, at: at.0 },
        release: *release.as_bytes(),
        input,
        answers: answers.iter().map(reply).collect::<Result<_>>()?,
        elapsed_us: *elapsed_us,
        key_id: key_id.as_deref(),
    })
}

fn reply(answer: &Answer) -> Result<Reply<'_>> {
    let Answer {
        question,
        disposition,
        value,
        class,
        confidence,
        threshold,
        probabilities,
        tier,
        certified,
        handed_on,
        remote,
        path,
    } = answer;
    let escalated = match disposition {
        Disposition::Answered => None,
        Disposition::Escalated { reason, to } => Some((*reason, *to)),
    };
    let json = |remote: &RemoteUse| {
        serde_json::to_string(remote)
            .map_err(|_| Error::Internal("the use of a remote model has a JSON form"))
    };
    Ok(Reply {
        question,
        escalated,
        value,
        class: *class,
        confidence: *confidence,
        threshold: *threshold,
        probabilities: Cow::Borrowed(probabilities),
        tier: *tier,
        certified: *certified,
        handed_on: *handed_on,
        remote: remote.as_ref().map(json).transpose()?,
        path: Cow::Borrowed(path),
    })
}

fn record(form: Form<'_>) -> Option<Record> {
    let Form { head, release, input, answers, elapsed_us, key_id } = form;
    Some(Record {
        id: head.id.to_owned(),
        task: head.task.to_owned(),
        release: ContentHash::of_digest(release),
        at: UnixMillis(head.at),
        input: match input {
            Input::Nothing => StoredInput::Nothing,
            Input::Redacted(text) => StoredInput::Redacted(text.to_owned()),
            Input::Full(text) => StoredInput::Full(text.to_owned()),
        },
        answers: answers.into_iter().map(answer).collect::<Option<_>>()?,
        elapsed_us,
        key_id: key_id.map(str::to_owned),
    })
}

fn answer(reply: Reply<'_>) -> Option<Answer> {
    Some(Answer {
        question: reply.question.to_owned(),
        disposition: match reply.escalated {
            None => Disposition::Answered,
            Some((reason, to)) => Disposition::Escalated { reason, to },
        },
        value: reply.value.to_owned(),
        class: reply.class,
        confidence: reply.confidence,
        threshold: reply.threshold,
        probabilities: reply.probabilities.into_owned(),
        tier: reply.tier,
        certified: reply.certified,
        handed_on: reply.handed_on,
        remote: match reply.remote {
            None => None,
            Some(json) => Some(serde_json::from_str(&json).ok()?),
        },
        path: reply.path.into_owned(),
    })
}

/// A record as a column holds it.
pub(crate) struct Kept(pub(crate) Record);

impl FromSql for Kept {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = match value {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes,
            _ => return Err(FromSqlError::InvalidType),
        };
        let unreadable = || FromSqlError::Other(Box::new(Error::Internal("a stored record is readable")));
        read(bytes).map(Self).ok_or_else(unreadable)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use sizewise_contract::answer::{Recalled, RemoteProblem};

    /// A record with everything that one can have.
    fn whole() -> Record {
        let remote = RemoteUse {
            provider: "p".into(),
            model: "m".into(),
            attempts: 2,
            recalled: Some(Recalled::Similar),
            problem: Some(RemoteProblem::OffContract),
        };
        let step =
            |tier| Step { tier, value: "no".into(), confidence: Some(0.5), novelty: 0.25, elapsed_us: 300 };
        let tiers =
            [Tier::Rules, Tier::Static, Tier::Encoder, Tier::Generator, Tier::Remote, Tier::Person].map(step);
        let answer = |reason, to| Answer {
            question: "urgent".into(),
            disposition: Disposition::Escalated { reason, to },
            value: "no".into(),
            class: 200,
            confidence: None,
            threshold: Some(0.75),
            probabilities: vec![0.5, -0.0],
            tier: Tier::Remote,
            certified: true,
            handed_on: Some(reason),
            remote: Some(remote.clone()),
            path: tiers.to_vec(),
        };
        use EscalationReason::{BelowThreshold, NewKind, NotCertified, OutOfScope, PromiseInDoubt};
        let reasons = [BelowThreshold, OutOfScope, PromiseInDoubt, NotCertified, NewKind];
        let mut answers: Vec<_> = reasons.map(|reason| answer(reason, EscalatedTo::Person)).into();
        answers.push(Answer {
            disposition: Disposition::Answered,
            confidence: Some(1.0),
            threshold: None,
            handed_on: None,
            remote: None,
            path: vec![],
            ..answer(BelowThreshold, EscalatedTo::None)
        });
        answers.push(answer(BelowThreshold, EscalatedTo::None));
        Record {
            id: "d_1".into(),
            task: "desk".into(),
            release: ContentHash::of(b"r"),
            at: UnixMillis(-3),
            input: StoredInput::Full("zwölf\n\"Boxkämpfer\"\u{0}".into()),
            answers,
            elapsed_us: u64::MAX,
            key_id: Some("k".into()),
        }
    }

    fn bytes(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        push(record, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_as_json_of_earlier_builds() {
        for input in [StoredInput::Nothing, StoredInput::Redacted("a".into()), whole().input] {
            for key_id in [None, Some("k".to_owned())] {
                let record = Record { input: input.clone(), key_id, ..whole() };
                let bytes = bytes(&record);
                assert_eq!(read(&bytes).unwrap(), record);
                let head = head(&bytes).unwrap();
                assert_eq!((head.id, head.task, head.at), ("d_1", "desk", -3));
                assert_eq!(read(&serde_json::to_vec(&record).unwrap()).unwrap(), record);
            }
        }
    }

    /// What is on somebody's disk stays readable: this hash changes with the form, and the form with its version alone.
    #[test]
    fn the_first_form_is_what_it_was() {
        let first = "34a23e7de1d0d945035872481480fe027a75bbeb5158b53de1bd336623cd20e8";
        assert_eq!(ContentHash::of(&bytes(&whole())).to_string(), first);
    }

    #[test]
    fn what_is_cut_off_or_changed_is_no_record_or_another() {
        let whole = bytes(&whole());
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_none(), "{length}");
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[length] = value;
                // Any answer will do, in bounded memory.
                let _ = (read(&changed), head(&changed));
            }
        }
    }
}
