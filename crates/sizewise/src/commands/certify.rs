//! `sizewise certify`: does the promise hold, and may we say so?

mod mix;

use super::{
    DONE, REFUSED, TOO_LITTLE, gates,
    trained::{DEVELOPMENT, Trained, store},
};
use crate::{
    cli::Certify,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent},
};
use serde::Serialize;
use sizewise_contract::{Certificate, Code, ContentHash, Gate, GateResult, Question, Task, Verdict};
use sizewise_learn::dataset::Locked;
use sizewise_measure::{cascade::RowOutcome, certify::Plan, mix::Development};
use sizewise_store::{Opening, Store};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

/// Folder of the certificates, beside the task file.
const FOLDER: &str = "certificates";

/// What the development rows predict about one question.
#[derive(Serialize)]
struct Prediction {
    question: String,
    max_served_error: f64,
    confidence: f64,
    /// The chance to certify.
    chance: f64,
    /// The coverage where the test begins.
    coverage: f64,
    /// Locked rows for a chance of 80 %.
    rows_needed: Option<u64>,
}

#[derive(Serialize)]
struct CertifyResult {
    task: String,
    release: ContentHash,
    locked_rows: u64,
    openings_planned: u32,
    openings_spent: usize,
    predictions: Vec<Prediction>,
    /// None of them for a dry run.
    certificates: Vec<Certificate>,
    /// What is found of the release before a row is opened; its certificates have the same gates, and more.
    gates: Vec<Gate>,
    files: Vec<PathBuf>,
    in_force: bool,
}

pub(super) fn run(project: &Project, arguments: &Certify, screen: &Screen) -> Result<u8> {
    let now = project.task(&arguments.task)?;
    let folder = project.task_folder(&now.name);
    let store = store(project)?;
    let release = match &arguments.release {
        Some(named) => store.release(&now.name, named)?,
        None => store.latest(&now.name)?.ok_or_else(|| Error::NotTrained { task: now.name.clone() })?,
    };
    if release.manifest.contract != now.contract_hash() {
        return Err(Error::Policy {
            message: format!(
                "the task file of `{}` has changed since release {}",
                now.name,
                release.id.short()
            ),
            code: Code::NotTrained,
            hint: format!(
                "run `sizewise train {}` first: a certificate is for the contract as it stands",
                now.name
            ),
        });
    }
    gates::check_reason(arguments.reason.as_deref())?;
    store.check_parts(&release)?;
    let trained = Trained::load(&store, release)?;
    let task = &trained.task;
    let locked = Locked::find(task, &folder)?;
    check_locked(&trained, &locked)?;
    // By which columns rows are looked at is the task file's word as it is now: nothing was fitted by them.
    let sliced = gates::Sliced::new(&locked, now.data.slices.clone())?;
    let plans = plans(&store, &trained, locked.rows())?;
    let known = openings_on_file(&folder, &locked.hash());
    let known_opened = known.map_or(0, |(opened, _)| opened as usize);
    let openings = store.openings(&task.name)?;
    let spent =
        openings.iter().filter(|opening| opening.locked_rows == locked.hash()).count().max(known_opened);
    let mut result = CertifyResult {
        task: task.name.clone(),
        release: trained.release.id,
        locked_rows: locked.rows(),
        openings_planned: planned(task),
        openings_spent: spent,
        predictions: task
            .questions
            .iter()
            .zip(&plans)
            .map(|(question, plan)| prediction(task, question, plan))
            .collect(),
        certificates: Vec::new(),
        gates: gates::release::beforehand(&store, (&trained, project))?,
        files: Vec::new(),
        in_force: store.in_force(&task.name)?.is_some_and(|release| release.id == trained.release.id),
    };
    if !screen.is_json() {
        screen.result("certify", &(), || before(&result, screen));
    }
    if arguments.dry_run {
        if screen.is_json() {
            screen.result("certify", &result, String::new);
        }
        return Ok(DONE);
    }
    let likely = |prediction: &Prediction| prediction.chance >= HOPEFUL;
    if !arguments.anyway && !result.predictions.iter().any(likely) {
        return Err(hopeless(&result));
    }
    let (locked_rows, texts) = (locked.hash(), locked.texts(task)?);
    let opening =
        store.begin_opening(&task.name, &locked_rows, &trained.release.id, (planned(task), known))?;
    let opening = opening.that_waits(arguments.wait);
    texts.remember(&folder)?;
    result.openings_spent = opening.ordinal as usize;
    let (mut certificates, gold) = test(&trained, locked, (&plans, &opening), (&sliced, screen))?;
    gates::look_at_release(&mut certificates, (&store, &trained, project), &gold, screen)?;
    result.in_force = store.finish_opening(opening, &certificates)?;
    let refused = |certificates: &[Certificate]| {
        certificates.iter().any(|certificate| certificate.verdict.is_certified() && !certificate.may_answer())
    };
    if let Some(reason) = arguments.reason.as_deref().filter(|_| refused(&certificates)) {
        certificates = store.promote(&task.name, &result.release.to_string(), Some(reason))?.certificates;
        result.in_force = true;
    }
    result.files = write_files(&folder, &certificates)?;
    // The certificate stands without them.
    if let Err(error) = mix::keep(&store, (&trained, &folder), (&certificates, gold), screen) {
        screen.remark(&format!("no change of the mix of classes will be told: {error}"));
    }
    result.certificates = certificates;
    if screen.is_json() {
        screen.result("certify", &result, String::new);
    } else {
        screen.result("certify", &(), || after(&result, screen));
    }
    let any = |kind: fn(&Verdict) -> bool| result.certificates.iter().any(|c| kind(&c.verdict));
    Ok(match () {
        () if refused(&result.certificates) => REFUSED,
        () if any(|v| matches!(v, Verdict::Refused { .. })) => REFUSED,
        () if any(|v| matches!(v, Verdict::InsufficientEvidence { .. })) => TOO_LITTLE,
        () => DONE,
    })
}

/// Without `--anyway` an opening is not spent when no question has at least this chance.
const HOPEFUL: f64 = 0.5;

/// Why the rows stay closed.
fn hopeless(result: &CertifyResult) -> Error {
    let best = result.predictions.iter().max_by(|a, b| a.chance.total_cmp(&b.chance));
    let (chance, needed) = best.map_or((0.0, None), |best| (best.chance, best.rows_needed));
    let more = needed.and_then(|rows| rows.checked_sub(result.locked_rows)).filter(|more| *more > 0);
    Error::StaysClosed {
        chance,
        hint: match more {
            Some(more) => format!(
                "label about {more} more rows, add them to your table and run `sizewise init {0} --from TABLE --force`; or open the rows as they are: sizewise certify {0} --anyway",
                result.task
            ),
            None => format!(
                "promise less (max_served_error) or improve the labels, and train again; or open the rows as they are: sizewise certify {} --anyway",
                result.task
            ),
        },
    }
}

/// Whatever could make the opening fail is found before it is spent.
fn check_locked(trained: &Trained, locked: &Locked) -> Result<()> {
    let task = &trained.task;
    if locked.rows() == 0 {
        return Err(Error::Policy {
            message: format!("{} holds no row", locked.path().display()),
            code: Code::TooFewExamples,
            hint:
                "rows must be set aside to prove anything: sizewise init --force with a larger --locked-share"
                    .into(),
        });
    }
    if locked.hash() != trained.release.manifest.locked_rows {
        return Err(Error::Policy {
            message: format!(
                "the locked rows have changed since release {} was trained",
                trained.release.id.short()
            ),
            code: Code::LockedRowsChanged,
            hint: format!(
                "put the file back, or train again on the split as it is now: sizewise train {}",
                task.name
            ),
        });
    }
    Ok(locked.check_inputs(task, trained.encoder())?)
}

/// How often certificates beside the task say that these rows were opened, and of how many times that was planned: they
/// outlive a store that was lost.
fn openings_on_file(folder: &Path, locked_rows: &ContentHash) -> Option<(u32, u32)> {
    let entries = std::fs::read_dir(folder.join(FOLDER)).ok()?;
    let opening = |path: PathBuf| {
        let certificate: Certificate = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (certificate.locked_rows == *locked_rows)
            .then_some((certificate.opening, certificate.openings_planned))
    };
    entries.flatten().filter_map(|entry| opening(entry.path())).max()
}

/// The task's promise and those of its questions share the locked rows, so the most openings that any plans count.
fn planned(task: &Task) -> u32 {
    task.questions.iter().map(|question| task.promise_of(question).openings).max().unwrap_or(1)
}

/// What fixes the order in which thresholds are tested, of each question.
pub(super) fn plans(store: &Store, trained: &Trained, locked_rows: u64) -> Result<Vec<Plan>> {
    let bytes = store.part(&trained.release, DEVELOPMENT)?;
    let development: Vec<Vec<RowOutcome>> =
        serde_json::from_slice(&bytes).map_err(|error| Error::Policy {
            message: format!("{DEVELOPMENT} of release {}: {error}", trained.release.id.short()),
            code: Code::ReleaseDamaged,
            hint: format!("run `sizewise train {}` again", trained.task.name),
        })?;
    let task = &trained.task;
    let openings = planned(task);
    let plan = |(question, rows): (&Question, &Vec<RowOutcome>)| {
        let promise = sizewise_contract::task::Promise { openings, ..task.promise_of(question) };
        Plan::new(rows, locked_rows, &promise)
    };
    Ok(task.questions.iter().zip(&development).map(plan).collect())
}

fn prediction(task: &Task, question: &Question, plan: &Plan) -> Prediction {
    let promise = task.promise_of(question);
    Prediction {
        question: question.name.clone(),
        max_served_error: promise.max_served_error,
        confidence: promise.confidence,
        chance: plan.prediction.chance,
        coverage: plan.prediction.coverage,
        rows_needed: plan.rows_needed(),
    }
}

/// Opens the locked rows and tests every question.
fn test(
    trained: &Trained,
    locked: Locked,
    (plans, opening): (&[Plan], &Opening),
    (sliced, screen): (&gates::Sliced, &Screen),
) -> Result<(Vec<Certificate>, Vec<Vec<Development>>)> {
    let task = &trained.task;
    let locked_hash = locked.hash();
    let rows = locked.open(task)?;
    let (progress, stop) = (screen.progress(), screen.stop());
    let judged = trained.judge(&rows.examples, &stop, &|step, done, of| progress.at(step, done, of))?;
    progress.end();
    let of_question =
        |(position, judged): (usize, &Vec<_>)| mix::labelled((trained, position), &rows.examples, judged);
    let gold = judged.iter().enumerate().map(of_question).collect();
    let certificate =
        |((question, plan), judged): ((&Question, &Plan), Vec<sizewise_learn::train::Judged>)| {
            let (places, outcomes): (Vec<usize>, Vec<RowOutcome>) =
                judged.into_iter().filter_map(|judged| Some((judged.row, judged.outcome?))).unzip();
            let outcome = plan.run(&outcomes);
            let promise =
                sizewise_contract::task::Promise { openings: planned(task), ..task.promise_of(question) };
            let (slices, gates) = match outcome.threshold {
                Some(threshold) => sliced.judge((task, &promise), (&places, &outcomes), threshold),
                None => (Vec::new(), Vec::new()),
            };
            Certificate {
                schema: 1,
                task: task.name.clone(),
                question: question.name.clone(),
                promise: task.promise_of(question),
                verdict: outcome.verdict,
                threshold: outcome.threshold,
                counts: outcome.counts,
                tests: outcome.tests,
                chance_before: plan.prediction.chance,
                openings_planned: planned(task),
                opening: opening.ordinal,
                opened_at: opening.at,
                contract: trained.release.manifest.contract,
                locked_rows: locked_hash,
                development_rows: trained.release.manifest.training_rows,
                models: trained.release.models(),
                slices,
                gates,
                overridden: None,
            }
        };
    Ok((task.questions.iter().zip(plans).zip(judged).map(certificate).collect(), gold))
}

/// Writes each certificate as a file of its own, so that it can be kept and handed on.
pub(super) fn write_files(folder: &Path, certificates: &[Certificate]) -> Result<Vec<PathBuf>> {
    let folder = folder.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|cause| Error::file(&folder, cause))?;
    let mut files = Vec::new();
    for (number, certificate) in certificates.iter().enumerate() {
        // A question's name may hold anything; a file's may not.
        let plain = certificate.question.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let name = if plain { certificate.question.clone() } else { format!("question-{}", number + 1) };
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_vec_pretty(certificate)
            .map_err(|_| Error::Learn(sizewise_learn::Error::Internal("a certificate has a JSON form")))?;
        let part = folder.join(format!("{name}.json.part"));
        std::fs::write(&part, text)
            .and_then(|()| std::fs::rename(&part, &path))
            .map_err(|cause| Error::file(&path, cause))?;
        files.push(path);
    }
    Ok(files)
}

fn before(result: &CertifyResult, screen: &Screen) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} locked rows, opened {} of {} planned times. Before they are opened:",
        result.locked_rows, result.openings_spent, result.openings_planned
    );
    let mut table = Table::new(&[
        ("question", Align::Left),
        ("promise", Align::Left),
        ("chance to certify", Align::Right),
        ("test begins at coverage", Align::Right),
        ("rows for 80 % chance", Align::Right),
    ]);
    for prediction in &result.predictions {
        let promise = format!(
            "≤ {} wrong, {:.0} % sure",
            percent(prediction.max_served_error),
            prediction.confidence * 100.0
        );
        table.row([
            prediction.question.clone(),
            promise,
            format!("{:.0} %", prediction.chance * 100.0),
            percent(prediction.coverage),
            prediction.rows_needed.map_or("no number".into(), |rows| rows.to_string()),
        ]);
    }
    out.push_str(&table.render());
    for prediction in result.predictions.iter().filter(|prediction| prediction.rows_needed.is_none()) {
        let _ = writeln!(
            out,
            "  {} no number of rows would certify {}: its errors are above the promise at every threshold",
            screen.bad("!"),
            prediction.question
        );
    }
    for gate in result.gates.iter().filter(|gate| gate.result == GateResult::Refuse) {
        let hint = gate.hint.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "  {} {} will refuse it: {}\n    {hint}",
            screen.bad("!"),
            gate.name.name(),
            gate.found
        );
    }
    out
}

fn after(result: &CertifyResult, screen: &Screen) -> String {
    let mut out = String::from("\n");
    for certificate in &result.certificates {
        let _ = write_verdict(&mut out, certificate, screen);
        out.push_str(&gates::slices_text(certificate, screen));
    }
    out.push_str(&gates::text(&result.certificates, screen));
    let files: Vec<String> = result.files.iter().map(|file| file.display().to_string()).collect();
    let _ = writeln!(out, "Certificate files: {}", files.join(", "));
    let _ = match result.in_force {
        true => {
            let proven = result.certificates.iter().any(|c| c.may_answer());
            let next = if proven {
                "Next: sizewise serve"
            } else {
                "Nothing of it is proven: a server escalates every question"
            };
            writeln!(out, "Release {} is in force. {next}", result.release.short())
        }
        false if result.certificates.iter().any(Certificate::is_refused) => {
            writeln!(out, "Release {} is not put in force: a gate refuses it.", result.release.short())
        }
        false => writeln!(
            out,
            "Release {} is not put in force: the one that is proves more.",
            result.release.short()
        ),
    };
    out
}

fn write_verdict(out: &mut String, certificate: &Certificate, screen: &Screen) -> std::fmt::Result {
    let (counts, promise) = (&certificate.counts, &certificate.promise);
    let name = screen.bold(&certificate.question);
    let told = match &certificate.verdict {
        Verdict::Certified => screen.good("certified"),
        Verdict::Refused { .. } => screen.bad("refused"),
        Verdict::InsufficientEvidence { .. } => screen.bad("insufficient evidence"),
    };
    writeln!(out, "{name}: {told}")?;
    match &certificate.verdict {
        Verdict::Certified => {
            writeln!(
                out,
                "  At threshold {:.4} it answers {} of {} locked rows, {} of them wrongly.",
                certificate.threshold.unwrap_or(1.0),
                counts.answered,
                counts.rows,
                counts.wrong
            )?;
            writeln!(
                out,
                "  With {:.0} % confidence at most {} of what it answers is wrong ({} promised).",
                promise.confidence * 100.0,
                percent(counts.served_error_bound.min(promise.max_served_error)),
                percent(promise.max_served_error)
            )?;
            let tiers: Vec<String> =
                counts.by_tier.iter().map(|(tier, rows)| format!("{tier} {rows}")).collect();
            writeln!(
                out,
                "  Coverage {}: {}\n",
                percent(counts.answered as f64 / counts.rows.max(1) as f64),
                tiers.join(", ")
            )
        }
        Verdict::Refused { reason } => writeln!(
            out,
            "  {reason}.\n  What helps: a looser promise, better labels, or more training rows.\n"
        ),
        Verdict::InsufficientEvidence { label_more } => writeln!(
            out,
            "  {} of {} answered rows were wrong; that neither shows nor refutes the promise.\n  Label about {label_more} more rows, add them to your table, and run: sizewise init {} --from TABLE --force\n",
            counts.wrong, counts.answered, certificate.task
        ),
    }
}
