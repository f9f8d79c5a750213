//! Which models does a task have, and on which rows may they be judged?

use crate::{
    error::{Error, Result},
    project::Project,
};
use sizewise_contract::{Code, ContentHash, Example, Gold, Task};
use sizewise_engine::{encoder_adapter, encoder_files};
use sizewise_learn::{
    adapt::merge,
    dataset::{Dataset, Locked, read_gold, training_texts},
    prepare::hash_file,
    train::{self, Judged, Tools},
};
use sizewise_models::{
    builtin,
    encoder::{Encoder, EncoderFiles, base_of_adapter},
    package::TaskModels,
    static_embeddings::StaticEmbeddings,
};
use sizewise_store::{Release, Store};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

/// Name of the part with the answers that fix the plan of a certificate.
pub(super) const DEVELOPMENT: &str = "development.json";
/// Name of the part with what training came to.
pub(super) const SUMMARY: &str = "summary.json";
/// Name of the part with what adapting the encoder came to.
pub(super) const ADAPTED: &str = "adapted.json";
/// Name of the part with what compressing the encoder came to.
pub(super) const COMPRESSED: &str = "compressed.json";

/// A release with its models in memory, outside of a server.
pub(crate) struct Trained {
    pub(super) release: Release,
    pub(super) task: Task,
    models: TaskModels,
    static_embeddings: Arc<StaticEmbeddings>,
    encoder: Option<Arc<Encoder>>,
    threads: usize,
}

/// Models that releases have in common, loaded once.
pub(crate) struct Shared {
    static_embeddings: Option<Arc<StaticEmbeddings>>,
    encoders: Vec<Arc<Encoder>>,
    threads: usize,
}

impl Shared {
    /// Nothing yet; encoders will use so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { static_embeddings: None, encoders: Vec::new(), threads }
    }

    fn static_embeddings(&mut self) -> Result<Arc<StaticEmbeddings>> {
        if let Some(loaded) = &self.static_embeddings {
            return Ok(Arc::clone(loaded));
        }
        let loaded = Arc::new(builtin::static_embeddings()?);
        self.static_embeddings = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    fn encoder(&mut self, hash: &ContentHash, store: &Store, release: &Release) -> Result<Arc<Encoder>> {
        if let Some(loaded) = self.encoders.iter().find(|encoder| encoder.hash() == *hash) {
            return Ok(Arc::clone(loaded));
        }
        let adapter = encoder_adapter(store, release)?;
        let base = adapter.as_deref().map_or(Ok(*hash), base_of_adapter)?;
        let base = match self.encoders.iter().find(|encoder| encoder.base_hash() == base) {
            Some(loaded) => loaded.without_adapter(),
            None => match encoder_files(store, release)? {
                Some(files) => Encoder::from_files(&files.as_ref())?,
                None => builtin::encoder()?,
            },
        };
        let loaded = match &adapter {
            Some(bytes) => base.with_adapter(bytes)?,
            None => base,
        };
        let loaded = Arc::new(loaded.with_threads(self.threads));
        self.encoders.push(Arc::clone(&loaded));
        Ok(loaded)
    }
}

/// What has just been loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// What belongs to the release alone.
    Models,
    /// The static embeddings.
    StaticEmbeddings,
    /// The encoder.
    Encoder,
}

/// The files of a release's own encoder, what was changed beside it put into its matrices; none where it uses the built-in one as it is.
pub(super) fn whole_encoder_files(store: &Store, release: &Release) -> Result<Option<EncoderFiles<Vec<u8>>>> {
    let (base, adapter) = (encoder_files(store, release)?, encoder_adapter(store, release)?);
    let Some(adapter) = adapter else { return Ok(base) };
    let base: EncoderFiles<&[u8]> = match &base {
        Some(files) => files.as_ref(),
        None => builtin::encoder_files(),
    };
    Ok(Some(merge(&base, &adapter)?))
}

/// Opens the project's store.
pub(super) fn store(project: &Project) -> Result<Store> {
    if !project.exists() && !Store::exists(&project.store_folder()) {
        return Err(Error::Policy {
            message: format!("there is no project in {}", project.root().display()),
            code: Code::UnknownTask,
            hint: "make one with `sizewise init TASK --from TABLE`, or name one with --project DIR".into(),
        });
    }
    Ok(Store::open(&project.store_folder())?)
}

impl Trained {
    /// Loads a release.
    pub(super) fn load(store: &Store, release: Release) -> Result<Self> {
        Self::load_sharing(store, release, (&mut Shared::new(threads()), &mut |_| {}))
    }

    /// Loads a release, but not what is loaded already, and tells when each step is done.
    pub(crate) fn load_sharing(
        store: &Store,
        release: Release,
        (shared, told): (&mut Shared, &mut dyn FnMut(Step)),
    ) -> Result<Self> {
        let task = parse(&release)?;
        let models = TaskModels::from_parts(|part| store.part(&release, part).map_err(Error::from))?;
        told(Step::Models);
        let static_embeddings = shared.static_embeddings()?;
        told(Step::StaticEmbeddings);
        let encoder = match &models.encoder {
            None => None,
            Some(hash) => Some(shared.encoder(hash, store, &release)?),
        };
        told(Step::Encoder);
        let other = models.static_embeddings != static_embeddings.hash()
            || encoder.as_ref().map(|encoder| encoder.hash()) != models.encoder;
        if other {
            return Err(Error::Policy {
                message: format!("release {} was made by another build of the program", release.id.short()),
                code: Code::ReleaseDamaged,
                hint: format!("run `sizewise train {}` again", task.name),
            });
        }
        Ok(Self { release, task, models, static_embeddings, encoder, threads: shared.threads })
    }

    /// What belongs to the release alone.
    pub(super) fn models(&self) -> &TaskModels {
        &self.models
    }

    /// The static embeddings.
    pub(super) fn static_embeddings(&self) -> &StaticEmbeddings {
        &self.static_embeddings
    }

    /// The encoder, where the cascade has one.
    pub(super) fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_deref()
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
            encoder: self.encoder(),
            threads: self.threads,
            seed: 0,
            balance: false,
            progress,
            stop,
            unseen: None,
            distil: None,
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

/// Rows that may be looked at.
pub(super) struct OpenRows {
    pub(super) path: PathBuf,
    pub(super) rows: Dataset<Gold>,
    /// Rows of the table that are locked, and so were left out.
    pub(super) locked: usize,
    /// Rows of the table that the models were fitted on, and so were left out.
    pub(super) fitted: usize,
}

/// The development rows, or those of a user's table that are neither locked nor fitted on.
pub(super) fn open_rows(project: &Project, task: &Task, against: Option<&Path>) -> Result<OpenRows> {
    let folder = project.task_folder(&task.name);
    let Some(path) = against.map(Path::to_owned) else {
        let path = folder.join(&task.data.dev);
        let rows = read_gold(task, &path)?;
        return match rows.examples.is_empty() {
            true => Err(nothing_left(&path, "name a table of labelled rows with --against FILE")),
            false => Ok(OpenRows { path, rows, locked: 0, fitted: 0 }),
        };
    };
    if is_locked(&path, task, &folder) {
        return Err(Error::Policy {
            message: format!("{} holds the locked rows", path.display()),
            code: Code::LockedRowsSpent,
            hint: "only `sizewise certify` opens them: rows that were looked at prove nothing".into(),
        });
    }
    let mut rows = read_gold(task, &path)?;
    let (closed, fitted_on) = (Locked::find(task, &folder)?.texts(task)?, training_texts(task, &folder)?);
    let all = rows.examples.len();
    rows.examples.retain(|example| !closed.contains(&example.text));
    let open = rows.examples.len();
    rows.examples.retain(|example| !fitted_on.contains(&example.text));
    let fitted = open - rows.examples.len();
    if rows.examples.is_empty() {
        let hint = match all {
            0 => "name a table of labelled rows with --against FILE",
            _ => "all its rows are locked, or the models were fitted on them: name rows that are new",
        };
        return Err(nothing_left(&path, hint));
    }
    Ok(OpenRows { path, rows, locked: all - open, fitted })
}

fn nothing_left(path: &Path, hint: &str) -> Error {
    Error::Policy {
        message: format!("{} holds no row to evaluate on", path.display()),
        code: Code::TooFewExamples,
        hint: hint.into(),
    }
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
