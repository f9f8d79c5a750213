//! Which command was asked for?

use clap::Parser;
use sizewise::{cli::Cli, commands, screen::Screen};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = match Screen::new(&cli) {
        Ok(screen) => screen,
        Err(error) => {
            Screen::plain().failed(&error);
            return ExitCode::from(error.exit_code());
        }
    };
    match commands::run(&cli, &screen) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            screen.failed(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
