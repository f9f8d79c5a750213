//! How does a browser get to the identity provider, and back with a session?
//!
//! It is begun by a page of this server alone, so that no other page begins it for somebody, and ended by whichever browser has the cookie of
//! the beginning. That cookie must come back with a request that another site has caused, so it is `SameSite=Lax`; the session's is
//! `Strict`. Where it leads afterwards is fixed: nothing in a request says where to go.

use super::session;
use crate::{
    clock,
    oidc::sign_in::{Begun, SignIn, Trouble},
    serve::{
        Decider,
        endpoints::Asked,
        reply::{Kind, Reply},
    },
    wire::WireError,
};
use hyper::{
    StatusCode,
    header::{HOST, HeaderMap, LOCATION, SET_COOKIE},
};
use serde_json::{Value, json};
use sizewise_contract::Code;
use std::sync::Arc;

/// The name of the cookie of a beginning. With `__Host-` a browser takes it from this host alone, over https.
const NAMES: [&str; 2] = ["sizewise_sign_in", "__Host-sizewise_sign_in"];
/// For how long a browser keeps it. `seconds`
const KEPT: u32 = 600;
/// How the log calls what came of a way back.
const ROUTE: &str = "/console/api/signed-in";

/// What whoever has no session may come in with.
pub(super) fn ways<D: Decider>(asked: &Asked<'_, D>) -> Reply {
    let sign_in = asked.serving.settings.sign_in.as_ref().map(|sign_in| sign_in.name());
    let told = json!({ "keys_needed": asked.serving.keys.any(), "sign_in": sign_in });
    Reply::new(Kind::Json, told.to_string().into_bytes())
}

/// Where whoever leaves is known still, and how they leave there too; none where the identity provider has no such place.
pub(super) fn elsewhere<D: Decider>(asked: &Asked<'_, D>) -> Option<Value> {
    let sign_in = asked.serving.settings.sign_in.as_ref()?;
    Some(json!({ "name": sign_in.name(), "go": sign_in.leave()? }))
}

/// Tells the page where to send its browser.
///
/// # Errors
/// Fails for pages from elsewhere, and where nobody signs in or the issuer cannot be asked.
pub(super) async fn begin<D: Decider>(asked: &Asked<'_, D>) -> Result<Reply, WireError> {
    session::check_page(asked.headers, true)?;
    let sign_in = way(asked)?;
    let host = asked.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let address = sign_in.address();
    // The cookie of a beginning elsewhere would not come back.
    if !address.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host)) {
        return Err(WireError::new(
            Code::OriginRefused,
            None,
            format!("signing in works under {address}/console/, not here"),
        )
        .with_hint("open the console there"));
    }
    let Begun { go, kept } = beside({
        let sign_in = Arc::clone(&sign_in);
        move || sign_in.begin(seconds())
    })
    .await
    .map_err(|trouble| {
        note(asked, &trouble);
        WireError::new(Code::SourceUnavailable, None, "the identity provider cannot be asked now")
            .with_hint("try again in a minute, or come in with a key")
    })?;
    let cookie = cookie(&sign_in, &kept, KEPT);
    Ok(Reply::new(Kind::Json, json!({ "go": go }).to_string().into_bytes()).with_value(SET_COOKIE, &cookie))
}

/// Opens a session for whoever comes back from the issuer, and leads into the console in any case.
///
/// # Errors
/// Fails where nobody signs in, or the machine has no random numbers.
pub(super) async fn finish<D: Decider>(asked: &Asked<'_, D>) -> Result<Reply, WireError> {
    let sign_in = way(asked)?;
    let kept = kept(asked.headers, &sign_in);
    let query = asked.query.unwrap_or_default().to_owned();
    let found = beside({
        let sign_in = Arc::clone(&sign_in);
        move || sign_in.finish(kept.as_deref(), &query, seconds())
    })
    .await;
    // Whose team is not described any more is refused as with a token.
    let found = found.and_then(|holder| asked.serving.keys.member(holder).ok_or(Trouble::Rights));
    let (place, session) = match found {
        Ok(member) => {
            let how = (sign_in.lasts(), sign_in.is_https());
            ("/console/".to_owned(), Some(asked.serving.sessions.open_for(member, how)?))
        }
        Err(trouble) => {
            note(asked, &trouble);
            (format!("/console/#/not-signed-in/{}", trouble.word()), None)
        }
    };
    let reply = Reply::new(Kind::Html, "")
        .with_status(StatusCode::SEE_OTHER)
        .with_value(LOCATION, &place)
        .with_value(SET_COOKIE, &cookie(&sign_in, "", 0));
    Ok(session.iter().fold(reply, |reply, session| reply.with_another(SET_COOKIE, session)))
}

fn way<D: Decider>(asked: &Asked<'_, D>) -> Result<Arc<SignIn>, WireError> {
    asked.serving.settings.sign_in.clone().ok_or_else(|| {
        WireError::new(Code::UnknownRoute, None, "nobody signs in here at an identity provider")
            .with_hint("[oidc.sign_in] in sizewise.toml says how")
    })
}

/// Waits for the network without holding up other requests.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Trouble::Issuer("signing in panicked".into())))
}

/// Tells whoever runs the server what is theirs to mend; it holds nothing that a person or an issuer wrote.
fn note<D: Decider>(asked: &Asked<'_, D>, trouble: &Trouble) {
    if let Some(told) = trouble.told() {
        let told = format!("somebody could not sign in: {told}");
        asked.serving.log.error(ROUTE, &WireError::new(Code::SourceUnavailable, None, told));
    }
}

fn seconds() -> i64 {
    clock::now().0.div_euclid(1_000)
}

fn name(sign_in: &SignIn) -> &'static str {
    if sign_in.is_https() { NAMES[1] } else { NAMES[0] }
}

fn cookie(sign_in: &SignIn, value: &str, seconds: u32) -> String {
    let secure = if sign_in.is_https() { "; Secure" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}", name(sign_in))
}

/// What the browser kept since the beginning.
fn kept(headers: &HeaderMap, sign_in: &SignIn) -> Option<String> {
    session::cookies(headers).find(|(known, _)| *known == name(sign_in)).map(|(_, value)| value.to_owned())
}
