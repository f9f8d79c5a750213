//! What does each command do?
//!
//! One module a command: it takes its arguments, calls the crates below and says what came of it. What a command
//! computes it returns as a value with a JSON form; the text for people is made from the same value.

mod adapt;
pub(crate) mod audit;
mod batch;
pub(crate) mod bench;
mod certify;
mod compress;
pub(crate) mod decide;
pub(crate) mod discover;
mod distil;
mod doctor;
mod erase;
pub(crate) mod evaluate;
mod evidence;
pub(crate) mod gates;
mod init;
mod keys;
mod kinds;
pub(crate) mod list;
mod make;
mod models;
pub(crate) mod privacy;
pub(crate) mod queue;
mod quickstart;
mod recipe;
mod records;
mod redact;
mod renew;
mod report;
mod savings;
mod serve;
pub(crate) mod shift;
pub(crate) mod spending;
mod teach;
mod train;
pub(crate) mod trained;
pub(crate) mod trial;
mod write;

pub use teach::TeacherSettings;

use crate::{
    cli::{Cli, Command},
    error::Result,
    prices,
    project::Project,
    screen::Screen,
};

/// Done.
pub(crate) const DONE: u8 = 0;
/// The evidence refuses the promise.
const REFUSED: u8 = 100;
/// There is too little evidence.
const TOO_LITTLE: u8 = 101;

/// Runs a command and returns the exit code.
///
/// # Errors
/// Whatever the command fails with.
pub fn run(cli: &Cli, screen: &Screen) -> Result<u8> {
    if !matches!(
        cli.command,
        Command::Batch(_)
            | Command::Report(_)
            | Command::Queue(_)
            | Command::Models(_)
            | Command::Audit(_)
            | Command::Records(_)
    ) {
        screen.without_file()?;
    }
    if let Command::Quickstart(arguments) = &cli.command {
        return quickstart::run(arguments, screen);
    }
    if let Command::Models(what) = &cli.command {
        return models::run(cli.project.as_deref(), what, screen);
    }
    if let Command::Redact(arguments) = &cli.command {
        return redact::run(arguments, screen);
    }
    let project = Project::find(cli.project.as_deref())?;
    match &cli.command {
        Command::Init(arguments) => init::run(&project, arguments, screen),
        Command::Discover(arguments) => discover::run(&project, arguments, screen),
        Command::Make(arguments) => make::run(&project, arguments, screen),
        Command::Train(arguments) => train::run(&project, arguments, screen),
        Command::Compress(arguments) => compress::run(&project, arguments, screen),
        Command::Teach(arguments) => teach::run(&project, arguments, screen),
        Command::Write(arguments) => write::run(&project, arguments, screen),
        Command::Certify(arguments) => certify::run(&project, arguments, screen),
        Command::Renew(arguments) => renew::run(&project, arguments, screen),
        Command::Evaluate(arguments) => evaluate::run(&project, arguments, screen),
        Command::Bench(arguments) => bench::run(&project, arguments, screen),
        Command::Serve(arguments) => serve::run(&project, arguments, screen),
        Command::Decide(arguments) => decide::run(&project, arguments, screen),
        Command::Batch(arguments) => batch::run(&project, arguments, screen),
        Command::Report(arguments) => report::run(&project, arguments, screen),
        Command::Doctor => doctor::run(&project, screen),
        Command::Lint(arguments) => doctor::lint(&project, arguments, screen),
        Command::List => list::run(&project, screen),
        Command::Show(arguments) => list::show(&project, arguments, screen),
        Command::Queue(what) => queue::run(&project, what, screen),
        Command::AlertRules => {
            let rules = crate::alerts::RULES;
            screen.result("alert-rules", &serde_json::json!({ "rules": rules }), || rules.to_owned());
            Ok(DONE)
        }
        Command::Evidence(arguments) => evidence::run(&project, arguments, screen),
        Command::Kinds(arguments) => kinds::run(&project, arguments, screen),
        Command::Records(arguments) => records::run(&project, arguments, screen),
        Command::Spending => spending::run(&project, screen),
        Command::Prices => {
            screen.result("prices", &prices::all(), prices::text);
            Ok(DONE)
        }
        Command::Savings(arguments) => savings::run(&project, arguments, screen),
        Command::Shift(arguments) => shift::run(&project, arguments, screen),
        Command::Keys(what) => keys::run(&project, what, screen),
        Command::Trial(what) => trial::run(&project, what, screen),
        Command::Promote(arguments) => gates::promote(&project, arguments, screen),
        Command::Rollback(arguments) => list::rollback(&project, arguments, screen),
        Command::Audit(what) => audit::run(&project, what, screen),
        Command::Erase(arguments) => erase::run(&project, arguments, screen),
        Command::Retain => erase::retain(&project, screen),
        Command::Models(_) | Command::Quickstart(_) | Command::Redact(_) => Ok(DONE),
    }
}
