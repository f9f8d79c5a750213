//! How is a saving told to people, with everything that speaks against it?

use super::{Against, Amount, Savings};
use crate::{
    clock,
    table::{Align, Table, percent},
};
use std::fmt::Write;

pub(crate) fn text(savings: &Savings) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, savings);
    out
}

fn write_all(out: &mut String, savings: &Savings) -> std::fmt::Result {
    if savings.decisions == 0 {
        return writeln!(
            out,
            "No decision of {} is kept since {}: there is nothing to compare.",
            savings.task,
            clock::minute(savings.since)
        );
    }
    writeln!(
        out,
        "{} decisions of {} since {}; a larger model was asked about {} of them ({} of requests).",
        savings.decisions,
        savings.task,
        clock::minute(savings.since),
        savings.asked,
        percent(savings.asked as f64 / savings.decisions as f64)
    )?;
    if savings.left_out > 0 {
        writeln!(
            out,
            "{} are left out of the comparison: their texts were not kept, or bills were not yet written down.",
            savings.left_out
        )?;
    }
    let mut table =
        Table::new(&[("what it cost here", Align::Left), ("number", Align::Right), ("cost", Align::Left)]);
    for cost in &savings.costs {
        let amount = cost.amount.map_or_else(|| "not counted".to_owned(), told);
        let count = format!("{:.0}{}", cost.count, if cost.what == "cores" { " ms" } else { "" });
        table.row([cost.what.replace('_', " "), count, format!("{amount}   {}", cost.note)]);
    }
    table.row(["in all".into(), String::new(), told(savings.spent)]);
    write!(out, "{}", table.render())?;
    if savings.against.is_empty() {
        return writeln!(
            out,
            "Nothing to compare with: the task hands on to no larger model (remote under [cascade]), and --against NAME names none."
        );
    }
    for against in &savings.against {
        one(out, against)?;
    }
    writeln!(
        out,
        "\nBounds hold with {} confidence, whatever the traffic was like: bets on what was drawn, with the probability of each draw.",
        percent(savings.confidence)
    )
}

fn one(out: &mut String, against: &Against) -> std::fmt::Result {
    writeln!(out, "\nAll of it to {} ({}): {}", against.provider, against.model, against.why)?;
    writeln!(out, "  would have cost  {}", told(against.cost))?;
    let share = against.saved_share.map_or(String::new(), |share| format!(", {} of it", percent(share)));
    match against.enough {
        true => writeln!(out, "  saved            {}{share}", told(against.saved))?,
        false => writeln!(out, "  saved            not claimed: {}", told(against.saved))?,
    }
    if let Some(share) = against.escalated_share_of_cost {
        writeln!(out, "  still paid       {} of that cost, for what is handed on", percent(share))?;
    }
    writeln!(out, "  {}", against.note)
}

fn told(amount: Amount) -> String {
    let exact = amount.low == amount.high;
    match amount.micro_usd {
        Some(estimate) if exact => dollars(estimate),
        Some(estimate) => {
            format!("{} (between {} and {})", dollars(estimate), dollars(amount.low), dollars(amount.high))
        }
        None => format!("between {} and {}", dollars(amount.low), dollars(amount.high)),
    }
}

fn dollars(micro_usd: i64) -> String {
    let sign = if micro_usd < 0 { "-" } else { "" };
    let size = micro_usd.unsigned_abs();
    format!("{sign}${}.{:04}", size / 1_000_000, size % 1_000_000 / 100)
}
