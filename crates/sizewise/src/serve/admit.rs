//! May this caller use this route now?
//!
//! Every route of the table that is not open passes [`admit`], in this order: is the server still taking requests, may a
//! page of this origin call it, does the caller hold a key, may its holder use the route, is their rate used up, is there a free
//! place. Which tasks and models a caller may ask is looked at where a request names one: what is not theirs is not there.
//!
//! A server without keys trusts whoever reaches it, which is safe only for programs of this machine. A web page from
//! elsewhere also runs on this machine, in the browser, so without keys the name under which the server is called must be a name
//! of this machine (a page can rebind its own name to 127.0.0.1, but it cannot change what the browser sends as
//! `Host`), and the `Origin` must be one too.

use super::{
    Serving,
    console::{self, session},
    quota::{Exhausted, Member},
    routes::{Guard, Route},
};
use crate::wire::WireError;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use sizewise_contract::Code;
use sizewise_engine::Purse;
use sizewise_store::{Holder, Role};
use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use tokio::sync::SemaphorePermit;

/// The header that says whom a request is about.
pub(super) const SUBJECT: &str = "x-sizewise-subject";
/// The header that says which part of the traffic a request is of.
pub(super) const GROUP: &str = "x-sizewise-group";
/// Longest name of a part of the traffic. `bytes`
const GROUP_BYTES: usize = 64;

/// Knows the API keys.
pub trait KeyCheck: Send + Sync {
    /// Whether any key exists; from then on every caller needs one.
    fn any(&self) -> bool;

    /// Who presents a key, if it is one and is not revoked.
    fn verify(&self, key: &str) -> Option<Arc<Member>>;

    /// Who holds the key of a public id, if it is not revoked: for sessions, which do not keep the key that opened them.
    fn by_id(&self, id: &str) -> Option<Arc<Member>>;

    /// Somebody whom an identity provider vouches for, with their limits; none where those are not described.
    fn member(&self, _holder: Arc<Holder>) -> Option<Arc<Member>> {
        None
    }
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Caller<'s> {
    /// Who holds the key; none where keys are not needed: programs of this machine may do everything.
    member: Option<Arc<Member>>,
    /// Whom the request is about, where its header says so.
    pub(super) subject: Option<String>,
    /// Which part of the traffic it is of, where its header says so.
    pub(super) group: Option<String>,
    _place: Option<SemaphorePermit<'s>>,
}

impl Caller<'_> {
    /// Public id of the key.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.member.as_ref().map(|member| member.holder.id.as_str())
    }

    /// Who holds the key.
    pub(super) fn holder(&self) -> Option<Arc<Holder>> {
        self.member.as_ref().map(|member| Arc::clone(&member.holder))
    }

    /// Whether a task is there for this caller.
    pub(super) fn may_ask(&self, task: &str) -> bool {
        self.member.as_ref().is_none_or(|member| member.rights().allow_task(task))
    }

    /// Whether a provider is there for this caller, by name.
    pub(super) fn may_call(&self, provider: &str) -> bool {
        self.member.as_ref().is_none_or(|member| member.rights().allow_model(provider))
    }

    /// Whether the caller's tokens of this minute are not used up.
    ///
    /// # Errors
    /// Says from when on they are not.
    pub(super) fn check_tokens(&self) -> Result<(), WireError> {
        let member = self.member.as_ref();
        member.map_or(Ok(()), |member| member.check_tokens(Instant::now())).map_err(|no| limited(&no))
    }

    /// Who has to pay for larger models besides the task.
    pub(super) fn purses(&self) -> Vec<Purse> {
        self.member.as_ref().map(|member| member.purses()).unwrap_or_default()
    }
}

/// Lets a caller in.
///
/// # Errors
/// Says what is missing.
pub(super) fn admit<'s, D>(
    serving: &'s Serving<D>,
    route: &Route,
    headers: &HeaderMap,
) -> Result<Caller<'s>, WireError> {
    if route.guard == Guard::Open {
        return Ok(Caller { member: None, subject: None, group: None, _place: None });
    }
    if serving.stopping.load(Ordering::Relaxed) {
        return Err(WireError::new(Code::ShuttingDown, None, "the server is stopping"));
    }
    let member = if serving.keys.any() {
        let member = present(serving, route, headers)?;
        check_role(member.rights().role, route.guard)?;
        member.take(Instant::now()).map_err(|no| limited(&no))?;
        Some(member)
    } else {
        check_origin(headers, &serving.settings.allowed_hosts)?;
        // Other pages of this machine may ask; what is done in the console is done by its own.
        if console::is_of_console(route) && route.method != "GET" {
            session::check_page(headers, false)?;
        }
        None
    };
    let (subject, group) = (subject(headers)?, group(headers)?);
    let place = serving.places.try_acquire().map_err(|_| {
        WireError::new(Code::Overloaded, None, "as many requests as are allowed are being worked on")
            .with_hint("try again in a second")
    })?;
    Ok(Caller { member, subject, group, _place: Some(place) })
}

/// Who asks: the holder of the key that the request carries, or of the one that opened its session. A session reads whatever its
/// holder may read, and changes something in the console alone, from its own page.
fn present<D>(serving: &Serving<D>, route: &Route, headers: &HeaderMap) -> Result<Arc<Member>, WireError> {
    let keys = serving.keys.as_ref();
    let reads = route.method == "GET";
    if presented(headers).is_none()
        && (reads || console::is_of_console(route))
        && let Some(member) = serving.sessions.member(headers, keys)
    {
        if !reads {
            session::check_page(headers, true)?;
        }
        return member;
    }
    check_key(keys, headers)
}

fn limited(no: &Exhausted) -> WireError {
    WireError::new(Code::RateLimited, None, no.problem.clone())
        .with_hint(format!("ask again in {} s", no.wait.as_secs() + 1))
        .with_wait(no.wait)
}

fn check_role(role: Role, guard: Guard) -> Result<(), WireError> {
    let may = match guard {
        Guard::Open => true,
        Guard::Calls => matches!(role, Role::Caller | Role::Operator),
        Guard::Watches => matches!(role, Role::Monitor | Role::Operator),
        Guard::Enters => matches!(role, Role::Caller | Role::Reviewer | Role::Operator),
        Guard::Views => matches!(role, Role::Caller | Role::Operator),
        Guard::Labels => matches!(role, Role::Reviewer | Role::Operator),
        Guard::Runs => role == Role::Operator,
    };
    if may {
        return Ok(());
    }
    Err(WireError::new(Code::NotAllowed, None, "the API key is not there for this path")
        .with_hint("whoever runs the server can make one that is: sizewise keys create --role"))
}

fn check_key(keys: &dyn KeyCheck, headers: &HeaderMap) -> Result<Arc<Member>, WireError> {
    let Some(key) = presented(headers) else {
        return Err(WireError::new(Code::KeyMissing, None, "the request carries no API key")
            .with_hint("send it as `Authorization: Bearer …`, `x-api-key` or `x-goog-api-key`"));
    };
    keys.verify(key)
        .ok_or_else(|| WireError::new(Code::KeyInvalid, None, "the API key is unknown or revoked"))
}

/// Whom the request is about. One that cannot be read is refused: what it leaves behind could not be found again to be erased.
fn subject(headers: &HeaderMap) -> Result<Option<String>, WireError> {
    let Some(value) = headers.get(SUBJECT) else { return Ok(None) };
    let subject = std::str::from_utf8(value.as_bytes()).map(str::trim).unwrap_or_default();
    match subject.is_empty() {
        true => Err(WireError::request(Some(SUBJECT.into()), "the header names nobody in UTF-8")),
        false => Ok(Some(subject.to_owned())),
    }
}

/// Which part of the traffic the request is of: a short name without anything personal.
fn group(headers: &HeaderMap) -> Result<Option<String>, WireError> {
    let Some(value) = headers.get(GROUP) else { return Ok(None) };
    let group = value.to_str().map(str::trim).unwrap_or_default();
    match group.is_empty() || group.len() > GROUP_BYTES {
        true => Err(WireError::request(
            Some(GROUP.into()),
            format!("the header names no part of the traffic in 1 to {GROUP_BYTES} plain letters"),
        )),
        false => Ok(Some(group.to_owned())),
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    };
    let plain = |name| headers.get(name)?.to_str().ok().map(str::trim);
    bearer().or_else(|| plain("x-api-key")).or_else(|| plain("x-goog-api-key")).filter(|key| !key.is_empty())
}

fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), WireError> {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !is_of_this_machine(host, allowed) {
        let shown: String = host.chars().take(100).collect();
        return Err(WireError::new(
            Code::OriginRefused,
            None,
            format!("this server is not called `{shown}`"),
        )
        .with_hint("call it localhost, allow the name in the settings, or create an API key"));
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let name = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, name)| name);
    if name.is_some_and(|name| is_of_this_machine(name, allowed)) {
        return Ok(());
    }
    Err(WireError::new(
        Code::OriginRefused,
        None,
        "a web page from elsewhere may not call a server without keys",
    )
    .with_hint("create an API key"))
}

/// Whether a host, with or without a port, can only be this machine.
fn is_of_this_machine(host: &str, allowed: &[String]) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    // Names under `localhost` never leave the machine: RFC 6761, section 6.3.
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
        || allowed.iter().any(|known| known.eq_ignore_ascii_case(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use sizewise_contract::Diagnose;
    use sizewise_store::Rights;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value))
            })
            .collect()
    }

    struct OneKey;

    impl KeyCheck for OneKey {
        fn any(&self) -> bool {
            true
        }

        fn verify(&self, key: &str) -> Option<Arc<Member>> {
            let holder = Arc::new(Holder { id: "key-1".into(), rights: Rights::default() });
            (key == "right").then(|| Arc::new(Member { holder, quotas: Vec::new() }))
        }

        fn by_id(&self, _: &str) -> Option<Arc<Member>> {
            None
        }
    }

    #[test]
    fn a_key_is_read_from_either_header() {
        let check = |pairs: &[(&'static str, &'static str)]| check_key(&OneKey, &headers(pairs));
        for pair in [
            ("authorization", "Bearer right"),
            ("authorization", "bearer  right "),
            ("x-api-key", "right"),
            ("x-goog-api-key", "right"),
        ] {
            assert_eq!(check(&[pair]).map(|member| member.holder.id.clone()), Ok("key-1".into()), "{pair:?}");
        }
        for (pairs, code) in [
            (vec![], Code::KeyMissing),
            (vec![("authorization", "Basic right")], Code::KeyMissing),
            (vec![("authorization", "Bearer ")], Code::KeyMissing),
            (vec![("authorization", "Bearer wrong"), ("x-api-key", "right")], Code::KeyInvalid),
        ] {
            assert_eq!(check(&pairs).expect_err("no key").code(), code, "{pairs:?}");
        }
    }

    #[test]
    fn each_role_is_there_for_its_paths() {
        use Guard::{Calls, Enters, Labels, Open, Runs, Views, Watches};
        for (role, expected) in [
            (Role::Caller, [true, true, false, true, true, false, false]),
            (Role::Monitor, [true, false, true, false, false, false, false]),
            (Role::Reviewer, [true, false, false, true, false, true, false]),
            (Role::Operator, [true; 7]),
        ] {
            let told = [Open, Calls, Watches, Enters, Views, Labels, Runs]
                .map(|guard| check_role(role, guard).is_ok());
            assert_eq!(told, expected, "{role:?}");
        }
    }

    #[test]
    fn whom_a_request_is_about_is_read_or_refused() {
        let read = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(SUBJECT, HeaderValue::from_bytes(value).expect("a value"));
            subject(&headers)
        };
        assert_eq!(subject(&headers(&[])), Ok(None));
        assert_eq!(read(b" customer-17 "), Ok(Some("customer-17".to_owned())));
        assert_eq!(read("J\u{f6}rg".as_bytes()), Ok(Some("J\u{f6}rg".to_owned())));
        for wrong in [&b""[..], b"  ", b"\xff"] {
            assert_eq!(read(wrong).expect_err("nobody").code(), Code::RequestInvalid);
        }
    }

    #[test]
    fn only_names_of_this_machine_are_called_by() {
        let allowed = ["desk.example".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.1.2.3",
            "[::1]:8080",
            "app.localhost",
            "localhost.",
            "desk.example:80",
        ] {
            assert!(is_of_this_machine(host, &allowed), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "10.0.0.1",
            "[::2]:80",
            "evillocalhost",
            "127.0.0.1@evil.example",
            "[::1",
        ] {
            assert!(!is_of_this_machine(host, &allowed), "{host}");
        }
    }

    #[test]
    fn a_page_from_elsewhere_is_refused_and_one_of_this_machine_is_not() {
        let check = |pairs: &[(&'static str, &'static str)]| check_origin(&headers(pairs), &[]);
        assert!(check(&[("host", "localhost:8080")]).is_ok());
        assert!(check(&[("host", "localhost:8080"), ("origin", "http://localhost:3000")]).is_ok());
        assert!(check(&[("host", "localhost:8080"), ("origin", "https://evil.example")]).is_err());
        assert!(check(&[("host", "localhost:8080"), ("origin", "null")]).is_err());
        assert!(check(&[("host", "evil.example:8080")]).is_err());
        assert!(check(&[]).is_err());
    }
}
