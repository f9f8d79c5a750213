//! Can this request be read, and what exactly does it ask?

use crate::{error::Error, live::TaskLimits, request::Request, served::Served};
use sizewise_contract::{limits, task::StoreInput};

/// A request that can be decided.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    /// The rendered inputs.
    pub(crate) texts: Vec<String>,
    /// Positions of the questions, in the order asked.
    pub(crate) questions: Vec<usize>,
    /// From which confidence each of these questions is answered now.
    pub(crate) limits: Vec<f64>,
    /// Whether the promise about one of them is in doubt.
    pub(crate) doubted: bool,
    /// What may be kept of the inputs.
    pub(crate) keep: StoreInput,
}

impl Admitted {
    /// Whether exactly that is handed on which the certificates hand on, and nobody doubts them.
    pub(crate) fn is_as_certified(&self, certified: impl Fn(usize) -> Option<f64>) -> bool {
        let usual = |(question, limit): (&usize, &f64)| certified(*question) == Some(*limit);
        !self.doubted && self.questions.iter().zip(&self.limits).all(usual)
    }
}

/// Checks inputs and questions against the task.
pub(crate) fn admit(
    served: &Served,
    request: &Request,
    (keep, live): (StoreInput, &TaskLimits),
) -> Result<Admitted, Error> {
    let task = &served.info.task;
    if request.inputs.len() > limits::INPUTS_PER_REQUEST {
        return Err(Error::TooManyInputs { count: request.inputs.len() });
    }
    let questions = match &request.questions {
        None => (0..task.questions.len()).collect(),
        Some(asked) => asked.iter().map(|asked| asked.0).collect::<Vec<_>>(),
    };
    if let Some(position) = questions.iter().find(|position| **position >= task.questions.len()) {
        return Err(Error::UnknownQuestion { task: task.name.clone(), position: *position });
    }
    let mut texts = Vec::with_capacity(request.inputs.len());
    for (position, input) in request.inputs.iter().enumerate() {
        let text = input
            .render(&task.input.fields)
            .map_err(|field| Error::Input { position, problem: format!("the field `{field}` is missing") })?;
        if text.len() > limits::INPUT_BYTES {
            return Err(Error::InputTooLong { position, size: text.len() });
        }
        if text.trim().is_empty() {
            return Err(Error::Input { position, problem: "there is nothing in it".into() });
        }
        texts.push(text);
    }
    let known = |question: usize| live.get(question);
    let limits = questions.iter().map(|question| {
        let certified = served.asked.get(*question).map_or(f64::INFINITY, |asked| asked.limit);
        known(*question).map_or(certified, |known| known.of(request.group.as_deref(), certified))
    });
    let limits = limits.collect();
    let doubted = questions.iter().any(|question| known(*question).is_some_and(|known| known.doubted));
    Ok(Admitted { texts, questions, limits, doubted, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_or_a_stricter_limit_hands_on_what_the_certificate_did_not() {
        let admitted = |limits: &[f64], doubted| Admitted {
            texts: vec!["where is it".into()],
            questions: vec![2, 0],
            limits: limits.to_vec(),
            doubted,
            keep: StoreInput::Nothing,
        };
        let certified = |question: usize| [0.9, 0.5, f64::INFINITY].get(question).copied();
        assert!(admitted(&[f64::INFINITY, 0.9], false).is_as_certified(certified));
        assert!(!admitted(&[f64::INFINITY, 0.9], true).is_as_certified(certified));
        assert!(!admitted(&[f64::INFINITY, 0.95], false).is_as_certified(certified));
        assert!(!admitted(&[f64::INFINITY, f64::INFINITY], false).is_as_certified(certified));
        assert!(!admitted(&[f64::INFINITY, 0.9], false).is_as_certified(|_| None));
    }
}
