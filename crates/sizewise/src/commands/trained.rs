//! Which models does a task have, and on which rows may they be judged?

use crate::{
    error::{Error, Result},
    project::Project,
};
use sizewise_contract::{Code, Example, Gold, Task};
use sizewise_engine::ENCODER_PARTS;
use sizewise_learn::{
    dataset::{Dataset, read_gold},
    prepare::hash_file,
    train::{self, Judged, Tools},
};
use sizewise_models::{
    builtin,
    encoder::{Encoder, EncoderFiles},
    package::TaskModels,
    static_embeddings::StaticEmbeddings,
};
use sizewise_store::{Release, Store};
use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// Name of the part with the answers that fix the plan of a certificate.
pub(super) const DEVELOPMENT: &str = "development.json";
/// Name of the part with what training came to.
pub(super) const SUMMARY: &str = "summary.json";
/// Name of the part with what adapting the encoder came to.
pub(super) const ADAPTED: &str = "adapted.json";

/// A release with its models in memory, outside of a server.
pub(super) struct Trained {
    pub(super) release: Release,
    pub(super) task: Task,
    models: TaskModels,
    static_embeddings: StaticEmbeddings,
    encoder: Option<Encoder>,
}

/// Opens the project's store.
pub(super) fn store(project: &Project) -> Result<Store> {
    Ok(Store::open(&project.store_folder())?)
}

impl Trained {
    /// Loads a release.
    pub(super) fn load(store: &Store, release: Release) -> Result<Self> {
        let task = parse(&release)?;
        let models = TaskModels::from_parts(|part| store.part(&release, part).map_err(Error::from))?;
        let encoder = match &models.encoder {
            None => None,
            Some(_) => Some(match encoder_files(store, &release)? {
                Some(files) => Encoder::from_files(&files.as_ref())?,
                None => builtin::encoder()?,
            }),
        };
        let static_embeddings = builtin::static_embeddings()?;
        let other = models.static_embeddings != static_embeddings.hash()
            || encoder.as_ref().map(Encoder::hash) != models.encoder;
        if other {
            return Err(Error::Policy {
                message: format!("release {} was made by another build of the program", release.id.short()),
                code: Code::ReleaseDamaged,
                hint: format!("run `sizewise train {}` again", task.name),
            });
        }
        Ok(Self { release, task, models, static_embeddings, encoder })
    }

    /// The encoder, where the cascade has one.
    pub(super) fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_ref()
    }

    /// Lets every tier judge rows.
    pub(super) fn judge(
        &self,
        rows: &[Example<Gold>],
        stop: &AtomicBool,
        progress: &(dyn Fn(&str, usize, usize) + Sync),
    ) -> Result<Vec<Vec<Judged>>> {
        let tools = Tools {
            static_embeddings: &self.static_embeddings,
            encoder: self.encoder.as_ref(),
            threads: threads(),
            seed: 0,
            balance: false,
            progress,
            stop,
            unseen: None,
        };
        Ok(train::judge(&self.task, &self.models, rows, tools)?)
    }
}

/// The contract of a release.
pub(super) fn parse(release: &Release) -> Result<Task> {
    Task::parse(&release.manifest.task_file).map_err(|error| Error::Policy {
        message: format!("the contract of release {}: {error}", release.id.short()),
        code: Code::ReleaseDamaged,
        hint: format!("run `sizewise train {}` again", release.manifest.task),
    })
}

/// The files of a release's own encoder; none where it uses the built-in one.
fn encoder_files(store: &Store, release: &Release) -> Result<Option<EncoderFiles<Vec<u8>>>> {
    let [config, tokenizer, pooling, weights] = ENCODER_PARTS;
    let has = |name: &str| release.manifest.parts.iter().any(|part| part.name == name);
    if !has(config) {
        return Ok(None);
    }
    let names = release.manifest.parts.iter().filter_map(|part| part.name.strip_prefix(weights));
    let weights = names.map(|name| Ok((name.to_owned(), store.part(release, &format!("{weights}{name}"))?)));
    Ok(Some(EncoderFiles {
        config: store.part(release, config)?,
        tokenizer: store.part(release, tokenizer)?,
        pooling: if has(pooling) { Some(store.part(release, pooling)?) } else { None },
        weights: weights.collect::<Result<_>>()?,
    }))
}

/// Rows that may be looked at: the development rows, or a table of the user's that is not the locked one.
pub(super) fn open_rows(
    project: &Project,
    task: &Task,
    against: Option<&Path>,
) -> Result<(PathBuf, Dataset<Gold>)> {
    let folder = project.task_folder(&task.name);
    let path = against.map_or_else(|| folder.join(&task.data.dev), Path::to_owned);
    if against.is_some() && is_locked(&path, task, &folder) {
        return Err(Error::Policy {
            message: format!("{} holds the locked rows", path.display()),
            code: Code::LockedRowsSpent,
            hint: "only `sizewise certify` opens them: rows that were looked at prove nothing".into(),
        });
    }
    let rows = read_gold(task, &path)?;
    if rows.examples.is_empty() {
        return Err(Error::Policy {
            message: format!("{} holds no row", path.display()),
            code: Code::TooFewExamples,
            hint: "name a table of labelled rows with --against FILE".into(),
        });
    }
    Ok((path, rows))
}

/// Whether a table is the locked one: the same file, or the same bytes.
fn is_locked(path: &Path, task: &Task, folder: &Path) -> bool {
    let locked = folder.join(&task.data.locked);
    let same_file = matches!((path.canonicalize(), locked.canonicalize()), (Ok(a), Ok(b)) if a == b);
    same_file || matches!((hash_file(path), hash_file(&locked)), (Ok(a), Ok(b)) if a == b)
}

/// One thread a core.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
