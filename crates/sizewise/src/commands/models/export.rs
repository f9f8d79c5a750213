//! `sizewise models export`: how does an encoder get to other programs?
//!
//! As the folder that the public Python libraries read, or as one ONNX graph; what tells texts to ids and how to pool goes
//! along. Bytes become floating point numbers on the way, unless they are wanted as they are.

use super::{
    derive::target,
    shelf::{files_of, find},
};
use crate::{
    cli::ExportFormat,
    commands::{
        DONE,
        trained::{store, whole_encoder_files},
    },
    error::{Error, Result},
    project::Project,
    screen::Screen,
};
use serde::Serialize;
use sizewise_contract::Code;
use sizewise_learn::{onnx, quantize};
use sizewise_models::{builtin, encoder::EncoderFiles};
use std::{fmt::Write, path::PathBuf};

#[derive(Serialize)]
struct Exported {
    folder: PathBuf,
    files: Vec<String>,
    bytes: usize,
}

pub(super) fn run(
    project: &Project,
    name: &str,
    (format, as_is): (ExportFormat, bool),
    screen: &Screen,
) -> Result<u8> {
    let folder = target(screen)?;
    if folder.exists() {
        return Err(Error::Exists { path: folder, hint: "choose a folder that is not there yet".into() });
    }
    if as_is && format == ExportFormat::Onnx {
        return Err(Error::usage("an ONNX graph is written in floating point; leave --as-is out"));
    }
    let out = match named(project, name)? {
        Some(files) => {
            if format == ExportFormat::Safetensors && !as_is {
                refuse_narrowed(name, &files)?;
            }
            written_as(files, format, as_is)?
        }
        None => {
            let mut out = written_as(built_in(), format, as_is)?;
            out.push(("NOTICE".into(), builtin::encoder_notice().into()));
            out
        }
    };
    for (path, bytes) in &out {
        let path = folder.join(path);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        written.and_then(|()| std::fs::write(&path, bytes)).map_err(|cause| Error::file(&path, cause))?;
    }
    let exported = Exported {
        bytes: out.iter().map(|(_, bytes)| bytes.len()).sum(),
        files: out.into_iter().map(|(path, _)| path).collect(),
        folder,
    };
    screen.result("models export", &exported, || {
        let mut text = format!("{}: {:.1} MB\n", exported.folder.display(), exported.bytes as f64 / 1e6);
        for file in &exported.files {
            let _ = writeln!(text, "  {file}");
        }
        text
    });
    Ok(DONE)
}

/// The files of a model of the project or of a task's own encoder; none stands for the built-in one.
fn named(project: &Project, name: &str) -> Result<Option<EncoderFiles<Vec<u8>>>> {
    let is_task = project.task_names()?.iter().any(|task| task == name);
    if name == builtin::ENCODER_NAME && !is_task && !project.exists() {
        return Ok(None);
    }
    let store = store(project)?;
    if let Some(model) = store.model(name)? {
        return Ok(Some(files_of(&store, &model)?));
    }
    if is_task {
        let release = store.in_force(name)?.ok_or_else(|| Error::NotTrained { task: name.to_owned() })?;
        let files = whole_encoder_files(&store, &release)?.ok_or_else(|| Error::Policy {
            message: format!("the release of `{name}` has no encoder of its own: it uses the built-in one"),
            code: Code::ModelUnsupported,
            hint: format!("export that one: sizewise models export {} -o DIR", builtin::ENCODER_NAME),
        })?;
        return Ok(Some(files));
    }
    if name == builtin::ENCODER_NAME {
        return Ok(None);
    }
    Ok(Some(files_of(&store, &find(&store, name)?)?))
}

fn built_in() -> EncoderFiles<Vec<u8>> {
    let files = builtin::encoder_files();
    EncoderFiles {
        config: files.config.to_vec(),
        tokenizer: files.tokenizer.to_vec(),
        pooling: files.pooling.map(<[u8]>::to_vec),
        prompts: files.prompts.map(<[u8]>::to_vec),
        weights: files.weights.into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect(),
    }
}

/// Other programs take all layers to be alike.
fn refuse_narrowed(name: &str, files: &EncoderFiles<Vec<u8>>) -> Result<()> {
    let narrowed = files.as_ref().narrowed_layers()?;
    let Some(first) = narrowed.first() else { return Ok(()) };
    Err(Error::Policy {
        message: format!(
            "{} layers of `{name}` have fewer heads or a narrower feed-forward part than config.json says, layer {first} for one: other programs cannot read them",
            narrowed.len()
        ),
        code: Code::ModelUnsupported,
        hint:
            "export it as a graph (--format onnx) or for this program (--as-is), or compress by layers alone"
                .into(),
    })
}

/// Paths and bytes of what is exported.
fn written_as(
    files: EncoderFiles<Vec<u8>>,
    format: ExportFormat,
    as_is: bool,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut out: Vec<(String, Vec<u8>)> = Vec::new();
    match format {
        ExportFormat::Onnx => out.push(("model.onnx".into(), onnx::graph(&files.as_ref())?)),
        ExportFormat::Safetensors => {
            for (path, bytes) in &files.weights {
                let weights = if as_is { bytes.clone() } else { quantize::to_floats(path, bytes)? };
                out.push((path.clone(), weights));
            }
        }
    }
    out.push(("config.json".into(), files.config));
    out.push(("tokenizer.json".into(), files.tokenizer));
    out.extend(files.prompts.map(|prompts| ("config_sentence_transformers.json".to_owned(), prompts)));
    if let Some(pooling) = files.pooling {
        out.push(("1_Pooling/config.json".into(), pooling));
        out.push(("modules.json".into(), MODULES.into()));
    }
    Ok(out)
}

/// What the sentence-transformers library reads first: the encoder, its pooling, and unit length.
const MODULES: &str = r#"[
  {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
  {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
  {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
]
"#;
