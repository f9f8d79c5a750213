//! Which models are on the shelf? They are listed, shown, removed and verified here.

use crate::{
    clock,
    commands::{DONE, trained::store},
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table},
};
use serde::Serialize;
use sizewise_contract::{Code, did_you_mean};
use sizewise_models::encoder::EncoderFiles;
use sizewise_store::{Model, Store};
use std::path::Path;

/// The encoder that `--encoder` names: a folder, or a model of the project.
pub(in crate::commands) fn encoder_files(project: &Project, named: &Path) -> Result<EncoderFiles<Vec<u8>>> {
    if named.is_dir() {
        return Ok(EncoderFiles::read(named)?);
    }
    let store = store(project)?;
    let model = find(&store, &named.to_string_lossy())?;
    files_of(&store, &model)
}

/// A model's files as an encoder's.
pub(super) fn files_of(store: &Store, model: &Model) -> Result<EncoderFiles<Vec<u8>>> {
    let read = |path: &str| match model.files.iter().find(|file| file.path == path) {
        Some(file) => Ok(Some(store.model_file(file)?)),
        None => Ok(None),
    };
    assembled(&model.name, model.files.iter().map(|file| file.path.as_str()), read)
}

/// An encoder out of the files with these paths.
pub(super) fn assembled<'a>(
    name: &str,
    paths: impl Iterator<Item = &'a str>,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>>,
) -> Result<EncoderFiles<Vec<u8>>> {
    let missing = |path: &str| Error::Policy {
        message: format!("model `{name}` has no {path}"),
        code: Code::ModelUnsupported,
        hint: "an encoder is config.json, tokenizer.json and *.safetensors".into(),
    };
    let needed = |path: &str| read(path)?.ok_or_else(|| missing(path));
    let weights = paths.filter(|path| path.ends_with(".safetensors"));
    let weights = weights.map(|path| Ok((path.to_owned(), needed(path)?))).collect::<Result<Vec<_>>>()?;
    if weights.is_empty() {
        return Err(missing("*.safetensors"));
    }
    Ok(EncoderFiles {
        config: needed("config.json")?,
        tokenizer: needed("tokenizer.json")?,
        pooling: read("1_Pooling/config.json")?,
        prompts: read("config_sentence_transformers.json")?,
        weights,
    })
}

pub(super) fn find(store: &Store, name: &str) -> Result<Model> {
    if let Some(model) = store.model(name)? {
        return Ok(model);
    }
    let names: Vec<String> = store.models()?.into_iter().map(|model| model.name).collect();
    let meant = did_you_mean(name, names.iter().map(String::as_str));
    Err(Error::Policy {
        message: format!("there is no folder and no model `{name}`"),
        code: Code::ModelUnsupported,
        hint: match (meant, names.is_empty()) {
            (Some(meant), _) => format!("did you mean `{meant}`?"),
            (None, true) => "the project has no models yet: sizewise models pull SOURCE".into(),
            (None, false) => format!("the project has: {}", names.join(", ")),
        },
    })
}

pub(super) fn list(project: &Project, screen: &Screen) -> Result<u8> {
    let models = store(project)?.models()?;
    screen.result("models list", &models, || {
        if models.is_empty() {
            return "No models but the built-in ones. Bring one: sizewise models pull SOURCE\n".into();
        }
        let mut table = Table::new(&[
            ("model", Align::Left),
            ("size", Align::Right),
            ("licence", Align::Left),
            ("brought", Align::Left),
            ("from", Align::Left),
        ]);
        for model in &models {
            table.row([
                model.name.clone(),
                format!("{:.1} MB", model.bytes() as f64 / 1e6),
                model.licence.clone().unwrap_or_else(|| "not stated".into()),
                clock::minute(model.at),
                model.source.clone(),
            ]);
        }
        table.render()
    });
    Ok(DONE)
}

pub(super) fn show(project: &Project, name: &str, screen: &Screen) -> Result<u8> {
    let model = find(&store(project)?, name)?;
    screen.result("models show", &model, || {
        let mut out = format!(
            "{}\n  from     {}{}\n  licence  {}\n  brought  {}\n\n",
            screen.bold(&model.name),
            model.source,
            model.revision.as_ref().map_or(String::new(), |revision| format!(" at {revision}")),
            model.licence.as_deref().unwrap_or("not stated"),
            clock::minute(model.at)
        );
        let mut table =
            Table::new(&[("file", Align::Left), ("bytes", Align::Right), ("SHA-256", Align::Left)]);
        for file in &model.files {
            table.row([file.path.clone(), file.bytes.to_string(), file.hash.to_string()]);
        }
        out.push_str(&table.render());
        out
    });
    Ok(DONE)
}

pub(super) fn remove(project: &Project, name: &str, screen: &Screen) -> Result<u8> {
    let store = store(project)?;
    let model = find(&store, name)?;
    #[derive(Serialize)]
    struct Removed {
        model: String,
        freed_bytes: u64,
    }
    let removed = Removed { freed_bytes: store.remove_model(&model)?, model: model.name };
    screen.result("models rm", &removed, || {
        format!("{} is gone; {:.1} MB freed\n", removed.model, removed.freed_bytes as f64 / 1e6)
    });
    Ok(DONE)
}

pub(super) fn verify(project: &Project, name: Option<&str>, screen: &Screen) -> Result<u8> {
    let store = store(project)?;
    let models = match name {
        Some(name) => vec![find(&store, name)?],
        None => store.models()?,
    };
    #[derive(Serialize)]
    struct Verified {
        models: usize,
        files: usize,
        bytes: u64,
    }
    let (progress, mut verified) = (screen.progress(), Verified { models: 0, files: 0, bytes: 0 });
    for model in &models {
        progress.at("models", verified.models, models.len());
        for file in &model.files {
            store.model_file(file)?;
            verified.files += 1;
            verified.bytes += file.bytes;
        }
        // Whole bytes may still be those of a file that no build should load.
        sizewise_models::encoder::Encoder::from_files(&files_of(&store, model)?.as_ref())?;
        verified.models += 1;
    }
    progress.end();
    screen.result("models verify", &verified, || {
        format!(
            "{} models, {} files, {:.1} MB: every byte is as it came, and every encoder loads\n",
            verified.models,
            verified.files,
            verified.bytes as f64 / 1e6
        )
    });
    Ok(DONE)
}
