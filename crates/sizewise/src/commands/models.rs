//! `sizewise models`: which models does the project have, where do they come from, and where do they go?

mod derive;
mod export;
mod pull;
mod shelf;

use crate::{cli::Models, error::Result, project::Project, screen::Screen};
use std::path::Path;

pub(super) use pull::licence_of_files;
pub(super) use shelf::encoder_files;

pub(super) fn run(project: Option<&Path>, what: &Models, screen: &Screen) -> Result<u8> {
    if !matches!(what, Models::Quantize { .. } | Models::DistilStatic { .. } | Models::Export { .. }) {
        screen.without_file()?;
    }
    let project = || Project::find(project);
    match what {
        Models::Quantize { encoder, to } => derive::quantize(encoder, *to, screen),
        Models::DistilStatic { encoder } => derive::distil_static(encoder, screen),
        Models::Pull(arguments) => pull::run(&project()?, arguments, screen),
        Models::List => shelf::list(&project()?, screen),
        Models::Show { name } => shelf::show(&project()?, name, screen),
        Models::Rm { name } => shelf::remove(&project()?, name, screen),
        Models::Verify { name } => shelf::verify(&project()?, name.as_deref(), screen),
        Models::Export { name, format, as_is } => export::run(&project()?, name, (*format, *as_is), screen),
    }
}
