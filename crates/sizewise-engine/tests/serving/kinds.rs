//! Is a class that nobody trained noticed in the traffic, and handed on from then on?

use crate::desk::publish_table;
use sizewise_contract::{Decision, Disposition, EscalationReason, KindState, NewKind};
use sizewise_engine::{Engine, InputValue, Request, Settings};
use sizewise_learn::table::TableReader;
use sizewise_store::{Release, Store};
use std::{collections::HashSet, fmt::Write, path::Path, sync::Arc};

const NEW: &str = "business_sales";
/// Requests between two waits for the looks.
const TOGETHER: usize = 64;

/// The bundled example: text and team.
fn example() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sizewise/example/tickets.csv");
    let mut table = TableReader::open(&file).unwrap();
    let place = |name: &str| table.columns().iter().position(|column| column == name).unwrap();
    let (text, team) = (place("message"), place("team"));
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    while table.next_row(&mut row).unwrap().is_some() {
        rows.push((row[text].clone(), row[team].clone()));
    }
    rows
}

/// A task that knows all teams but one, and the rows that it was not trained on.
fn trained(store: &Store, folder: &Path) -> (Release, Vec<String>, Vec<String>) {
    let (new, known): (Vec<_>, Vec<_>) =
        example().into_iter().filter(|(_, team)| team != "out_of_scope").partition(|(_, team)| team == NEW);
    let teams: std::collections::BTreeSet<&str> = known.iter().map(|(_, team)| team.as_str()).collect();
    let choices: Vec<String> = teams.iter().map(|team| format!("{{ value = {team:?} }}")).collect();
    let task = format!(
        "schema = 1\nname = \"desk\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{}]\n",
        choices.join(", ")
    );
    let mut table = String::from("text,team\n");
    for (text, team) in known.iter().take(1_600) {
        writeln!(table, "\"{}\",{team}", text.replace('"', "\"\"")).unwrap();
    }
    let release = publish_table(store, folder, (&task, &table), 1);
    let rest = known.into_iter().skip(1_600).map(|(text, _)| text).collect();
    (release, rest, new.into_iter().map(|(text, _)| text).collect())
}

fn engine(store: &Arc<Store>) -> Engine {
    let settings = Settings { allow_uncertified: true, encoder_workers: 1, record: true };
    let engine = Engine::start(Arc::clone(store), settings).unwrap();
    assert!(engine.load(&["desk".into()]).is_empty());
    engine
}

async fn decide(engine: &Engine, text: &str) -> Decision {
    let inputs = vec![InputValue::Text(text.to_owned())];
    let request = Request { task: "desk".into(), inputs, ..Request::default() };
    engine.decide(request).await.unwrap().remove(0)
}

fn is_handed_on_as_new(decision: &Decision) -> bool {
    let reason = EscalationReason::NewKind;
    matches!(decision.answers[0].disposition, Disposition::Escalated { reason: found, .. } if found == reason)
}

async fn share_handed_on(engine: &Engine, texts: &[String]) -> f64 {
    let mut handed_on = 0;
    for text in texts {
        handed_on += usize::from(is_handed_on_as_new(&decide(engine, text).await));
    }
    handed_on as f64 / texts.len() as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_class_that_nobody_trained_is_proposed_and_handed_on_until_somebody_dismisses_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&folder.path().join("store")).unwrap());
    let (release, known, new) = trained(&store, folder.path());
    let (early, late) = new.split_at(new.len() * 2 / 3);
    let (quiet, known) = known.split_at(200);
    let engine_one = engine(&store);
    // Nothing is new, and nothing is proposed.
    for text in quiet {
        assert!(!is_handed_on_as_new(&decide(&engine_one, text).await));
    }
    engine_one.finish_looks();
    let counts = engine_one.look_counts("desk").unwrap();
    assert_eq!((counts.looked, counts.dropped, counts.proposed), (200, 0, 0));
    // One request in three is of the team that nobody trained.
    let (mut of_new, mut found) = (HashSet::new(), Vec::<NewKind>::new());
    let (mut early_texts, mut known_texts) = (early.iter().cycle(), known.iter().cycle());
    for at in 0..900 {
        let text = if at % 3 == 0 { early_texts.next() } else { known_texts.next() }.unwrap();
        let decision = decide(&engine_one, text).await;
        if at % 3 == 0 {
            of_new.insert(decision.id);
        }
        if at % TOGETHER == 0 {
            engine_one.finish_looks();
            found.extend(engine_one.new_kinds());
        }
    }
    engine_one.finish_looks();
    found.extend(engine_one.new_kinds());
    // A team may write of more than one thing.
    assert!((1..=3).contains(&found.len()), "{found:?}");
    assert_eq!((found[0].task.as_str(), found[0].release), ("desk", release.id));
    let kept = store.kinds("desk", 10).unwrap().pop().unwrap();
    assert_eq!((kept.kind.id, kept.kind.state), (found[0].id, KindState::Proposed));
    assert!((0.05..0.5).contains(&kept.kind.share), "{}", kept.kind.share);
    let members = store.kind_records(kept.kind.id, 100).unwrap();
    let pure = members.iter().filter(|record| of_new.contains(&record.id)).count();
    assert!(members.len() > 10 && pure * 10 > members.len() * 8, "{pure} of {}", members.len());
    // Texts of it that never came before are handed on, those of other teams are not.
    let (new_share, known_share) =
        (share_handed_on(&engine_one, late).await, share_handed_on(&engine_one, quiet).await);
    assert!(new_share > 0.5 && known_share < 0.1, "{new_share} {known_share}");
    // After a restart, too.
    drop(engine_one);
    let engine_two = engine(&store);
    assert_eq!(engine_two.look_counts("desk").unwrap().proposed as usize, found.len());
    assert!(share_handed_on(&engine_two, late).await > 0.4);
    // Until somebody says that it is none.
    engine_two.finish_looks();
    for kept in store.kinds("desk", 10).unwrap() {
        assert!(store.settle_kind("desk", kept.kind.id, KindState::Dismissed, "a fair, over soon").unwrap());
    }
    engine_two.read_evidence().unwrap();
    assert_eq!(share_handed_on(&engine_two, late).await, 0.0);
    // What was not kept cannot be told after a restart, and says so.
    let unkept = NewKind { id: 0, ..kept.kind };
    let id = store.propose_kind(&unkept, None, &[]).unwrap();
    drop(engine_two);
    engine(&store).read_evidence().unwrap();
    let states = store.kinds("desk", 10).unwrap();
    assert_eq!((states[0].kind.id, states[0].kind.state), (id, KindState::Lost));
    assert!(states[1..].iter().all(|kept| kept.kind.state == KindState::Dismissed));
}
