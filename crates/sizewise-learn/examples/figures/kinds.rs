//! How soon is a new kind of input noticed, what is stopped from then on, and how often is nothing taken for something?

mod play;

use crate::{
    public::{Outcome, Row, Set, World},
    quality::mean,
};
use play::{ALL, Answered, BEFORE, Both, Played, Settings, Study};
use sizewise_contract::{
    Embed as _, Tier,
    task::{Overflow, Promise},
};
use sizewise_measure::{certify::Plan, random::Random};

/// Classes that are left out of one training, and trainings.
const LEFT_OUT: usize = 5;
const TRAININGS: usize = 4;
/// Rows that certify.
const GOLD: usize = 1_500;
/// Share of known inputs that the border around a new kind may cost, and that its border in the static tier's space may send further.
const LOST: f64 = 0.1;
const SENT: f64 = 0.2;
/// Requests of a run in which nothing is new.
const QUIET: usize = 10_000;

/// A study of each training of a set.
fn studies_of(world: &World, set: &Set) -> Outcome<Vec<Study>> {
    let rows: Vec<Row> =
        set.train.iter().chain(&set.test).filter(|(_, label)| label.is_some()).cloned().collect();
    let train = set.train.iter().filter(|(_, label)| label.is_some()).count();
    let texts: Vec<&str> = rows.iter().map(|(text, _)| text.as_str()).collect();
    let embeddings = world.encoder().embed(&texts, Overflow::HeadTail)?;
    let width = world.encoder().last_layer_dimensions();
    let mut vectors = Vec::with_capacity(rows.len() * width);
    for row in embeddings.rows() {
        let length = row[..width].iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-9);
        vectors.extend(row[..width].iter().map(|value| value / length));
    }
    let (mut fixed, mut ids, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for text in &texts {
        world.static_embeddings().embed_into(text, &mut ids, &mut own);
        fixed.extend_from_slice(&own);
    }
    let mut classes = set.classes.clone();
    Random::new(21).shuffle(&mut classes);
    let mut studies = Vec::new();
    for left_out in classes.chunks(LEFT_OUT).take(TRAININGS) {
        let is_out = |row: &Row| row.1.as_ref().is_some_and(|label| left_out.contains(label));
        let kept: Vec<String> =
            set.classes.iter().filter(|class| !left_out.contains(class)).cloned().collect();
        let mut places: Vec<usize> = (0..train).filter(|row| !is_out(&rows[*row])).collect();
        Random::new(22).shuffle(&mut places);
        let gold = places.split_off(places.len() - GOLD);
        let of = |places: &[usize]| -> Vec<Row> { places.iter().map(|row| rows[*row].clone()).collect() };
        let part = Set {
            name: set.name,
            train: of(&places),
            test: Vec::new(),
            out_of_scope_share: None,
            classes: kept.clone(),
        };
        let (task, trained) = world.train(&part, &part.train, 1)?;
        let locked = world.judge(&part, &task, &trained, &of(&gold))?;
        let plan = Plan::new(&trained.development[0], GOLD as u64, &Promise::default());
        let threshold = plan.run(&locked).threshold.unwrap_or(f64::INFINITY);
        // What was left out is outside of the classes: no answer to it is right.
        let shown: Vec<Row> =
            rows.iter().map(|row| (row.0.clone(), row.1.clone().filter(|_| !is_out(row)))).collect();
        let answered = world.judge(&part, &task, &trained, &shown)?;
        let answered = answered.iter().map(|row| match row.answer_at(threshold) {
            Some(answer) if answer.tier == Tier::Static => Answered::Static { right: answer.right },
            Some(answer) => Answered::Encoder { right: answer.right },
            None => Answered::Not,
        });
        let class = |row: usize| {
            let label = rows[row].1.as_ref()?;
            Some((row, kept.binary_search(label).ok()? as u16))
        };
        studies.push(Study {
            width,
            vectors: vectors.clone(),
            static_width: world.static_embeddings().dimensions(),
            fixed: fixed.clone(),
            answered: answered.collect(),
            train: places.iter().filter_map(|row| class(*row)).collect(),
            old: (train..rows.len()).filter(|row| !is_out(&rows[*row])).collect(),
            new: left_out
                .iter()
                .map(|class| (0..rows.len()).filter(|row| rows[*row].1.as_ref() == Some(class)).collect())
                .collect(),
        });
    }
    Ok(studies)
}

pub(crate) fn run(world: &World, streams: usize) -> Outcome<()> {
    println!(
        "\n{} classes, each left out of training and certificate (5 %) and then a tenth of {ALL} requests; shares after request {BEFORE}",
        LEFT_OUT * TRAININGS
    );
    println!(
        "{:<12}{:>8}{:>10}{:>16}{:>9}{:>22}{:>22}{:>9}{:>11}{:>14}{:>10}",
        "",
        "looked",
        "proposed",
        "after (median)",
        "purity",
        "new sure, no watch",
        "new sure, watched",
        "cover",
        "watched",
        "sent further",
        "look"
    );
    for set in [world.banking77()?, world.clinc150()?].into_iter().flatten() {
        let mut studies = Vec::new();
        for study in studies_of(world, &set)? {
            let both = study.known().ok_or("too few rows")?;
            studies.push((study, both));
        }
        for looked in [1.0, 0.5] {
            let settings = Settings { looked, lost: LOST, sent: SENT };
            let mut played = Vec::new();
            for (study, both) in &studies {
                for class in 0..study.new.len() {
                    let traffic = study.traffic(class, class as u64 + 1);
                    played.push(study.play(both, &traffic, settings, 1));
                }
            }
            tell(set.name, looked, &played);
        }
        nothing_new(set.name, &studies, streams);
    }
    Ok(())
}

/// Traffic of known classes alone.
fn nothing_new(name: &str, studies: &[(Study, Both)], streams: usize) {
    let mut random = Random::new(77);
    let settings = Settings { looked: 1.0, lost: LOST, sent: SENT };
    let found: Vec<usize> = (0..streams)
        .zip(studies.iter().cycle())
        .map(|(_, (study, both))| {
            let texts = (0..QUIET).map(|_| (study.old[random.below(study.old.len())], false));
            study.play(both, &texts.collect::<Vec<_>>(), settings, 5).clusters
        })
        .collect();
    println!(
        "{name:<12}  nothing new: {} of {streams} runs of {QUIET} requests saw a proposal",
        found.iter().filter(|clusters| **clusters > 0).count()
    );
}

fn tell(name: &str, looked: f64, played: &[Played]) {
    let of = |value: fn(&Played) -> f64| mean(&played.iter().map(value).collect::<Vec<_>>());
    let mut after: Vec<usize> = played.iter().map(|run| run.proposed.unwrap_or(usize::MAX)).collect();
    after.sort_unstable();
    let proposed = played.iter().filter(|run| run.proposed.is_some_and(|after| after <= BEFORE)).count();
    let pure: Vec<f64> = played.iter().filter(|run| run.proposed.is_some()).map(|run| run.purity).collect();
    let share = |part: usize, of: fn(&Played) -> [usize; 3]| {
        played.iter().map(|run| of(run)[part]).sum::<usize>() as f64
            / played.iter().map(|run| of(run)[0]).sum::<usize>().max(1) as f64
    };
    let median = after.get(after.len() / 2).copied().unwrap_or(usize::MAX);
    let median = if median > ALL { "never".to_owned() } else { median.to_string() };
    println!(
        "{name:<12}{looked:>8}{:>10}{median:>16}{:>9.2}{:>22.3}{:>22.3}{:>9.3}{:>11.3}{:>14.3}{:>7.0} µs",
        format!("{proposed}/{}", played.len()),
        mean(&pure),
        share(1, |run| run.new),
        share(2, |run| run.new),
        share(1, |run| run.old),
        share(2, |run| run.old),
        of(|run| run.sent as f64 / (ALL - BEFORE) as f64),
        of(|run| run.look_us),
    );
}
