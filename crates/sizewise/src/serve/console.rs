//! What does each path of the console answer?
//!
//! The page and its modules are in the program; they hold no data and are open. Everything under `/console/api/` is admitted like any
//! other route, with an API key or with the session that one opened ([`session`]). Reading and writing happens on threads that may
//! block, beside those that answer requests.

mod assets;
pub(super) mod session;
mod sign_in;

use super::{
    Decider,
    endpoints::Asked,
    reply::{Kind, Reply},
    routes::{Endpoint, Found, Route},
};
use crate::{
    console::{
        Answered, Console, EraseAsked, KindJudged, LogAsked, NewKeyAsked, TrialAsked, VerifyAsked, Who,
    },
    error::Result as Told,
    wire::{WireError, native},
};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sizewise_contract::{Code, Diagnose};
use sizewise_engine::Request;
use sizewise_models::remote::ProviderState;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a whole store may take.
const LONG: Duration = Duration::from_secs(900);
/// Training rows that are shown beside a decision.
const NEAR: usize = 5;
/// The page runs its own modules and nothing else, talks to this server alone, and stands in nobody's frame. Without trusted types
/// no string can become markup in it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// What a path of the console shows or does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum View {
    Redirect,
    Index,
    Asset,
    Ways,
    Login,
    SignIn,
    SignedIn,
    Logout,
    Session,
    Home,
    Task,
    Evaluation,
    Traffic,
    Savings,
    Shift,
    Renewals,
    Kinds,
    JudgeKind,
    Try,
    Queue,
    Answer,
    Agreement,
    Switch,
    Trial,
    ActOnTrial,
    Sites,
    Log,
    Verify,
    DataMap,
    Erase,
    Admin,
    CreateKey,
    RevokeKey,
}

/// Whether a route belongs to the console.
pub(super) fn is_of_console(route: &Route) -> bool {
    matches!(route.endpoint, Endpoint::Console(_))
}

/// Until when a request for the console must be answered: whole stores are read or written anew for some.
pub(super) fn patience(route: &Route) -> Option<Duration> {
    matches!(route.endpoint, Endpoint::Console(View::Erase | View::Verify)).then_some(LONG)
}

/// The headers under which everything of the console is sent, errors included.
pub(super) fn guarded(reply: Reply, found: &Found<'_>) -> Reply {
    match found {
        Found::Route(_, route, _) if is_of_console(route) => reply.with_headers(&[
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (CACHE_CONTROL, "no-store"),
        ]),
        _ => reply,
    }
}

/// Answers an admitted request for the console.
///
/// # Errors
/// Says what is wrong with it, or what failed.
pub(super) async fn answer<D: Decider>(
    asked: &Asked<'_, D>,
    view: View,
    name: &str,
) -> Result<Reply, WireError> {
    let serving = asked.serving;
    let Some(console) = &serving.settings.console else {
        return Err(WireError::new(Code::UnknownRoute, None, "this server has no console"));
    };
    let desk = Desk { console, who: Who::new(asked.caller.holder()), name };
    let body = asked.body;
    if matches!(asked.method.as_str(), "POST") {
        check_is_json(asked.headers)?;
    }
    let bytes = match view {
        View::Redirect => return Ok(redirect()),
        View::Index => return assets::named("index.html"),
        View::Asset => return assets::named(name),
        View::Ways => return Ok(sign_in::ways(asked)),
        View::Login => return log_in(asked),
        View::SignIn => return sign_in::begin(asked).await,
        View::SignedIn => return sign_in::finish(asked).await,
        View::Logout => return Ok(log_out(asked)),
        View::Session => session_of(asked, &desk.who),
        View::Home => {
            let served: Vec<String> =
                serving.decider.tasks().iter().map(|info| info.task.name.clone()).collect();
            let states = states(asked);
            desk.run(move |console, who, _| console.home(&served, &states, who)).await?
        }
        View::Task => desk.run(|console, who, name| console.shown(name, who)).await?,
        View::Evaluation => desk.run(|console, who, name| console.evaluation(name, who)).await?,
        View::Traffic => desk.run(|console, who, name| console.traffic(name, who)).await?,
        View::Savings => desk.run(|console, who, name| console.savings(name, who)).await?,
        View::Shift => desk.run(|console, who, name| console.shift(name, who)).await?,
        View::Renewals => desk.run(|console, who, name| console.renewals(name, who)).await?,
        View::Kinds => desk.run(|console, who, name| console.kinds(name, who)).await?,
        View::JudgeKind => {
            desk.check_task()?;
            let judged: KindJudged = read(body)?;
            desk.run(move |console, who, name| console.judge_kind(name, &judged, who)).await?
        }
        View::Try => try_it(asked, &desk).await?,
        View::Queue => desk.run(|console, who, name| console.queue(name, who)).await?,
        View::Answer => {
            desk.check_task()?;
            let said: Answered = read(body)?;
            desk.run(move |console, who, name| console.answer(name, &said, who)).await?
        }
        View::Agreement => desk.run(|console, who, name| console.agreement(name, who)).await?,
        View::Switch => {
            desk.check_task()?;
            let wanted: Wanted = read(body)?;
            let decider = Arc::clone(&asked.serving.decider);
            let switched = move |console: &Console, who: &Who, name: &str| {
                let told = console.switch(name, &wanted.release, who)?;
                // Whoever is told that it is in force is answered by it from then on.
                decider.take_up(name)?;
                Ok(told)
            };
            desk.run(switched).await?
        }
        View::Trial => desk.run(|console, who, name| console.trial(name, who)).await?,
        View::ActOnTrial => {
            desk.check_task()?;
            let wanted: TrialAsked = read(body)?;
            let decider = Arc::clone(&asked.serving.decider);
            let acted = move |console: &Console, who: &Who, name: &str| {
                let told = console.act_on_trial(name, &wanted, who)?;
                // Whoever is told of it is answered accordingly from then on.
                decider.take_up(name)?;
                Ok(told)
            };
            desk.run(acted).await?
        }
        View::Sites => desk.run(|console, _, _| console.call_sites()).await?,
        View::Log => {
            let wanted: LogAsked = read(body)?;
            desk.run(move |console, _, _| console.log(&wanted)).await?
        }
        View::Verify => {
            let wanted: VerifyAsked = read(body)?;
            desk.run(move |console, _, _| console.verify(&wanted)).await?
        }
        View::DataMap => desk.run(|console, _, _| console.data_map()).await?,
        View::Erase => {
            let whose: EraseAsked = read(body)?;
            desk.run(move |console, who, _| console.erase(&whose, who)).await?
        }
        View::Admin => {
            let states = states(asked);
            desk.run(move |console, _, _| console.admin(&states)).await?
        }
        View::CreateKey => {
            let wanted: NewKeyAsked = read(body)?;
            desk.run(move |console, who, _| console.create_key(&wanted, who)).await?
        }
        View::RevokeKey => desk.run(|console, who, name| console.revoke_key(name, who)).await?,
    };
    Ok(Reply::new(Kind::Json, bytes))
}

/// The release that is to be in force.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    release: String,
}

/// What somebody opens a session with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Presented {
    key: String,
}

/// The console with who looks and the name in the path.
struct Desk<'d> {
    console: &'d Arc<Console>,
    who: Who,
    name: &'d str,
}

impl Desk<'_> {
    /// Does something that may block, on a thread for that.
    async fn run<F>(&self, work: F) -> Result<Vec<u8>, WireError>
    where
        F: FnOnce(&Console, &Who, &str) -> Told<Vec<u8>> + Send + 'static,
    {
        let (console, who, name) = (Arc::clone(self.console), self.who.clone(), self.name.to_owned());
        let done = tokio::task::spawn_blocking(move || work(&console, &who, &name)).await;
        let told =
            done.map_err(|_| WireError::new(Code::Internal, None, "a view of the console panicked"))?;
        told.map_err(|error| of_application(&error))
    }

    /// A task that is not there is told before what is wrong with the body.
    fn check_task(&self) -> Result<(), WireError> {
        self.console.check(self.name, &self.who).map_err(|error| of_application(&error))
    }
}

/// An error of the application, as everybody is told it.
fn of_application(error: &crate::error::Error) -> WireError {
    let told = WireError::new(error.code(), None, error.to_string());
    match error.hint() {
        Some(hint) => told.with_hint(hint),
        None => told,
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(body)
        .map_err(|error| WireError::request(None, format!("the body is not what this path takes: {error}")))
}

/// A form of another page can send text, but not JSON, without being asked.
fn check_is_json(headers: &HeaderMap) -> Result<(), WireError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(WireError::new(Code::MediaUnsupported, None, "the console takes JSON alone")
        .with_hint("send it as `content-type: application/json`"))
}

fn redirect() -> Reply {
    Reply::new(Kind::Html, "")
        .with_status(hyper::StatusCode::PERMANENT_REDIRECT)
        .with_headers(&[(LOCATION, "/console/")])
}

fn states<D: Decider>(asked: &Asked<'_, D>) -> BTreeMap<String, ProviderState> {
    let relayed = asked.serving.settings.relay.iter().flat_map(|relay| relay.states());
    relayed.chain(asked.serving.decider.providers()).collect()
}

/// Opens a session for whoever holds a key.
fn log_in<D: Decider>(asked: &Asked<'_, D>) -> Result<Reply, WireError> {
    session::check_page(asked.headers, false)?;
    let presented: Presented = read(asked.body)?;
    if !asked.serving.keys.any() {
        return Ok(Reply::new(Kind::Json, b"{\"open\":true}".to_vec()));
    }
    let key = presented.key.trim();
    let member = asked.serving.keys.verify(key);
    let member =
        member.ok_or_else(|| WireError::new(Code::KeyInvalid, None, "the API key is unknown or revoked"))?;
    if member.rights().role == sizewise_store::Role::Monitor {
        return Err(WireError::new(Code::NotAllowed, None, "this key reads the metrics, and nothing else")
            .with_hint("come in with another one"));
    }
    let cookie = asked.serving.sessions.open(key, &member.holder.id, asked.headers)?;
    Ok(Reply::new(Kind::Json, b"{\"open\":true}".to_vec()).with_value(SET_COOKIE, &cookie))
}

fn log_out<D: Decider>(asked: &Asked<'_, D>) -> Reply {
    let vouched_for = asked.serving.sessions.close(asked.headers);
    let told =
        json!({ "open": false, "elsewhere": vouched_for.then(|| sign_in::elsewhere(asked)).flatten() });
    Reply::new(Kind::Json, told.to_string().into_bytes()).with_value(SET_COOKIE, session::ENDED)
}

fn session_of<D: Decider>(asked: &Asked<'_, D>, who: &Who) -> Vec<u8> {
    let tasks: Vec<String> = asked.tasks().into_iter().map(|info| info.task.name.clone()).collect();
    let told: Value = json!({
        "version": env!("CARGO_PKG_VERSION"), "key": who.id(), "role": who.role(), "tasks": tasks,
        "keys_needed": asked.serving.keys.any(),
    });
    told.to_string().into_bytes()
}

/// One decision that leaves nothing behind, with the rows like it.
async fn try_it<D: Decider>(asked: &Asked<'_, D>, desk: &Desk<'_>) -> Result<Vec<u8>, WireError> {
    let info = asked.info(desk.name, "task")?;
    let mut plan = native::Request::read(asked.body)?.plan(&info.task)?;
    if plan.inputs.len() != 1 {
        return Err(WireError::request(Some("inputs".into()), "one input at a time"));
    }
    let inputs = std::mem::take(&mut plan.inputs);
    let text =
        inputs.first().and_then(|input| input.render(&info.task.input.fields).ok()).unwrap_or_default();
    let request = Request {
        task: info.task.name.clone(),
        inputs,
        questions: plan.questions.clone(),
        key_id: asked.caller.key_id().map(str::to_owned),
        purses: asked.caller.purses(),
        dry_run: true,
        ..Request::default()
    };
    let decider = &asked.serving.decider;
    let decided = decider.decide(request).await;
    let decisions = decided.map_err(|error| WireError::of_engine(&error, |_| "input".to_owned()))?;
    let near = decider.nearest(&info.task.name, &text, NEAR).await;
    let near = near.map_err(|error| WireError::of_engine(&error, |_| "input".to_owned()))?;
    let told: Value = serde_json::from_slice(&native::answer(&info.task, &plan, &decisions))
        .map_err(|_| WireError::new(Code::Internal, None, "a decision has a JSON form"))?;
    desk.run(move |console, who, name| {
        // The decision does not hang on them: they may be gone since.
        let rows = console.nearest(name, &near, who);
        let problem = rows.as_ref().err().map(ToString::to_string);
        let nearest = rows.unwrap_or_default();
        let nearest = serde_json::to_value(nearest).unwrap_or_default();
        Ok(json!({ "decision": told, "nearest": nearest, "problem": problem }).to_string().into_bytes())
    })
    .await
}
