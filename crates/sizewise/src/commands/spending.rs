//! `sizewise spending`: what have remote models cost?

use super::{DONE, trained::store};
use crate::{
    error::Result,
    project::Project,
    screen::Screen,
    table::{Align, Table},
};
use serde::Serialize;
use sizewise_contract::units::MicroUsd;
use sizewise_store::{Spent, Store};

#[derive(Serialize)]
pub(crate) struct Spending {
    /// In all, what is taken out for calls under way included.
    micro_usd: MicroUsd,
    /// By task, and what was passed on by name.
    pub(crate) days: Vec<Spent>,
    /// The same money by those who asked for it (`key/ID`, `team/NAME`), and by provider where it has a budget of its own.
    pub(crate) also: Vec<Spent>,
}

pub(super) fn run(project: &Project, screen: &Screen) -> Result<u8> {
    let spending = spending(&store(project)?)?;
    screen.result("spending", &spending, || text(&spending));
    Ok(DONE)
}

/// What was spent, by task and by whoever else has a purse.
pub(crate) fn spending(store: &Store) -> Result<Spending> {
    // No task has a slash in its name.
    let (also, days): (Vec<Spent>, Vec<Spent>) =
        store.spending()?.into_iter().partition(|spent| spent.payer.contains('/'));
    let micro_usd = days.iter().fold(MicroUsd(0), |sum, day| sum.saturating_add(day.micro_usd));
    Ok(Spending { micro_usd, days, also })
}

fn text(spending: &Spending) -> String {
    if spending.days.is_empty() {
        return "No remote model was called. A task hands on what it is not sure of with remote = \"NAME\" under [cascade].\n"
            .into();
    }
    let mut told = format!("{}\n{} in all\n", table("task", &spending.days), spending.micro_usd);
    if !spending.also.is_empty() {
        told.push_str(&format!("\nThe same money by who asked for it:\n{}", table("payer", &spending.also)));
    }
    told
}

fn table(payer: &'static str, days: &[Spent]) -> String {
    let mut table = Table::new(&[
        ("day (UTC)", Align::Left),
        (payer, Align::Left),
        ("provider", Align::Left),
        ("calls", Align::Right),
        ("cost", Align::Right),
    ]);
    for day in days {
        let cost = day.micro_usd.to_string();
        table.row([day.day.clone(), day.payer.clone(), day.provider.clone(), day.calls.to_string(), cost]);
    }
    table.render()
}
