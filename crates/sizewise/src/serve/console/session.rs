//! Who is it that looks at the console, after they have shown their key?
//!
//! A browser keeps a random id in a cookie that no script reads and no other site's page sends; here lies only a keyed hash of it,
//! in memory: a restart ends every session. A session is as good as what opened it: a key that is revoked or changed since, or a
//! token that has ended, is looked at again with every request. Of a key its public id is kept, not the key; of a token the
//! token, as only that can be judged again. Who signed in at an identity provider was vouched for once and for that alone, as its token says: until
//! the session ends, they are who they were.
//!
//! The cookie is marked `Secure` where the page itself came over https. A browser says so in the `Origin` of the request that opens
//! the session, which no page can forge; a forwarded header, which anybody can send, is not asked.

use super::super::{KeyCheck, Member};
use crate::wire::WireError;
use hyper::header::{COOKIE, HOST, HeaderMap, ORIGIN};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use sizewise_contract::Code;
use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The name of the cookie.
const NAME: &str = "sizewise_session";
/// The cookie of no session.
pub(in crate::serve) const ENDED: &str = "sizewise_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0";
/// Longest session: a working day.
const LONGEST: Duration = Duration::from_secs(12 * 3_600);
/// After so long without a request it has ended.
const IDLE: Duration = Duration::from_secs(2 * 3_600);
/// Most sessions at once; the one that was silent longest makes room.
const MOST: usize = 1_024;

/// The sessions that are open.
pub(in crate::serve) struct Sessions {
    key: Option<hmac::Key>,
    open: Mutex<HashMap<Vec<u8>, Session>>,
}

/// What opened a session, and when.
struct Session {
    credential: Credential,
    /// For how long, at most.
    lasts: Duration,
    since: Instant,
    seen: Instant,
}

enum Credential {
    /// The public id of a key of ours.
    Key(String),
    /// A token of an identity provider.
    Token(String),
    /// Whom an identity provider vouched for, once.
    Person(Arc<Member>),
}

impl Sessions {
    /// None yet.
    pub(in crate::serve) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Self { key, open: Mutex::default() }
    }

    /// Opens a session for who presented `credential`, and returns the cookie.
    ///
    /// # Errors
    /// Fails when the machine has no random numbers.
    pub(in crate::serve) fn open(
        &self,
        credential: &str,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<String, WireError> {
        // A key of ours has no dots, a token has two.
        let credential = match credential.contains('.') {
            true => Credential::Token(credential.to_owned()),
            false => Credential::Key(id.to_owned()),
        };
        self.begin(credential, (LONGEST, came_over_https(headers)))
    }

    /// Opens a session for whom an identity provider vouches for, for so long at most, and returns the cookie.
    ///
    /// # Errors
    /// Fails when the machine has no random numbers.
    pub(in crate::serve) fn open_for(
        &self,
        member: Arc<Member>,
        (lasts, https): (Duration, bool),
    ) -> Result<String, WireError> {
        self.begin(Credential::Person(member), (lasts.min(LONGEST), https))
    }

    fn begin(&self, credential: Credential, (lasts, https): (Duration, bool)) -> Result<String, WireError> {
        let failed = || WireError::new(Code::Internal, None, "the machine gives no random numbers");
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random).map_err(|_| failed())?;
        let mut name = String::with_capacity(64);
        for byte in random {
            // Writing into a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        let hash = self.hash(&name).ok_or_else(failed)?;
        let now = Instant::now();
        let mut open = self.sessions();
        open.retain(|_, session| session.lasts(now));
        if open.len() >= MOST {
            let silent = open.iter().min_by_key(|(_, session)| session.seen).map(|(hash, _)| hash.clone());
            silent.and_then(|hash| open.remove(&hash));
        }
        open.insert(hash, Session { credential, lasts, since: now, seen: now });
        let secure = if https { "; Secure" } else { "" };
        Ok(format!("{NAME}={name}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", lasts.as_secs()))
    }

    /// Ends the session of a request. Says whether an identity provider had vouched for whoever had it.
    pub(in crate::serve) fn close(&self, headers: &HeaderMap) -> bool {
        let hash = cookie(headers).and_then(|name| self.hash(name));
        let ended = hash.and_then(|hash| self.sessions().remove(&hash));
        ended.is_some_and(|session| matches!(session.credential, Credential::Person(_)))
    }

    /// Who sends a request with a session; none where it sends none.
    ///
    /// # Errors
    /// Fails when the session has ended, or what opened it has.
    pub(in crate::serve) fn member(
        &self,
        headers: &HeaderMap,
        keys: &dyn KeyCheck,
    ) -> Option<Result<Arc<Member>, WireError>> {
        let name = cookie(headers)?;
        let ended = || {
            WireError::new(Code::KeyInvalid, None, "the session has ended")
                .with_hint("come in again with a key")
        };
        Some(self.hash(name).and_then(|hash| self.look(&hash, keys)).ok_or_else(ended))
    }

    fn look(&self, hash: &[u8], keys: &dyn KeyCheck) -> Option<Arc<Member>> {
        let now = Instant::now();
        let mut open = self.sessions();
        let session = open.get_mut(hash).filter(|session| session.lasts(now))?;
        session.seen = now;
        let member = match &session.credential {
            Credential::Key(id) => keys.by_id(id),
            Credential::Token(token) => keys.verify(token),
            Credential::Person(member) => Some(Arc::clone(member)),
        };
        if member.is_none() {
            open.remove(hash);
        }
        member
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, name: &str) -> Option<Vec<u8>> {
        self.key.as_ref().map(|key| hmac::sign(key, name.as_bytes()).as_ref().to_vec())
    }
}

impl Session {
    fn lasts(&self, now: Instant) -> bool {
        now.duration_since(self.since) < self.lasts && now.duration_since(self.seen) < IDLE
    }
}

/// The session id that a request carries.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    cookies(headers).find(|(name, _)| *name == NAME).map(|(_, value)| value)
}

/// The cookies that a request carries, with something in them.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(_, value)| !value.is_empty())
}

fn came_over_https(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

/// Whether a request that changes something was sent by a page of this server. Where it must say so, one that says nothing is
/// refused: every browser says at least its origin.
///
/// # Errors
/// Fails when it was sent by a page from elsewhere.
pub(in crate::serve) fn check_page(headers: &HeaderMap, must_say: bool) -> Result<(), WireError> {
    let text =
        |name| headers.get(name).map(|value: &hyper::header::HeaderValue| value.to_str().unwrap_or_default());
    let own = match (text(hyper::header::HeaderName::from_static("sec-fetch-site")), text(ORIGIN)) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let host = text(HOST).filter(|host| !host.is_empty());
            host.is_some() && origin.split_once("://").map(|(_, name)| name) == host
        }
        (None, None) => !must_say,
    };
    if own {
        return Ok(());
    }
    Err(WireError::new(Code::OriginRefused, None, "this was not sent by a page of this server")
        .with_hint("do it in the console, or send an API key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};
    use sizewise_store::{Holder, Rights};

    /// Knows one key while it stands there.
    struct Ring(Mutex<bool>);

    impl KeyCheck for Ring {
        fn any(&self) -> bool {
            true
        }

        fn verify(&self, key: &str) -> Option<Arc<Member>> {
            (key == "sw_k_secret" || key == "a.b.c").then(|| self.by_id("k"))?
        }

        fn by_id(&self, id: &str) -> Option<Arc<Member>> {
            let holder = Arc::new(Holder { id: id.into(), rights: Rights::default() });
            let known = *self.0.lock().unwrap();
            (known && id == "k").then(|| Arc::new(Member { holder, quotas: Vec::new() }))
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn sent_back(cookie: &str) -> String {
        cookie.split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_session_is_who_opened_it_until_it_is_closed_or_the_key_is_revoked() {
        for credential in ["sw_k_secret", "a.b.c"] {
            let (sessions, ring) = (Sessions::new(), Ring(Mutex::new(true)));
            assert!(sessions.member(&headers(&[]), &ring).is_none());
            let cookie = sessions.open(credential, "k", &headers(&[])).unwrap();
            assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
            let kept = format!("a=b; {}; c=d", sent_back(&cookie));
            let with = headers(&[("cookie", &kept)]);
            assert_eq!(sessions.member(&with, &ring).unwrap().unwrap().holder.id, "k");
            assert!(sessions.member(&headers(&[("cookie", "sizewise_session=00")]), &ring).unwrap().is_err());
            *ring.0.lock().unwrap() = false;
            assert!(sessions.member(&with, &ring).unwrap().is_err(), "revoked");
            *ring.0.lock().unwrap() = true;
            assert!(sessions.member(&with, &ring).unwrap().is_err(), "it does not come back");
            let cookie = sessions.open(credential, "k", &headers(&[])).unwrap();
            let with = headers(&[("cookie", &sent_back(&cookie))]);
            sessions.close(&with);
            assert!(sessions.member(&with, &ring).unwrap().is_err());
        }
    }

    #[test]
    fn whom_an_issuer_vouched_for_stays_for_as_long_as_was_said() {
        let (sessions, ring) = (Sessions::new(), Ring(Mutex::new(false)));
        let holder = Arc::new(Holder { id: "oidc-1".into(), rights: Rights::default() });
        let member = Arc::new(Member { holder, quotas: Vec::new() });
        let hour = Duration::from_secs(3_600);
        let cookie = sessions.open_for(Arc::clone(&member), (hour, true)).unwrap();
        assert!(cookie.contains("SameSite=Strict; Max-Age=3600; Secure"), "{cookie}");
        let with = headers(&[("cookie", &sent_back(&cookie))]);
        assert_eq!(sessions.member(&with, &ring).unwrap().unwrap().holder.id, "oidc-1");
        let open = sessions.sessions();
        let session = open.values().next().unwrap();
        assert!(session.lasts(session.since + hour / 2) && !session.lasts(session.since + hour));
        drop(open);
        let cookie = sessions.open_for(member, (hour * 100, false)).unwrap();
        assert!(cookie.ends_with(&format!("Max-Age={}", LONGEST.as_secs())), "{cookie}");
    }

    #[test]
    fn the_cookie_is_secure_where_the_browser_says_that_its_page_is() {
        let cookie =
            |pairs: &[(&'static str, &str)]| Sessions::new().open("k", "k", &headers(pairs)).unwrap();
        assert!(cookie(&[("origin", "https://desk.example")]).ends_with("; Secure"));
        assert!(!cookie(&[("x-forwarded-proto", "https")]).contains("Secure"));
    }

    #[test]
    fn sessions_end_by_themselves_and_are_never_too_many() {
        let now = Instant::now();
        let session = |since: Duration, seen: Duration| Session {
            credential: Credential::Key("k".into()),
            lasts: LONGEST,
            since: now,
            seen: now + since.saturating_sub(seen),
        };
        let minute = Duration::from_secs(60);
        assert!(session(IDLE, IDLE).lasts(now + IDLE - minute));
        assert!(!session(IDLE, IDLE).lasts(now + IDLE));
        assert!(!session(LONGEST, minute).lasts(now + LONGEST));
        let sessions = Sessions::new();
        for _ in 0..MOST + 5 {
            sessions.open("k", "k", &headers(&[])).unwrap();
        }
        assert_eq!(sessions.sessions().len(), MOST);
    }

    #[test]
    fn only_pages_of_this_server_may_change_something() {
        let own = |pairs: &[(&'static str, &str)], must: bool| check_page(&headers(pairs), must).is_ok();
        let host = ("host", "localhost:8484");
        assert!(own(&[host, ("sec-fetch-site", "same-origin")], true));
        assert!(own(&[host, ("origin", "http://localhost:8484")], true));
        assert!(own(&[host], false));
        for pairs in [
            &[host][..],
            &[host, ("origin", "http://localhost:3000")],
            &[host, ("origin", "null")],
            &[host, ("sec-fetch-site", "same-site"), ("origin", "http://localhost:8484")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "none")],
            &[("origin", "http://localhost:8484")],
        ] {
            assert!(!own(pairs, true), "{pairs:?}");
        }
    }
}
