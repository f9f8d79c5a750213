//! What does a task need to be served?

use crate::{
    Settings,
    catalogue::Catalogue,
    error::Error,
    kinds::Kinds,
    live::{Live, TaskLimits},
    recall::Rule,
};
use sizewise_contract::{Certificate, ContentHash, Task, Tier};
use sizewise_models::{
    batching::Seat, encoder::EncoderFiles, package::TaskModels, static_embeddings::StaticEmbeddings,
};
use sizewise_store::{Release, Store};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Names of a release's parts that hold the files of an encoder that is not built in; weights follow `encoder/weights/`.
pub const ENCODER_PARTS: [&str; 5] = [
    "encoder/config.json",
    "encoder/tokenizer.json",
    "encoder/1_Pooling/config.json",
    "encoder/config_sentence_transformers.json",
    "encoder/weights/",
];

/// Name of the part that holds what a task changes of its encoder, the one of [`ENCODER_PARTS`] or the built-in one.
pub const ENCODER_ADAPTER: &str = "encoder/adapter.safetensors";

/// What is known about one task that is served.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// The contract of the release in force.
    pub task: Arc<Task>,
    /// The release in force.
    pub release: ContentHash,
    /// One certificate per question that was put to the test.
    pub certificates: Arc<[Certificate]>,
    /// Whether every question has a certificate in force.
    pub certified: bool,
}

/// A task with its models in memory.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) info: TaskInfo,
    pub(crate) models: TaskModels,
    pub(crate) static_embeddings: Arc<StaticEmbeddings>,
    pub(crate) encoder: Option<Seat>,
    /// One entry per question.
    pub(crate) asked: Vec<Asked>,
    /// By what new kinds of input are told; none where the release has nothing for it.
    pub(crate) kinds: Option<Arc<Kinds>>,
    /// What the evidence leaves of the certificates.
    limits: RwLock<TaskLimits>,
    /// From which likeness on answers of larger models are given again, once that is known.
    pub(crate) similar: OnceLock<Rule>,
}

/// How one question may be answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// The confidence from which a tier is sure enough.
    pub(crate) limit: f64,
    /// The certified threshold; `limit` is then the same.
    pub(crate) certified: Option<f64>,
    /// Whether answers may be given at all.
    pub(crate) may_answer: bool,
    /// The values of its classes.
    pub(crate) values: Vec<String>,
    pub(crate) static_may: bool,
    pub(crate) encoder_may: bool,
}

impl Served {
    /// Loads a task's release in force; `old` is kept when nothing about it changed.
    pub(crate) fn load(
        store: &Store,
        name: &str,
        catalogue: &Catalogue,
        (settings, old): (Settings, Option<&Arc<Self>>),
    ) -> Result<Arc<Self>, Error> {
        let release = store.in_force(name)?.ok_or_else(|| Error::NotTrained { name: name.to_owned() })?;
        Self::of(store, release, catalogue, (settings, old))
    }

    /// Loads a release; `old` is kept when it is the same and nothing about it changed.
    pub(crate) fn of(
        store: &Store,
        release: Release,
        catalogue: &Catalogue,
        (settings, old): (Settings, Option<&Arc<Self>>),
    ) -> Result<Arc<Self>, Error> {
        if let Some(old) = old
            && old.info.release == release.id
            && *old.info.certificates == *release.certificates
        {
            return Ok(Arc::clone(old));
        }
        let task = Task::parse(&release.manifest.task_file)
            .map_err(|error| Error::Release { release: release.id, problem: error.to_string() })?;
        let mut models = TaskModels::from_parts(|part| store.part(&release, part).map_err(Error::from))?;
        let fits = models.questions.len() == task.questions.len()
            && models.questions.iter().zip(&task.questions).all(|(models, question)| {
                models.name == question.name && models.classes == question.class_values().len()
            });
        if !fits {
            let problem = "its models are not those of its contract".to_owned();
            return Err(Error::Release { release: release.id, problem });
        }
        let encoder = match &models.encoder {
            Some(hash) => {
                let adapter = encoder_adapter(store, &release)?;
                Some(catalogue.encoder(hash, adapter, || encoder_files(store, &release))?)
            }
            None => None,
        };
        let asked = asked(&task, &models, &release, settings);
        let info = TaskInfo {
            certified: asked.iter().all(|asked| asked.certified.is_some()),
            task: Arc::new(task),
            release: release.id,
            certificates: release.certificates.into(),
        };
        let static_embeddings = catalogue.static_embeddings(&models.static_embeddings)?;
        let limits = RwLock::new(Arc::from([]));
        let kinds = match old.filter(|old| old.info.release == info.release) {
            Some(old) => old.kinds.clone(),
            None => Kinds::of(&mut models).map(Arc::new),
        };
        models.known = None;
        if let Some(kinds) = &kinds {
            // What this release makes of kinds is for the one in force to say, and it may be on trial.
            kinds.heed(store, &info, false)?;
        }
        let similar = OnceLock::new();
        let served = Self { info, models, static_embeddings, encoder, asked, kinds, limits, similar };
        Live::begin(store, &served)?;
        Ok(Arc::new(served))
    }

    /// What holds for its questions now.
    pub(crate) fn limits(&self) -> TaskLimits {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on answers under these limits.
    pub(crate) fn hold_to(&self, limits: TaskLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }
}

/// The certified threshold of each question of a release; none where no certificate covers it.
pub(crate) fn certified(task: &Task, release: &Release) -> Vec<Option<f64>> {
    let threshold = |question: &sizewise_contract::Question| {
        let in_force = release
            .certificate(&question.name)
            .filter(|c| c.contract == release.manifest.contract && c.models == release.models());
        in_force.and_then(|certificate| certificate.threshold)
    };
    task.questions.iter().map(threshold).collect()
}

fn asked(task: &Task, models: &TaskModels, release: &Release, settings: Settings) -> Vec<Asked> {
    let tiers = task.cascade.tiers.allowed();
    let thresholds = certified(task, release);
    let question = |((question, models), certified): (
        (&sizewise_contract::Question, &sizewise_models::package::QuestionModels),
        Option<f64>,
    )| {
        Asked {
            // Without a certificate: as sure as the promise asks, by the calibrator's word alone.
            limit: certified.unwrap_or(1.0 - task.promise_of(question).max_served_error),
            certified,
            may_answer: certified.is_some() || settings.allow_uncertified,
            values: question.class_values().into_iter().map(str::to_owned).collect(),
            static_may: models.static_tier.is_some() && tiers.contains(&Tier::Static),
            encoder_may: models.encoder_tier.is_some() && tiers.contains(&Tier::Encoder),
        }
    };
    task.questions.iter().zip(&models.questions).zip(thresholds).map(question).collect()
}

/// What a release changes of its encoder, where that is kept beside it.
///
/// # Errors
/// Fails when the part is missing or damaged.
pub fn encoder_adapter(store: &Store, release: &Release) -> Result<Option<Vec<u8>>, Error> {
    match release.manifest.parts.iter().any(|part| part.name == ENCODER_ADAPTER) {
        true => Ok(Some(store.part(release, ENCODER_ADAPTER)?)),
        false => Ok(None),
    }
}

/// The files of a release's own encoder, without its adapter; none where it uses the built-in one.
///
/// # Errors
/// Fails when a part is missing or damaged.
pub fn encoder_files(store: &Store, release: &Release) -> Result<Option<EncoderFiles<Vec<u8>>>, Error> {
    let [config, tokenizer, pooling, prompts, weights] = ENCODER_PARTS;
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
        prompts: if has(prompts) { Some(store.part(release, prompts)?) } else { None },
        weights: weights.collect::<Result<_, Error>>()?,
    }))
}
