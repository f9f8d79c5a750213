//! How is no more spent than was allowed, by any number of callers and whatever happens between a call and its bill?
//!
//! Before calls are made what they can cost is taken out, in the same transaction that looks at every limit; afterwards, what they did
//! cost takes that place. What was taken out and never settled counts as spent. All is integers.

use crate::{Store, database, error::Result};
use rusqlite::{Transaction, params};
use serde::Serialize;
use sizewise_contract::units::MicroUsd;

/// For how long a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A day of UTC.
    Day,
    /// A month of UTC.
    Month,
    /// For ever.
    Total,
}

/// What may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// For how long.
    pub period: Period,
    /// How much.
    pub most: MicroUsd,
}

/// What somebody has spent on a provider in a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Who pays: a task, or whoever else has a purse of its own.
    pub payer: String,
    /// The provider.
    pub provider: String,
    /// The day, of UTC.
    pub day: String,
    /// How much, what is taken out for calls under way included.
    pub micro_usd: MicroUsd,
    /// Calls that were settled.
    pub calls: u64,
}

/// What became of some of what was taken out under a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The number.
    pub reservation: u64,
    /// What calls did cost.
    pub cost: MicroUsd,
    /// How many they were.
    pub calls: u64,
    /// What stays taken out; nothing of it where it is 0.
    pub rest: MicroUsd,
}

impl Store {
    /// Takes money out on a day (`2026-01-31`) for calls that `payer` makes to a provider: adds it to what was taken out under a number,
    /// or to nothing. Returns the number; none where a limit of the payer does not hold it. On disk when it returns.
    ///
    /// # Errors
    /// Fails when the database cannot be written; nothing is then taken out.
    pub fn enlarge_money(
        &self,
        (payer, provider, day): (&str, &str, &str),
        (known, more): (Option<u64>, MicroUsd),
        limits: &[Limit],
    ) -> Result<Option<u64>> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        for limit in limits {
            let spent = spent(&transaction, payer, &prefix(limit.period, day))?;
            if spent.saturating_add(more.0) > limit.most.0 {
                return Ok(None);
            }
        }
        if let Some(number) = known {
            let number_there = i64::try_from(number).unwrap_or(i64::MAX);
            let changed = transaction.execute(
                "UPDATE reserved SET micro_usd = micro_usd + ?2 WHERE number = ?1",
                params![number_there, stored(more)],
            )?;
            if changed == 1 {
                transaction.commit()?;
                return Ok(Some(number));
            }
        }
        transaction.execute(
            "INSERT INTO reserved (task, provider, day, micro_usd) VALUES (?1, ?2, ?3, ?4)",
            params![payer, provider, day, stored(more)],
        )?;
        let number = transaction.last_insert_rowid();
        transaction.commit()?;
        Ok(u64::try_from(number).ok())
    }

    /// Puts down what calls did cost, of many payers in one transaction.
    ///
    /// # Errors
    /// Fails when the database cannot be written; what was taken out then still counts.
    pub fn settle_parts(&self, parts: &[Settled]) -> Result<()> {
        if parts.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        for Settled { reservation, cost, calls, rest } in parts.iter().copied() {
            let number = i64::try_from(reservation).unwrap_or(i64::MAX);
            if calls > 0 || cost > MicroUsd(0) {
                transaction.execute(
                    "INSERT INTO spent (task, provider, day, micro_usd, calls)
                     SELECT task, provider, day, ?2, ?3 FROM reserved WHERE number = ?1
                     ON CONFLICT (task, provider, day) DO UPDATE
                     SET micro_usd = micro_usd + excluded.micro_usd, calls = calls + excluded.calls",
                    params![number, stored(cost), i64::try_from(calls).unwrap_or(i64::MAX)],
                )?;
            }
            if rest == MicroUsd(0) {
                transaction.execute("DELETE FROM reserved WHERE number = ?1", [number])?;
            } else {
                transaction.execute(
                    "UPDATE reserved SET micro_usd = ?2 WHERE number = ?1",
                    params![number, stored(rest)],
                )?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// What was spent, by payer, provider and day, the latest days first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn spending(&self) -> Result<Vec<Spent>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT task, provider, day, SUM(micro_usd), SUM(calls) FROM (
                 SELECT task, provider, day, micro_usd, calls FROM spent
                 UNION ALL SELECT task, provider, day, micro_usd, 0 FROM reserved)
             GROUP BY task, provider, day ORDER BY day DESC, task, provider",
        )?;
        let lines = statement.query_map([], |row| {
            let amount = |at| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0));
            Ok(Spent {
                payer: row.get(0)?,
                provider: row.get(1)?,
                day: row.get(2)?,
                micro_usd: MicroUsd(amount(3)?),
                calls: amount(4)?,
            })
        })?;
        Ok(lines.collect::<rusqlite::Result<_>>()?)
    }
}

/// The days of a period begin like this.
fn prefix(period: Period, day: &str) -> String {
    match period {
        Period::Day => day.to_owned(),
        Period::Month => day.get(..7).unwrap_or(day).to_owned(),
        Period::Total => String::new(),
    }
}

fn spent(transaction: &Transaction<'_>, payer: &str, days: &str) -> Result<u64> {
    let sum = |table: &str| {
        let query = format!(
            "SELECT TOTAL(micro_usd) FROM {table} WHERE task = ?1 AND substr(day, 1, length(?2)) = ?2"
        );
        transaction.query_row(&query, [payer, days], |row| row.get::<_, f64>(0))
    };
    // Sums of money stay far below 2^53, up to which they are exact; above, they are large either way.
    Ok((sum("spent")? + sum("reserved")?) as u64)
}

/// The largest amount that the database holds counts for all above it.
fn stored(amount: MicroUsd) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX).min(1 << 52)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    const DAY: (&str, &str, &str) = ("support", "primary", "2026-01-31");

    fn limit(period: Period, most: u64) -> Limit {
        Limit { period, most: MicroUsd(most) }
    }

    #[test]
    fn what_is_taken_out_counts_until_it_is_settled_and_then_what_it_did_cost() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let limits = [limit(Period::Day, 100)];
        let first = store.enlarge_money(DAY, (None, MicroUsd(60)), &limits).unwrap().unwrap();
        assert_eq!(store.enlarge_money(DAY, (Some(first), MicroUsd(41)), &limits).unwrap(), None);
        assert_eq!(store.enlarge_money(DAY, (Some(first), MicroUsd(40)), &limits).unwrap(), Some(first));
        let part = |cost, calls, rest| Settled {
            reservation: first,
            cost: MicroUsd(cost),
            calls,
            rest: MicroUsd(rest),
        };
        store.settle_parts(&[part(10, 2, 30), part(5, 1, 0)]).unwrap();
        store.settle_parts(&[part(90, 1, 0)]).unwrap();
        let second = store.enlarge_money(DAY, (Some(first), MicroUsd(85)), &limits).unwrap().unwrap();
        assert!(second > first, "what is settled is not enlarged");
        drop(store);
        // A process that ended: its calls may have been billed.
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.enlarge_money(DAY, (None, MicroUsd(1)), &limits).unwrap(), None);
        let spending = store.spending().unwrap();
        assert_eq!((spending[0].micro_usd, spending[0].calls), (MicroUsd(100), 3));
    }

    #[test]
    fn days_and_months_begin_anew_and_the_total_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let limits = [limit(Period::Day, 10), limit(Period::Month, 25), limit(Period::Total, 40)];
        let spend = |day: &str| {
            store.enlarge_money(("support", "primary", day), (None, MicroUsd(10)), &limits).unwrap().is_some()
        };
        let told: Vec<bool> = [
            "2026-01-30",
            "2026-01-30",
            "2026-01-31",
            "2026-01-01",
            "2026-02-01",
            "2026-03-01",
            "2027-01-01",
        ]
        .into_iter()
        .map(spend)
        .collect();
        assert_eq!(told, [true, false, true, false, true, true, false]);
        let other = ("other", "primary", "2026-01-31");
        assert!(store.enlarge_money(other, (None, MicroUsd(10)), &limits).unwrap().is_some());
    }
}
