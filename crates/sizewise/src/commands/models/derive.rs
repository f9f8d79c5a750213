//! How are the weights made that ship with the program?

use crate::{
    cli::WeightForm,
    commands::DONE,
    error::{Error, Result},
    screen::Screen,
};
use serde::Serialize;
use sizewise_learn::{distill, quantize};
use std::path::{Path, PathBuf};

pub(super) fn quantize(encoder: &Path, to: WeightForm, screen: &Screen) -> Result<u8> {
    let folder = target(screen)?;
    let (form, command) = match to {
        WeightForm::Int8 => (quantize::Form::Bytes, "quantize"),
        WeightForm::Bf16 => (quantize::Form::Brains, "quantize --to bf16"),
        WeightForm::Int4 => (quantize::Form::Nibbles, "quantize --to int4"),
    };
    quantize::encoder(encoder, &folder, form, &distill::attribution(encoder, command)?)?;
    written(folder, screen)
}

pub(super) fn distil_static(encoder: &Path, screen: &Screen) -> Result<u8> {
    let folder = target(screen)?;
    let progress = screen.progress();
    let notice = distill::attribution(encoder, "distil-static")?;
    distill::static_embeddings(encoder, &folder, &notice, &|done, of| progress.at("word pieces", done, of))?;
    written(folder, screen)
}

/// The folder that the user named.
pub(super) fn target(screen: &Screen) -> Result<PathBuf> {
    screen.file().ok_or_else(|| Error::usage("say where to: -o FOLDER"))
}

fn written(folder: PathBuf, screen: &Screen) -> Result<u8> {
    #[derive(Serialize)]
    struct Written {
        folder: PathBuf,
        bytes: u64,
    }
    let written = Written { bytes: size(&folder)?, folder };
    screen.result("models", &written, || {
        format!(
            "{}: {:.1} MB, with its attribution in NOTICE\n",
            written.folder.display(),
            written.bytes as f64 / 1e6
        )
    });
    Ok(DONE)
}

fn size(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder).map_err(|cause| Error::file(folder, cause))?.flatten() {
        let facts = entry.metadata().map_err(|cause| Error::file(&entry.path(), cause))?;
        total += if facts.is_dir() { size(&entry.path())? } else { facts.len() };
    }
    Ok(total)
}
