//! Which paths does the server have, and who may use each?
//!
//! One table. The server, the metrics, the OpenAPI document's test and the test of admission all read it, so that none of
//! them can forget a route.

use super::console::View;
use crate::wire::{Protocol, WireError};
use hyper::Method;
use sizewise_contract::Code;

/// One path with one method.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path; a segment in braces stands for a name.
    pub path: &'static str,
    /// What answers it.
    pub endpoint: Endpoint,
    /// Who may use it.
    pub guard: Guard,
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Everybody.
    Open,
    /// Whoever [`super::admit`] lets in to ask tasks and models.
    Calls,
    /// Whoever it lets in to watch the server.
    Watches,
    /// Whoever it lets into the console at all.
    Enters,
    /// Whoever may look at tasks there.
    Views,
    /// Whoever may answer what waits for people.
    Labels,
    /// Whoever runs the server.
    Runs,
}

/// What answers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Endpoint {
    Decisions,
    SystemOne,
    Chat,
    Responses,
    Embeddings,
    Messages,
    Generate,
    StreamGenerate,
    Models,
    Model,
    Decide,
    Tasks,
    Task,
    Certificate,
    Evidence,
    Feedback,
    Healthy,
    Ready,
    Metrics,
    OpenApi,
    Console(View),
}

impl Endpoint {
    /// Whether it passes requests on to larger models.
    #[must_use]
    pub fn may_relay(self) -> bool {
        use Endpoint::{Chat, Embeddings, Generate, Messages, Responses, StreamGenerate};
        matches!(self, Chat | Responses | Embeddings | Messages | Generate | StreamGenerate)
    }
}

const fn get(path: &'static str, endpoint: Endpoint, guard: Guard) -> Route {
    Route { method: "GET", path, endpoint, guard }
}

const fn post(path: &'static str, endpoint: Endpoint) -> Route {
    Route { method: "POST", path, endpoint, guard: Guard::Calls }
}

const fn view(path: &'static str, view: View, guard: Guard) -> Route {
    Route { method: "GET", path, endpoint: Endpoint::Console(view), guard }
}

const fn act(path: &'static str, view: View, guard: Guard) -> Route {
    Route { method: "POST", path, endpoint: Endpoint::Console(view), guard }
}

/// Every route of the server.
pub const ROUTES: &[Route] = &[
    post("/v1/decisions", Endpoint::Decisions),
    post("/v1/systemone", Endpoint::SystemOne),
    post("/v1/chat/completions", Endpoint::Chat),
    post("/v1/responses", Endpoint::Responses),
    post("/v1/embeddings", Endpoint::Embeddings),
    post("/v1/messages", Endpoint::Messages),
    post("/v1beta/models/{model}:generateContent", Endpoint::Generate),
    post("/v1beta/models/{model}:streamGenerateContent", Endpoint::StreamGenerate),
    post("/v1/models/{model}:generateContent", Endpoint::Generate),
    post("/v1/models/{model}:streamGenerateContent", Endpoint::StreamGenerate),
    get("/v1/models", Endpoint::Models, Guard::Calls),
    get("/v1/models/{model}", Endpoint::Model, Guard::Calls),
    post("/v1/tasks/{task}/decide", Endpoint::Decide),
    get("/v1/tasks", Endpoint::Tasks, Guard::Calls),
    get("/v1/tasks/{task}", Endpoint::Task, Guard::Calls),
    get("/v1/tasks/{task}/certificate", Endpoint::Certificate, Guard::Calls),
    get("/v1/tasks/{task}/evidence", Endpoint::Evidence, Guard::Calls),
    post("/v1/tasks/{task}/feedback", Endpoint::Feedback),
    get("/metrics", Endpoint::Metrics, Guard::Watches),
    get("/healthz", Endpoint::Healthy, Guard::Open),
    get("/readyz", Endpoint::Ready, Guard::Open),
    get("/openapi.json", Endpoint::OpenApi, Guard::Open),
    view("/console", View::Redirect, Guard::Open),
    view("/console/", View::Index, Guard::Open),
    view("/console/{asset}", View::Asset, Guard::Open),
    view("/console/api/login", View::Ways, Guard::Open),
    act("/console/api/login", View::Login, Guard::Open),
    act("/console/api/sign-in", View::SignIn, Guard::Open),
    view("/console/api/signed-in", View::SignedIn, Guard::Open),
    act("/console/api/logout", View::Logout, Guard::Enters),
    view("/console/api/session", View::Session, Guard::Enters),
    view("/console/api/home", View::Home, Guard::Views),
    view("/console/api/tasks/{task}", View::Task, Guard::Views),
    view("/console/api/tasks/{task}/evaluation", View::Evaluation, Guard::Views),
    view("/console/api/tasks/{task}/traffic", View::Traffic, Guard::Views),
    view("/console/api/tasks/{task}/savings", View::Savings, Guard::Views),
    view("/console/api/tasks/{task}/shift", View::Shift, Guard::Views),
    view("/console/api/tasks/{task}/renewals", View::Renewals, Guard::Views),
    view("/console/api/tasks/{task}/kinds", View::Kinds, Guard::Views),
    act("/console/api/tasks/{task}/kinds", View::JudgeKind, Guard::Runs),
    act("/console/api/tasks/{task}/try", View::Try, Guard::Views),
    act("/console/api/tasks/{task}/release", View::Switch, Guard::Runs),
    view("/console/api/tasks/{task}/trial", View::Trial, Guard::Views),
    act("/console/api/tasks/{task}/trial", View::ActOnTrial, Guard::Runs),
    view("/console/api/queue/{task}", View::Queue, Guard::Labels),
    act("/console/api/queue/{task}", View::Answer, Guard::Labels),
    view("/console/api/agreement/{task}", View::Agreement, Guard::Labels),
    view("/console/api/sites", View::Sites, Guard::Runs),
    act("/console/api/audit", View::Log, Guard::Runs),
    act("/console/api/audit/verify", View::Verify, Guard::Runs),
    view("/console/api/data-map", View::DataMap, Guard::Runs),
    act("/console/api/erase", View::Erase, Guard::Runs),
    view("/console/api/admin", View::Admin, Guard::Runs),
    act("/console/api/keys", View::CreateKey, Guard::Runs),
    act("/console/api/keys/{key}/revoke", View::RevokeKey, Guard::Runs),
];

/// What the table says to a method and a path.
#[derive(Debug)]
pub enum Found<'p> {
    /// A route, its number in the table, and the name in its path.
    Route(usize, &'static Route, &'p str),
    /// The path exists for this method only.
    OtherMethod(&'static str),
    /// No such path.
    Nothing,
}

/// Looks a request up. `HEAD` is answered like `GET`, without the body.
#[must_use]
pub fn find<'p>(method: &Method, path: &'p str) -> Found<'p> {
    let wanted = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let mut found = Found::Nothing;
    for (number, route) in ROUTES.iter().enumerate() {
        if let Some(name) = matches(route.path, path) {
            if route.method == wanted {
                return Found::Route(number, route, name);
            }
            found = Found::OtherMethod(route.method);
        }
    }
    found
}

/// Whether a path fits a pattern, and the name in it; names of tasks need no percent-encoding.
fn matches<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((front, rest)) = pattern.split_once('{') else {
        return (pattern == path).then_some("");
    };
    let back = rest.split_once('}').map_or("", |(_, back)| back);
    let name = path.strip_prefix(front)?.strip_suffix(back)?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

impl<'p> Found<'p> {
    /// The route.
    ///
    /// # Errors
    /// Fails when the table has none.
    pub fn route(&self) -> Result<&'static Route, WireError> {
        match self {
            Self::Route(_, route, _) => Ok(route),
            Self::OtherMethod(method) => {
                Err(WireError::new(Code::MethodNotAllowed, None, "this path is not used with that method")
                    .with_hint(format!("use {method}")))
            }
            Self::Nothing => {
                Err(WireError::new(Code::UnknownRoute, None, "there is nothing under this path")
                    .with_hint("GET /openapi.json lists what there is"))
            }
        }
    }

    /// The name in the path; empty where it has none.
    #[must_use]
    pub fn param(&self) -> &'p str {
        if let Self::Route(_, _, name) = self { name } else { "" }
    }

    /// The number of the route; that of no route is one past the table.
    #[must_use]
    pub fn number(&self) -> usize {
        if let Self::Route(number, _, _) = self { *number } else { ROUTES.len() }
    }

    /// How metrics and logs name the route; never what a caller wrote.
    #[must_use]
    pub fn label(&self) -> &'static str {
        if let Self::Route(_, route, _) = self { route.path } else { "none" }
    }

    /// Its method and path as the table has them, for requests that are traced: those that ask tasks and models.
    #[must_use]
    pub fn traced(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Route(_, route, _) if route.guard == Guard::Calls => Some((route.method, route.path)),
            _ => None,
        }
    }

    /// Whose shape errors have here.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Route(_, Route { endpoint: Endpoint::SystemOne, .. }, _) => Protocol::SystemOne,
            Self::Route(_, Route { endpoint: Endpoint::Messages, .. }, _) => Protocol::Anthropic,
            Self::Route(_, Route { endpoint: Endpoint::Generate | Endpoint::StreamGenerate, .. }, _) => {
                Protocol::Gemini
            }
            _ => Protocol::OpenAi,
        }
    }

    /// The method that the path has, where it was another.
    #[must_use]
    pub fn allowed(&self) -> Option<&'static str> {
        if let Self::OtherMethod(method) = self { Some(method) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_is_found_by_its_own_path() {
        for (number, route) in ROUTES.iter().enumerate() {
            let path = ["{task}", "{model}", "{asset}", "{key}"]
                .iter()
                .fold(route.path.to_owned(), |path, name| path.replace(name, "support"));
            let method = Method::from_bytes(route.method.as_bytes()).expect("a method");
            let Found::Route(at, _, name) = find(&method, &path) else { panic!("{path} is not found") };
            assert_eq!(at, number);
            assert_eq!(name, if path == route.path { "" } else { "support" });
        }
    }

    #[test]
    fn every_route_is_admitted_but_health_the_document_and_what_leads_into_the_console() {
        for route in ROUTES {
            let open = ["/healthz", "/readyz", "/openapi.json", "/console", "/console/"]
                .contains(&route.path)
                || [
                    "/console/{asset}",
                    "/console/api/login",
                    "/console/api/sign-in",
                    "/console/api/signed-in",
                ]
                .contains(&route.path);
            assert_eq!(route.guard == Guard::Open, open, "{}", route.path);
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        for path in [
            "/",
            "",
            "/v1/decisions/",
            "/v1/tasks/",
            "/v1/tasks/a/b/certificate",
            "/v1/tasks//decide",
            "//healthz",
        ] {
            assert!(matches!(find(&Method::GET, path), Found::Nothing), "{path}");
        }
        assert!(matches!(find(&Method::GET, "/v1/decisions"), Found::OtherMethod("POST")));
        assert!(matches!(find(&Method::HEAD, "/healthz"), Found::Route(..)));
    }
}
