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
use sizewise_store::Spent;

#[derive(Serialize)]
struct Spending {
    /// In all, what is taken out for calls under way included.
    micro_usd: MicroUsd,
    days: Vec<Spent>,
}

pub(super) fn run(project: &Project, screen: &Screen) -> Result<u8> {
    let days = store(project)?.spending()?;
    let micro_usd = days.iter().fold(MicroUsd(0), |sum, day| sum.saturating_add(day.micro_usd));
    let spending = Spending { micro_usd, days };
    screen.result("spending", &spending, || text(&spending));
    Ok(DONE)
}

fn text(spending: &Spending) -> String {
    if spending.days.is_empty() {
        return "No remote model was called. A task hands on what it is not sure of with remote = \"NAME\" under [cascade].\n"
            .into();
    }
    let mut table = Table::new(&[
        ("day (UTC)", Align::Left),
        ("task", Align::Left),
        ("provider", Align::Left),
        ("calls", Align::Right),
        ("cost", Align::Right),
    ]);
    for day in &spending.days {
        let cost = day.micro_usd.to_string();
        table.row([day.day.clone(), day.task.clone(), day.provider.clone(), day.calls.to_string(), cost]);
    }
    format!("{}\n{} in all\n", table.render(), spending.micro_usd)
}
