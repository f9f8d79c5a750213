//! What of a release itself stands between a promise that holds and an answer: its memory, its licences, how it was made?
//!
//! These three ask no row, so they are looked at whenever a release is about to answer: when it is certified, and again when it is
//! promoted or tried as a canary, as settings and files may have changed since. What a setting can cure needs no other opening.

use super::super::{
    bench::megabytes,
    certify,
    recipe::{self, ModelPart, ModelUsed, Origin, Recipe},
    trained::Trained,
};
use crate::{
    error::{Error, Result},
    project::{GateSettings, Project, SETTINGS_FILE},
};
use sizewise_contract::{Certificate, Code, Gate, GateName, GateResult};
use sizewise_learn::dataset::Locked;
use sizewise_measure::{cascade::RowOutcome, mix::MixRows};
use sizewise_models::memory::InMemory;
use sizewise_store::{Release, Store};

/// The rows of a certificate that were opened, where they are kept.
type Rows<'r> = &'r dyn Fn(&Certificate) -> Result<Option<Vec<RowOutcome>>>;

/// The gates of each certified question that hang on the release alone.
pub(in crate::commands) fn of_release(
    store: &Store,
    (trained, project): (&Trained, &Project),
    (certificates, rows): (&[Certificate], Rows<'_>),
) -> Result<Vec<(String, Vec<Gate>)>> {
    let common = beforehand(store, (trained, project))?;
    let certified = certificates.iter().filter(|certificate| certificate.verdict.is_certified());
    let each = certified.map(|certificate| {
        let mut gates = common.clone();
        if let Some(gate) = gates.iter_mut().find(|gate| gate.name == GateName::Reproducibility) {
            let follows = follows(store, (trained, project), (certificate, rows(certificate)?))?;
            with_threshold(gate, &follows, trained);
        }
        Ok((certificate.question.clone(), gates))
    });
    each.collect()
}

/// The same gates as far as they can be looked at before rows are opened.
pub(in crate::commands) fn beforehand(
    store: &Store,
    (trained, project): (&Trained, &Project),
) -> Result<Vec<Gate>> {
    let settings = &project.settings().gates;
    let recipe = Recipe::read(store, &trained.release)?;
    let models = models(trained, recipe.as_ref());
    Ok(vec![
        of_memory(&taken(trained), settings.max_memory_mb),
        of_licence(&models, settings),
        of_recipe(recipe.as_ref(), (trained, project)),
    ])
}

/// Looks again at a release that is about to answer, and writes down what was found.
pub(crate) fn look_again(store: &Store, project: &Project, release: &Release) -> Result<Release> {
    let proven = |certificate: &Certificate| certificate.verdict.is_certified();
    if !release.certificates.iter().any(proven) {
        return Ok(release.clone());
    }
    // A server that runs has read the settings long ago.
    let project = Project::find(Some(project.root()))?;
    let trained = Trained::load(store, release.clone())?;
    let kept = |certificate: &Certificate| {
        let rows: Option<MixRows> = store.mix_rows(&release.id, &certificate.question)?;
        Ok(rows.map(|rows| rows.gold.into_iter().map(|row| row.outcome).collect()))
    };
    let found = of_release(store, (&trained, &project), (&release.certificates, &kept))?;
    Ok(store.look_again(release, &found)?)
}

/// Looks again, and says which gate refuses for those who cannot override it here.
pub(crate) fn check_again(store: &Store, project: &Project, release: &Release) -> Result<Release> {
    let found = look_again(store, project, release)?;
    let refused = found.certificates.iter().find(|c| c.verdict.is_certified() && !c.may_answer());
    let refusal = refused.and_then(|certificate| {
        let gate = certificate.gates.iter().find(|gate| gate.result == GateResult::Refuse)?;
        Some((certificate, gate))
    });
    let Some((certificate, gate)) = refusal else { return Ok(found) };
    let (task, short) = (&release.manifest.task, release.id.short());
    let cure = gate.hint.as_ref().map_or_else(String::new, |hint| format!("{hint}; "));
    Err(Error::Policy {
        message: format!(
            "the {} gate refuses `{}` of release {short}: {}",
            gate.name.name(),
            certificate.question,
            gate.found
        ),
        code: Code::NotCertified,
        hint: format!("{cure}or say why it is right: sizewise promote {task} {short} --override REASON"),
    })
}

/// Bytes in memory, by what they are.
struct Taken {
    tables: usize,
    static_embeddings: usize,
    encoder: Option<usize>,
}

fn taken(trained: &Trained) -> Taken {
    Taken {
        tables: trained.models().held_bytes(),
        static_embeddings: trained.static_embeddings().held_bytes(),
        encoder: trained.encoder().map(InMemory::held_bytes),
    }
}

fn of_memory(taken: &Taken, bound: Option<f64>) -> Gate {
    let all = taken.tables + taken.static_embeddings + taken.encoder.unwrap_or(0);
    let encoder =
        taken.encoder.map_or_else(String::new, |bytes| format!(", {} encoder", megabytes(bytes as u64)));
    let found = format!(
        "loaded, its models take {}, counted table by table: {} of its own, {} static embeddings{encoder}; the process comes on top",
        megabytes(all as u64),
        megabytes(taken.tables as u64),
        megabytes(taken.static_embeddings as u64),
    );
    let Some(bound) = bound else {
        let found = format!("{found}; no bound was set");
        return Gate { name: GateName::Memory, found, result: GateResult::Pass, hint: None };
    };
    let found = format!("{found}; at most {bound} MB are allowed");
    let (result, hint) = match all as f64 <= bound * 1e6 {
        true => (GateResult::Pass, None),
        false => (
            GateResult::Refuse,
            Some(format!(
                "{}or allow more, and look again with `sizewise promote`: [gates] max_memory_mb = {} in {SETTINGS_FILE}",
                if taken.encoder.is_some() {
                    "make the encoder smaller with `sizewise compress`, "
                } else {
                    ""
                },
                (all as f64 / 1e6).ceil()
            )),
        ),
    };
    Gate { name: GateName::Memory, found, result, hint }
}

/// The models that the release was made with, and whoever made them.
fn models(trained: &Trained, recipe: Option<&Recipe>) -> Vec<ModelUsed> {
    let mut models = vec![ModelUsed::static_embeddings(trained.static_embeddings())];
    if let Some(encoder) = trained.encoder() {
        let named = recipe.and_then(|recipe| recipe.model(ModelPart::Encoder)).cloned();
        models.push(named.unwrap_or_else(|| recipe::encoder_unrecorded(&trained.release, encoder.hash())));
    }
    models
}

fn of_licence(models: &[ModelUsed], settings: &GateSettings) -> Gate {
    let licence = |model: &ModelUsed| settings.licence_of.get(&model.name).cloned().or(model.licence.clone());
    let told = |model: &ModelUsed| {
        let licence = licence(model).unwrap_or_else(|| "licence unknown".into());
        format!("{} ({}): {licence}", model.name, model.part.name())
    };
    let all: Vec<String> = models.iter().map(told).collect();
    let unknown: Vec<&ModelUsed> = models.iter().filter(|model| licence(model).is_none()).collect();
    let mut found = all.join("; ");
    let state = |model: &ModelUsed| {
        format!(
            "ask whoever made `{0}`, and write what they say into {SETTINGS_FILE}: [gates.licence_of] \"{0}\" = \"LICENCE\"",
            model.name
        )
    };
    let Some(allowed) = &settings.licences else {
        found += "; no list of licences was set, so all may be used";
        let hint = unknown.first().map(|model| state(model));
        return Gate { name: GateName::Licence, found, result: GateResult::Pass, hint };
    };
    found = format!("{found}; allowed: {}", allowed.join(", "));
    let refused: Vec<&ModelUsed> = models
        .iter()
        .filter(|model| !licence(model).is_some_and(|licence| is_allowed(&licence, allowed)))
        .collect();
    let Some(first) = refused.first() else {
        return Gate { name: GateName::Licence, found, result: GateResult::Pass, hint: None };
    };
    let cure = match licence(first) {
        None => state(first),
        Some(licence) => {
            let mut longer: Vec<String> = allowed.iter().map(|one| format!("\"{one}\"")).collect();
            longer.push(format!("\"{licence}\""));
            let other =
                if first.part == ModelPart::Encoder { "; else train with another --encoder" } else { "" };
            format!(
                "if `{licence}` suits you, allow it in {SETTINGS_FILE}: [gates] licences = [{}]{other}",
                longer.join(", ")
            )
        }
    };
    let hint = Some(format!("{cure}; then `sizewise promote` looks again"));
    Gate { name: GateName::Licence, found, result: GateResult::Refuse, hint }
}

/// Whether a licence is on the list. Of several that are offered (`MIT OR Apache-2.0`) one suffices, of several that hold together all
/// must be.
fn is_allowed(licence: &str, allowed: &[String]) -> bool {
    let lower = licence.to_lowercase();
    let on_list = |one: &str| allowed.iter().any(|other| other.trim().to_lowercase() == one.trim());
    on_list(&lower) || lower.split(" or ").any(|offer| offer.split(" and ").all(on_list))
}

/// What the release says of how it was made, and how much of it can be seen to be so.
fn of_recipe(recipe: Option<&Recipe>, (trained, project): (&Trained, &Project)) -> Gate {
    let gate = |result, found, hint| Gate { name: GateName::Reproducibility, found, result, hint };
    let (manifest, task) = (&trained.release.manifest, &trained.task.name);
    let Some(recipe) = recipe else {
        let found = format!("{} kept no recipe of it: how it was made is not known", manifest.made_by);
        let hint = format!("make it again, which keeps one: sizewise train {task}");
        return gate(GateResult::Refuse, found, Some(hint));
    };
    let loaded = [
        (ModelPart::StaticEmbeddings, Some(trained.static_embeddings().hash())),
        (ModelPart::Encoder, trained.encoder().map(sizewise_models::encoder::Encoder::hash)),
    ];
    let other =
        loaded.into_iter().find(|(part, hash)| recipe.model(*part).map(|model| model.serves) != *hash);
    if let Some((part, _)) = other {
        let found = format!("its recipe names other {} than it answers with", part.name());
        return gate(GateResult::Refuse, found, Some(format!("make it again: {}", recipe.typed(task))));
    }
    let mut missing = Vec::new();
    let changed = recipe.tables_changed(&project.task_folder(task));
    if !changed.is_empty() {
        missing.push(format!("{} changed since, or gone", changed.join(", ")));
    }
    let gone = recipe.models.iter().filter(|model| model.is_still_there(project) == Some(false));
    missing.extend(gone.map(|model| match &model.origin {
        Origin::Folder { path } => format!("encoder `{}` changed since or gone from {path}", model.name),
        _ => format!("encoder `{}` is not that of the project any more", model.name),
    }));
    let this = concat!("sizewise ", env!("CARGO_PKG_VERSION"));
    if manifest.made_by != this {
        missing.push(format!("this is {this}"));
    }
    let with = recipe.models.iter().map(|model| format!("{} {}", model.name, model.hash.short()));
    let mut found = format!(
        "{} made it with seed {} of {} tables (rows {}) and {}; all its {} parts have the bytes that it names, and these models are loaded",
        manifest.made_by,
        recipe.seed,
        recipe.tables.len(),
        manifest.training_rows.short(),
        with.collect::<Vec<_>>().join(", "),
        manifest.parts.len(),
    );
    if missing.is_empty() {
        found += "; tables and models are here as they were";
        return gate(GateResult::Pass, found, None);
    }
    found = format!("{found}; not here as it was then: {}", missing.join("; "));
    let hint = "whoever would make it again needs them as they were; nothing that was proven hangs on that";
    gate(GateResult::Pass, found, Some(hint.into()))
}

/// Whether a threshold follows from the rows that it was proven on.
enum Follows {
    /// From so many.
    Yes(usize),
    /// What came out in its place.
    No(String),
    /// Why that cannot be seen.
    NotKept(&'static str),
}

/// Tests the rows of a certificate once more, in the order that the release's development rows fix.
fn follows(
    store: &Store,
    (trained, project): (&Trained, &Project),
    (certificate, rows): (&Certificate, Option<Vec<RowOutcome>>),
) -> Result<Follows> {
    let Some(rows) = rows.filter(|rows| rows.len() as u64 == certificate.counts.rows) else {
        return Ok(Follows::NotKept("its opened rows are not kept"));
    };
    let task = &trained.task;
    let locked = Locked::find(task, &project.task_folder(&task.name)).ok();
    let Some(locked) = locked.filter(|locked| locked.hash() == certificate.locked_rows) else {
        return Ok(Follows::NotKept("the table of its locked rows is another by now"));
    };
    let plans = certify::plans(store, trained, locked.rows())?;
    let own = task.questions.iter().zip(plans).find(|(question, _)| question.name == certificate.question);
    let Some((_, plan)) = own else { return Ok(Follows::NotKept("the question is not in its contract")) };
    let again = plan.run(&rows);
    let steps = |tests: &[sizewise_contract::certificate::ThresholdTest]| {
        tests.iter().map(|t| (t.threshold, t.answered, t.wrong, t.rejected)).collect::<Vec<_>>()
    };
    let same = again.threshold == certificate.threshold
        && again.counts.answered == certificate.counts.answered
        && again.counts.wrong == certificate.counts.wrong
        && steps(&again.tests) == steps(&certificate.tests);
    Ok(match same {
        true => Follows::Yes(rows.len()),
        false => Follows::No(match again.threshold {
            Some(threshold) => format!(
                "threshold {threshold:.4} with {} answered and {} wrong",
                again.counts.answered, again.counts.wrong
            ),
            None => "no threshold at all".into(),
        }),
    })
}

/// Adds to what the recipe shows what the rows of one question do.
fn with_threshold(gate: &mut Gate, follows: &Follows, trained: &Trained) {
    match follows {
        Follows::Yes(rows) => {
            gate.found += &format!("; tested again, its {rows} opened rows give the same threshold");
        }
        Follows::NotKept(why) => {
            gate.found += &format!("; that its threshold follows from its rows was not seen, as {why}");
        }
        Follows::No(instead) => {
            gate.result = GateResult::Refuse;
            gate.found =
                format!("its opened rows, tested again, give {instead}: not what its certificate says");
            gate.hint = Some(format!(
                "the certificate or what was kept of its rows was changed: certify it on new rows, sizewise certify {}",
                trained.task.name
            ));
        }
    }
    if gate.result != GateResult::Refuse {
        gate.found += "; nothing was trained again, so that the same bytes would come out is not proven";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::ContentHash;

    fn encoder(name: &str, licence: Option<&str>) -> ModelUsed {
        let (hash, licence) = (ContentHash::of(name.as_bytes()), licence.map(str::to_owned));
        ModelUsed { name: name.into(), hash, serves: hash, licence, ..ModelUsed::builtin_encoder() }
    }

    fn settings(text: &str) -> GateSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_bound_of_memory_is_kept_or_names_the_one_that_would_do() {
        let taken = Taken { tables: 1_200_000, static_embeddings: 8_000_000, encoder: Some(30_000_000) };
        assert_eq!(of_memory(&taken, None).result, GateResult::Pass);
        assert_eq!(of_memory(&taken, Some(39.2)).result, GateResult::Pass);
        let refused = of_memory(&taken, Some(39.0));
        assert_eq!(refused.result, GateResult::Refuse);
        assert!(refused.found.contains("take 39.2 MB"), "{}", refused.found);
        assert!(refused.hint.unwrap().contains("max_memory_mb = 40"));
    }

    #[test]
    fn a_licence_is_told_without_a_list_and_refused_where_it_is_not_on_one() {
        let models = [ModelUsed::builtin_encoder(), encoder("mine", None)];
        let open = of_licence(&models, &settings(""));
        assert_eq!(open.result, GateResult::Pass);
        assert!(open.found.contains("mine (encoder): licence unknown"), "{}", open.found);
        let list = "licences = [\"Apache-2.0\"]\n";
        assert_eq!(of_licence(&models[..1], &settings(list)).result, GateResult::Pass);
        let refused = of_licence(&models, &settings(list));
        assert_eq!(refused.result, GateResult::Refuse);
        assert!(refused.hint.unwrap().contains("[gates.licence_of] \"mine\" = "));
        let stated = format!("{list}[licence_of]\nmine = \"mit\"\n");
        let refused = of_licence(&models, &settings(&stated));
        assert!(refused.hint.unwrap().contains("licences = [\"Apache-2.0\", \"mit\"]"));
        let allowed = stated.replace("\"Apache-2.0\"", "\"Apache-2.0\", \"MIT\"");
        assert_eq!(of_licence(&models, &settings(&allowed)).result, GateResult::Pass);
    }

    #[test]
    fn of_licences_that_are_offered_one_suffices_and_of_those_that_hold_all_must_be_on_the_list() {
        let allowed = ["mit".to_owned(), "apache-2.0".to_owned()];
        for (licence, expected) in [
            ("MIT", true),
            ("gpl-3.0 OR MIT", true),
            ("MIT AND gpl-3.0", false),
            ("MIT AND Apache-2.0", true),
            ("mit-0", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(licence, &allowed), expected, "{licence}");
        }
    }
}
