//! Which files make an encoder?

use crate::error::{Error, Result};
use sizewise_contract::{ContentHash, limits};
use std::path::Path;

/// The bytes of an encoder's files.
#[derive(Debug, Clone)]
pub struct EncoderFiles<B> {
    /// `config.json`
    pub config: B,
    /// `tokenizer.json`
    pub tokenizer: B,
    /// `1_Pooling/config.json`, where there is one.
    pub pooling: Option<B>,
    /// `config_sentence_transformers.json`, where there is one: it may name a prompt.
    pub prompts: Option<B>,
    /// Every `*.safetensors` with its name, sorted.
    pub weights: Vec<(String, B)>,
}

impl EncoderFiles<Vec<u8>> {
    /// Reads a folder.
    ///
    /// # Errors
    /// Fails when a file is missing or larger than the limits.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .map_err(|cause| Error::FileSystem { path: folder.to_owned(), cause })?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".safetensors"))
            .collect();
        names.sort();
        if names.is_empty() {
            let problem = "it holds no *.safetensors; other weight formats are not read".to_owned();
            return Err(Error::Unsupported { file: folder.display().to_string(), problem });
        }
        let weights = names.into_iter().map(|name| {
            let bytes = read(&folder.join(&name), limits::MODEL_FILE_BYTES)?;
            Ok((name, bytes))
        });
        let small = limits::TOKENIZER_BYTES as u64;
        let optional = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { read(&path, small).map(Some) } else { Ok(None) }
        };
        Ok(Self {
            config: read(&folder.join("config.json"), small)?,
            tokenizer: read(&folder.join("tokenizer.json"), small)?,
            pooling: optional("1_Pooling/config.json")?,
            prompts: optional("config_sentence_transformers.json")?,
            weights: weights.collect::<Result<_>>()?,
        })
    }

    /// Borrows the bytes.
    #[must_use]
    pub fn as_ref(&self) -> EncoderFiles<&[u8]> {
        EncoderFiles {
            config: &self.config,
            tokenizer: &self.tokenizer,
            pooling: self.pooling.as_deref(),
            prompts: self.prompts.as_deref(),
            weights: self.weights.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect(),
        }
    }
}

impl EncoderFiles<&[u8]> {
    /// Hash of all files.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        let mut builder = ContentHash::builder();
        builder.field(self.config);
        builder.field(self.tokenizer);
        builder.field(self.pooling.unwrap_or_default());
        self.weights.iter().for_each(|(_, bytes)| builder.field(bytes));
        // Hashes of encoders without prompts stay as they were; weights begin with other bytes than JSON.
        self.prompts.iter().for_each(|bytes| builder.field(bytes));
        builder.finish()
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |cause| Error::FileSystem { path: path.to_owned(), cause };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > most {
        return Err(Error::File {
            file: path.display().to_string(),
            problem: format!("{size} bytes; at most {most} are read"),
        });
    }
    std::fs::read(path).map_err(failed)
}
