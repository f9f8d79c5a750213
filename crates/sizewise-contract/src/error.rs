//! What can go wrong, whose fault is it, and is it worth trying again?
//!
//! Every crate has an error enum of its own; each of its variants names one [`Code`] of the table below. The
//! application turns a code into an HTTP status or an exit code, and nobody else does.

use serde::Serialize;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request, file or data is not as it must be.
    Caller,
    /// A larger model or another service failed.
    Upstream,
    /// There is more work than the machine or a budget allows right now.
    Overload,
    /// A rule of the task or of the operator forbids it.
    Policy,
    /// The machine under us failed, or we did.
    Internal,
}

/// What every error of the product can say about itself.
pub trait Diagnose: std::error::Error {
    /// The stable code of this error.
    fn code(&self) -> Code;

    /// What a person can do about it, as one sentence; none where the message says it all.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// One row of the table of codes.
#[derive(Debug, Clone, Copy)]
pub struct CodeFacts {
    /// The code itself.
    pub code: Code,
    /// The stable name on the wire and in scripts.
    pub name: &'static str,
    /// Who has to act.
    pub fault: Fault,
    /// Whether the same call may succeed later.
    pub retry: bool,
    /// What the code means, in one line.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($code:ident, $name:literal, $fault:ident, $retry:literal, $meaning:literal;)*) => {
        /// A stable name for a kind of error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $(#[doc = $meaning] $code,)* }

        /// Every code with its facts, in the order of the documentation.
        pub const CODES: &[CodeFacts] = &[
            $(CodeFacts { code: Code::$code, name: $name, fault: Fault::$fault, retry: $retry, meaning: $meaning },)*
        ];

        impl Code {
            /// The facts of this code.
            #[must_use]
            pub fn facts(self) -> CodeFacts {
                match self {
                    $(Code::$code => CodeFacts {
                        code: self, name: $name, fault: Fault::$fault, retry: $retry, meaning: $meaning,
                    },)*
                }
            }
        }
    };
}

codes! {
    TaskFileInvalid, "task_file_invalid", Caller, false, "the task file breaks a rule of its format";
    UnknownTask, "unknown_task", Caller, false, "no task of that name exists here";
    UnknownQuestion, "unknown_question", Caller, false, "the task asks no question of that name or shape";
    UnknownDecision, "unknown_decision", Caller, false, "no decision of that name is kept here";
    AnsweredOtherwise, "answered_otherwise", Caller, false, "somebody said something else about it before";
    InputInvalid, "input_invalid", Caller, false, "the input is missing, empty, not text, or lacks a field";
    InputTooLong, "input_too_long", Caller, false, "the input is longer than a limit or than the model can read";
    RequestInvalid, "request_invalid", Caller, false, "the request is not of the shape that its protocol asks for";
    DataUnreadable, "data_unreadable", Caller, false, "a table cannot be opened or decoded";
    DataInvalid, "data_invalid", Caller, false, "a table was read but its rows cannot be used as they are";
    TooFewExamples, "too_few_examples", Caller, false, "there are too few labelled rows for what is asked";
    ModelFileInvalid, "model_file_invalid", Caller, false, "a model or tokenizer file is damaged or hostile";
    ModelUnsupported, "model_unsupported", Caller, false, "a model is of a kind that this build cannot run";
    SourceUnavailable, "source_unavailable", Upstream, true, "a server elsewhere, of models or of their answers, did not answer as it should";
    MayNotLeave, "may_not_leave", Policy, false, "a text may not leave for that machine: the task or the terms are in the way";
    BudgetSpent, "budget_spent", Policy, false, "the budget for remote models does not hold another call";
    NotTrained, "not_trained", Caller, false, "the task has no release yet";
    NotCertified, "not_certified", Policy, false, "the release in force has no certificate and the setting asks for one";
    NotTried, "not_tried", Policy, false, "the release may not be tried beside the one in force, or none is";
    LockedRowsSpent, "locked_rows_spent", Policy, false, "the locked gold rows have been opened as often as was planned";
    LockedRowsChanged, "locked_rows_changed", Policy, false, "the locked gold rows are not the ones that were set aside";
    PromiseImpossible, "promise_impossible", Policy, false, "the evidence shows that the promise cannot be kept";
    KeyMissing, "key_missing", Caller, false, "the request carries no API key";
    KeyInvalid, "key_invalid", Caller, false, "the API key is unknown or revoked";
    NotAllowed, "not_allowed", Policy, false, "the API key may not do this";
    RateLimited, "rate_limited", Overload, true, "the API key or its team has used up its rate for now";
    UnknownRoute, "unknown_route", Caller, false, "the server has nothing under that path";
    MethodNotAllowed, "method_not_allowed", Caller, false, "the path exists but not for that method";
    MediaUnsupported, "media_unsupported", Caller, false, "the body is of a kind or compression that is not read";
    BodyTooLarge, "body_too_large", Caller, false, "the body is larger than the server reads";
    BodyTooSlow, "body_too_slow", Caller, true, "the body did not arrive in time";
    OriginRefused, "origin_refused", Policy, false, "a web page from elsewhere may not use a server without keys";
    KeysNeeded, "keys_needed", Policy, false, "an address that others can reach is only served with API keys";
    AddressUnavailable, "address_unavailable", Caller, false, "the address to listen on is taken or not of this machine";
    ReleaseDamaged, "release_damaged", Internal, false, "a stored release does not match its content hash";
    StoreUnavailable, "store_unavailable", Internal, true, "the store is locked, full or unreachable";
    StoreDamaged, "store_damaged", Internal, false, "the store's database is damaged or of another version";
    Overloaded, "overloaded", Overload, true, "more requests are waiting than the limit allows";
    ShuttingDown, "shutting_down", Overload, true, "the server is finishing its last requests";
    FileSystem, "file_system", Internal, false, "a file or folder could not be read or written";
    Interrupted, "interrupted", Caller, true, "the work was interrupted; what was finished is kept";
    Internal, "internal", Internal, false, "a rule inside the program was broken; please report it";
}

impl Code {
    /// The stable name, as on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The candidate closest to what was written, when it is close enough to be what was meant.
///
/// **Bounds.** At most a third of the letters may differ (edit distance, case ignored).
#[must_use]
pub fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written: Vec<char> = written.to_lowercase().chars().take(100).collect();
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.chars().count().max(written.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance by the two-row recurrence (Wagner and Fischer 1974).
fn edit_distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(100).collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, (right, pair)) in b.iter().zip(previous.windows(2)).enumerate() {
            let &[diagonal, above] = pair else { continue };
            let substitute = diagonal + usize::from(left != right);
            let insert = current.get(j).copied().unwrap_or(j) + 1;
            current.push(substitute.min(above + 1).min(insert));
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_codes_is_complete_and_without_doubles() {
        let mut names = std::collections::BTreeSet::new();
        for row in CODES {
            assert!(names.insert(row.name), "{} stands twice", row.name);
            assert_eq!(row.code.facts().name, row.name);
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
            assert!(!row.meaning.is_empty() && !row.meaning.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let known = ["max_served_error", "confidence", "p95_latency_ms"];
        assert_eq!(did_you_mean("max_server_error", known), Some("max_served_error"));
        assert_eq!(did_you_mean("Confidenze", known), Some("confidence"));
        assert_eq!(did_you_mean("colour", known), None);
        assert_eq!(did_you_mean("", known), None);
    }
}
