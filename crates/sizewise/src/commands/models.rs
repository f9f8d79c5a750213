//! `sizewise models`: how are the weights made that ship with the program?

use super::DONE;
use crate::{
    cli::Models,
    error::{Error, Result},
    screen::Screen,
};
use serde::Serialize;
use sizewise_learn::{distill, quantize};
use std::path::{Path, PathBuf};

pub(super) fn run(what: &Models, screen: &Screen) -> Result<u8> {
    let folder = screen.file().ok_or_else(|| Error::usage("say where to: -o FOLDER"))?;
    match what {
        Models::Quantize { encoder } => {
            quantize::encoder(encoder, &folder, &distill::attribution(encoder, "quantize")?)?;
        }
        Models::DistilStatic { encoder } => {
            let progress = screen.progress();
            let notice = distill::attribution(encoder, "distil-static")?;
            distill::static_embeddings(encoder, &folder, &notice, &|done, of| {
                progress.at("word pieces", done, of)
            })?;
        }
    }
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
