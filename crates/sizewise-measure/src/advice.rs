//! Does the small model pay, the large one, or both?
//!
//! A plain sum of what each way costs a month. Everything here is modelled from the numbers given, and labelled so.

use serde::Serialize;
use sizewise_contract::units::MicroUsd;

/// What the sum is made from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Workload {
    /// Requests a month.
    pub requests: u64,
    /// Share of them that local tiers answer.
    pub coverage: f64,
    /// What one call to the large model costs.
    pub large_call: MicroUsd,
    /// What the machine for the local tiers costs a month.
    pub machine: MicroUsd,
}

/// What to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// The large model alone: the small one saves nothing.
    Large,
    /// Both: the small one first, the large one for the rest.
    Both,
    /// The small one alone: it answers all.
    Small,
}

/// What comes of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Advice {
    /// What to use.
    pub use_: Use,
    /// A month with the large model alone.
    pub large_alone: MicroUsd,
    /// A month with the small model first.
    pub small_first: MicroUsd,
}

/// Compares a month of the large model alone with a month of the small one first.
#[must_use]
pub fn advise(workload: &Workload) -> Advice {
    let calls = |share: f64| {
        MicroUsd(
            (workload.requests as f64 * share.clamp(0.0, 1.0) * workload.large_call.0 as f64).round() as u64
        )
    };
    let large_alone = calls(1.0);
    let small_first = calls(1.0 - workload.coverage).saturating_add(workload.machine);
    let use_ = match () {
        () if small_first >= large_alone => Use::Large,
        () if workload.coverage >= 1.0 => Use::Small,
        () => Use::Both,
    };
    Advice { use_, large_alone, small_first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_workload_does_not_pay_for_a_machine() {
        let mut workload = Workload {
            requests: 1_000,
            coverage: 0.9,
            large_call: MicroUsd(1_000),
            machine: MicroUsd(20_000_000),
        };
        assert_eq!(advise(&workload).use_, Use::Large);
        workload.requests = 1_000_000;
        let advice = advise(&workload);
        assert_eq!(
            (advice.use_, advice.large_alone, advice.small_first),
            (Use::Both, MicroUsd(1_000_000_000), MicroUsd(120_000_000))
        );
    }
}
