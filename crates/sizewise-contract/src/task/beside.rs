//! What does a task file say that is no part of the contract?
//!
//! Prices that nobody but the owner of a task knows, and how people work on its queue: they may change at any time, and no certificate
//! hangs on them.

use super::parse::{TaskError, rule};
use crate::units::Dollars;
use serde::{Deserialize, Serialize};

/// What is needed to say what a task saves; what is not said is not counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Savings {
    /// Providers whose models the owner takes for good enough to do the whole task; nothing else is taken for it unseen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acceptable: Vec<String>,
    /// What an answer of a person costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_label: Option<Dollars>,
    /// How long an answer of a person takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes_per_label: Option<f64>,
    /// What a wrong answer costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_error: Option<Dollars>,
    /// What an hour of one core costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_core_hour: Option<Dollars>,
}

impl Savings {
    pub(super) fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self) -> Result<(), TaskError> {
        let names = &self.acceptable;
        if names
            .iter()
            .enumerate()
            .any(|(at, name)| name.is_empty() || names.iter().take(at).any(|n| n == name))
        {
            return Err(rule("savings.acceptable", "name each provider once"));
        }
        match self.minutes_per_label {
            Some(minutes) if !(minutes > 0.0 && minutes <= 1_440.0) => {
                Err(rule("savings.minutes_per_label", "must be more than 0 and at most 1440"))
            }
            _ => Ok(()),
        }
    }
}

/// How people work on what waits for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct People {
    /// Share of the questions that two people answer without seeing each other's answer.
    pub double_share: f64,
    /// Share of the questions after whose first choice the model's suggestion is shown, and the choice may be changed.
    pub suggestion_share: f64,
    /// Who decides where two differ.
    pub adjudicate: Adjudicate,
}

/// Who decides where two people differ; never one of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjudicate {
    /// Whoever runs the server.
    #[default]
    Operator,
    /// Any third person who may answer.
    Anyone,
}

impl People {
    pub(super) fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(self) -> Result<(), TaskError> {
        for (name, share) in
            [("people.double_share", self.double_share), ("people.suggestion_share", self.suggestion_share)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(rule(name, "must lie between 0 and 1; 0.1 is one question in ten"));
            }
        }
        Ok(())
    }
}
