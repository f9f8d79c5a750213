//! What does it take to make a release again?
//!
//! The part `recipe.json` of a release: the command with every option that was not its default, the tables and models that went in, by
//! hash, and what the models' makers say of their licence. It is written when the release is made, so it names what was there then.

use super::{
    models::licence_of_files,
    trained::{ADAPTED, COMPRESSED},
};
use crate::{
    cli::{Compress, Doubted, Train},
    error::{Error, Result},
    project::Project,
};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sizewise_contract::{ContentHash, Task};
use sizewise_learn::{
    prepare::hash_file,
    teach::{answers::ANSWERS_FILE, written::WRITTEN_FILE},
};
use sizewise_models::{builtin, encoder::EncoderFiles, static_embeddings::StaticEmbeddings};
use sizewise_store::{Release, Store};
use std::path::Path;

/// Name of the part.
pub(super) const RECIPE: &str = "recipe.json";
const SCHEMA: u32 = 1;

/// What a release was made with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Recipe {
    schema: u32,
    /// `train` or `compress`.
    pub(super) command: String,
    /// Its options, as they are typed; those left out had their defaults.
    pub(super) options: Vec<String>,
    pub(super) seed: u64,
    pub(super) tables: Vec<TableUsed>,
    pub(super) models: Vec<ModelUsed>,
}

/// A table that was learnt from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TableUsed {
    /// From the task's folder, or as it was named.
    pub(super) path: String,
    pub(super) hash: ContentHash,
}

/// A model that the release's own were fitted with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ModelUsed {
    pub(super) part: ModelPart,
    pub(super) name: String,
    /// Of the model as it came.
    pub(super) hash: ContentHash,
    /// Of the model as the release answers with it: another where it was adapted or compressed.
    pub(super) serves: ContentHash,
    pub(super) origin: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) licence: Option<String>,
    /// The release whose encoder was gone on with, where it was one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from_release: Option<ContentHash>,
}

/// What a model is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ModelPart {
    StaticEmbeddings,
    Encoder,
}

impl ModelPart {
    /// The name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::StaticEmbeddings => "static embeddings",
            Self::Encoder => "encoder",
        }
    }
}

/// Where a model came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(super) enum Origin {
    /// The program brings it along.
    BuiltIn,
    /// It was brought into the project.
    Project {
        /// From where.
        source: String,
    },
    /// It lay in a folder.
    Folder {
        /// Which.
        path: String,
    },
}

impl ModelUsed {
    /// The built-in static embeddings.
    pub(super) fn static_embeddings(loaded: &StaticEmbeddings) -> Self {
        Self {
            part: ModelPart::StaticEmbeddings,
            name: builtin::STATIC_NAME.into(),
            hash: loaded.hash(),
            serves: loaded.hash(),
            origin: Origin::BuiltIn,
            revision: None,
            licence: builtin::licence_in(builtin::static_embeddings_notice()).map(str::to_owned),
            from_release: None,
        }
    }

    /// The built-in encoder.
    pub(super) fn builtin_encoder() -> Self {
        let hash = builtin::encoder_files().hash();
        Self {
            part: ModelPart::Encoder,
            name: builtin::ENCODER_NAME.into(),
            hash,
            serves: hash,
            origin: Origin::BuiltIn,
            revision: None,
            licence: builtin::licence_in(builtin::encoder_notice()).map(str::to_owned),
            from_release: None,
        }
    }

    /// The encoder that `--encoder` names: a folder, or a model of the project.
    pub(super) fn named_encoder(store: &Store, named: &Path, files: &EncoderFiles<Vec<u8>>) -> Result<Self> {
        let hash = files.as_ref().hash();
        let of = |name, origin, revision, licence| Self {
            part: ModelPart::Encoder,
            name,
            hash,
            serves: hash,
            origin,
            revision,
            licence,
            from_release: None,
        };
        if named.is_dir() {
            let read = |name: &str| std::fs::read(named.join(name)).ok();
            let licence = licence_of_files(read("README.md").as_deref(), read("NOTICE").as_deref());
            let full = named.canonicalize().unwrap_or_else(|_| named.to_owned());
            let name = full.file_name().map_or_else(|| "an encoder".into(), |name| name.to_string_lossy());
            let path = named.display().to_string();
            return Ok(of(name.into_owned(), Origin::Folder { path }, None, licence));
        }
        let name = named.to_string_lossy().into_owned();
        let model = store.model(&name)?;
        let source = model.as_ref().map_or_else(String::new, |model| model.source.clone());
        let (revision, licence) = model.map_or((None, None), |model| (model.revision, model.licence));
        Ok(of(name, Origin::Project { source }, revision, licence))
    }

    /// Whether the model is to be had as it came: none where that cannot be said.
    pub(super) fn is_still_there(&self, project: &Project) -> Option<bool> {
        match &self.origin {
            // Whether this program's are those that the release needs is seen when it is loaded.
            Origin::BuiltIn if self.part == ModelPart::StaticEmbeddings => None,
            Origin::BuiltIn => Some(builtin::encoder_files().hash() == self.hash),
            Origin::Project { .. } | Origin::Folder { .. } => {
                let named = match &self.origin {
                    Origin::Folder { path } => path,
                    _ => &self.name,
                };
                let files = super::models::encoder_files(project, Path::new(named)).ok();
                Some(files.is_some_and(|files| files.as_ref().hash() == self.hash))
            }
        }
    }
}

impl Recipe {
    /// What `train` makes a release with.
    pub(super) fn of_train(
        arguments: &Train,
        (task, folder): (&Task, &Path),
        models: Vec<ModelUsed>,
    ) -> Result<Self> {
        let mut options = Options::default();
        options.flag("balance", arguments.balance);
        options.value("encoder", arguments.encoder.as_ref().map(|named| named.display().to_string()));
        if arguments.doubted == Doubted::Keep {
            options.value("doubted", Some("keep".into()));
        }
        let adapt = &arguments.adapt;
        let method = adapt.method.and_then(|method| method.to_possible_value());
        options.value("adapt", method.map(|value| value.get_name().to_owned()));
        options.value("epochs", adapt.epochs.map(|epochs| epochs.to_string()));
        options.value("learning-rate", adapt.learning_rate.map(|rate| rate.to_string()));
        options.value("rank", adapt.rank.map(|rank| rank.to_string()));
        options.flag("as-adapter", adapt.as_adapter);
        options.value("batch", adapt.batch.map(|batch| batch.to_string()));
        options.flag("distil", arguments.distil.distil);
        options
            .value("unlabelled", arguments.distil.unlabelled.as_ref().map(|path| path.display().to_string()));
        let unlabelled = arguments.distil.unlabelled.as_deref();
        Self::of("train", (options, arguments.seed), (task, folder, unlabelled), models)
    }

    /// What `compress` makes a release with.
    pub(super) fn of_compress(
        arguments: &Compress,
        (task, folder): (&Task, &Path),
        models: Vec<ModelUsed>,
    ) -> Result<Self> {
        let mut options = Options::default();
        options.flag("balance", arguments.balance);
        options.value("encoder", arguments.encoder.as_ref().map(|named| named.display().to_string()));
        options.value("max-ms", arguments.max_ms.map(|ms| ms.to_string()));
        options.value("max-mb", arguments.max_mb.map(|mb| mb.to_string()));
        options.value("share-of-time", arguments.share_of_time.map(|share| share.to_string()));
        options.value("epochs", arguments.epochs.map(|epochs| epochs.to_string()));
        options.flag("distil", arguments.distil.distil);
        options
            .value("unlabelled", arguments.distil.unlabelled.as_ref().map(|path| path.display().to_string()));
        let unlabelled = arguments.distil.unlabelled.as_deref();
        Self::of("compress", (options, arguments.seed), (task, folder, unlabelled), models)
    }

    fn of(
        command: &str,
        (options, seed): (Options, u64),
        (task, folder, unlabelled): (&Task, &Path, Option<&Path>),
        models: Vec<ModelUsed>,
    ) -> Result<Self> {
        let mut tables = Vec::new();
        for path in [task.data.train.as_str(), task.data.dev.as_str(), ANSWERS_FILE, WRITTEN_FILE] {
            if [ANSWERS_FILE, WRITTEN_FILE].contains(&path) && !folder.join(path).is_file() {
                continue;
            }
            tables.push(TableUsed { path: path.to_owned(), hash: hash_file(&folder.join(path))? });
        }
        if let Some(path) = unlabelled {
            // Named from where the command was called, so in full: another call comes from elsewhere.
            let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            tables.push(TableUsed { path: full.display().to_string(), hash: hash_file(path)? });
        }
        let mut options = options;
        options.value("seed", Some(seed.to_string()));
        Ok(Self { schema: SCHEMA, command: command.to_owned(), options: options.0, seed, tables, models })
    }

    /// The recipe of a release; none of one that was made before they were kept.
    pub(super) fn read(store: &Store, release: &Release) -> Result<Option<Self>> {
        if !release.manifest.parts.iter().any(|part| part.name == RECIPE) {
            return Ok(None);
        }
        let recipe: Self = serde_json::from_slice(&store.part(release, RECIPE)?)
            .map_err(|error| damaged(release, &error.to_string()))?;
        match recipe.schema {
            SCHEMA => Ok(Some(recipe)),
            other => Err(damaged(release, &format!("schema {other}; this build reads {SCHEMA}"))),
        }
    }

    /// The recipe of a release that answers with this encoder, or with none.
    pub(super) fn serving(mut self, encoder: Option<ContentHash>) -> Self {
        self.models.retain_mut(|model| match (model.part, encoder) {
            (ModelPart::StaticEmbeddings, _) => true,
            (ModelPart::Encoder, Some(encoder)) => {
                model.serves = encoder;
                true
            }
            (ModelPart::Encoder, None) => false,
        });
        self
    }

    /// The model of a part.
    pub(super) fn model(&self, part: ModelPart) -> Option<&ModelUsed> {
        self.models.iter().find(|model| model.part == part)
    }

    /// The tables that are no longer as they were.
    pub(super) fn tables_changed(&self, folder: &Path) -> Vec<&str> {
        let changed = self.tables.iter().filter(|table| {
            // A path in full stays one.
            !matches!(hash_file(&folder.join(&table.path)), Ok(hash) if hash == table.hash)
        });
        changed.map(|table| table.path.as_str()).collect()
    }

    /// The command, as it would be typed.
    pub(super) fn typed(&self, task: &str) -> String {
        let mut words = vec!["sizewise".to_owned(), self.command.clone(), task.to_owned()];
        words.extend(self.options.iter().cloned());
        words.join(" ")
    }
}

/// What is known of a release's encoder, for another that goes on with it.
pub(super) fn encoder_of(store: &Store, release: &Release, serves: ContentHash) -> Result<ModelUsed> {
    let recipe = Recipe::read(store, release)?;
    let used = recipe.and_then(|recipe| recipe.model(ModelPart::Encoder).cloned());
    let used = used.unwrap_or_else(|| encoder_unrecorded(release, serves));
    Ok(ModelUsed { from_release: Some(release.id), ..used })
}

/// What is known of the encoder of a release without a recipe.
pub(super) fn encoder_unrecorded(release: &Release, serves: ContentHash) -> ModelUsed {
    let own = builtin::encoder_files().hash();
    if serves == own {
        return ModelUsed::builtin_encoder();
    }
    let changed =
        release.manifest.parts.iter().any(|part| [ADAPTED, COMPRESSED].contains(&part.name.as_str()));
    ModelUsed {
        name: if changed { "an encoder that was changed here".into() } else { "an encoder".into() },
        hash: serves,
        serves,
        origin: Origin::Folder { path: String::new() },
        licence: None,
        ..ModelUsed::builtin_encoder()
    }
}

fn damaged(release: &Release, problem: &str) -> Error {
    Error::Policy {
        message: format!("{RECIPE} of release {}: {problem}", release.id.short()),
        code: sizewise_contract::Code::ReleaseDamaged,
        hint: format!("run `sizewise train {}` again", release.manifest.task),
    }
}

/// Options as they are typed.
#[derive(Default)]
struct Options(Vec<String>);

impl Options {
    fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.0.push(format!("--{name}"));
        }
    }

    fn value(&mut self, name: &str, value: Option<String>) {
        self.0.extend(value.into_iter().flat_map(|value| [format!("--{name}"), value]));
    }
}
