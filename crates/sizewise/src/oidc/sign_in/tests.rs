//! Does whoever comes back in order get in, and nobody else?

#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;
use crate::oidc::OidcSettings;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use std::{
    io::{Read, Write},
    net::TcpListener,
};

const NOW: i64 = 1_900_000_000;
const ADDRESS: &str = "https://desk.example";

/// What a scripted issuer does.
#[derive(Clone)]
struct Script {
    /// What goes over the claims of its tokens; null leaves one out.
    claims: Value,
    /// Until when they are good.
    until: i64,
    /// What goes over its configuration.
    configuration: Value,
    /// What it answers for a code in place of a token.
    instead: Option<(u16, String)>,
    /// The challenge and the nonce of the browser that it sent back with `code`; each code is good once.
    code: Option<(String, String)>,
    /// Forms that came to the token endpoint, with the header that says who sent them.
    forms: Vec<(BTreeMap<String, String>, Option<String>)>,
}

pub(crate) struct Issuer {
    address: String,
    script: Arc<Mutex<Script>>,
}

impl Issuer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let script = Script {
            claims: json!({}),
            until: 0,
            configuration: json!({}),
            instead: None,
            code: None,
            forms: Vec::new(),
        };
        let script = Arc::new(Mutex::new(script));
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let (shared, own) = (Arc::clone(&script), address.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (head, body) = request(&mut stream);
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let (status, told) =
                    answer(&mut shared.lock().unwrap(), (&own, &path), (&head, &body), &pair);
                let head = format!(
                    "HTTP/1.1 {status} OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    told.len()
                );
                // Whoever asked may have had enough before the end.
                let _ = stream.write_all(format!("{head}{told}").as_bytes());
            }
        });
        Self { address, script }
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn settings(&self, more: &str) -> OidcSettings {
        let text = format!("issuer = \"{}\"\naudience = \"programs\"\n{more}\n", self.address);
        toml::from_str(&text).unwrap()
    }

    /// The way in of a server under an address.
    pub(crate) fn sign_in_at(&self, address: &str) -> SignIn {
        self.made(&self.settings(SIGN_IN), address)
    }

    /// How the button calls it.
    pub(crate) fn host(&self) -> &str {
        self.address.split_once("://").unwrap().1
    }

    fn sign_in(&self, more: &str) -> SignIn {
        self.made(&self.settings(more), ADDRESS)
    }

    fn made(&self, settings: &OidcSettings, address: &str) -> SignIn {
        let oidc = Arc::new(Oidc::new(settings));
        oidc.refresh().unwrap();
        SignIn::new(oidc, settings.sign_in.as_ref().unwrap(), (Some(address), Path::new("."))).unwrap()
    }

    /// Sends the browser that came to an address back, as the issuer does once somebody has signed in there; says with what.
    pub(crate) fn back(&self, go: &str, until: i64) -> String {
        self.script().until = until;
        let asked = read(go.split_once('?').unwrap().1).unwrap();
        self.script().code = Some((asked["code_challenge"].clone(), asked["nonce"].clone()));
        form(&[("code", "the code"), ("state", &asked["state"])])
    }
}

fn request(stream: &mut std::net::TcpStream) -> (String, String) {
    let (mut all, mut piece) = (String::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut piece).unwrap();
        all.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        let Some((head, body)) = all.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if count == 0 || body.len() >= length.unwrap_or(0) {
            return (head.to_owned(), body.to_owned());
        }
    }
}

fn over(mut value: Value, changes: &Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    value.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    value
}

fn answer(
    script: &mut Script,
    (own, path): (&str, &str),
    (head, body): (&str, &str),
    pair: &EcdsaKeyPair,
) -> (u16, String) {
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    match path {
        "/.well-known/openid-configuration" => {
            let told = json!({
                "issuer": own, "jwks_uri": format!("{own}/keys"),
                "authorization_endpoint": format!("{own}/authorize?tenant=desk"), "token_endpoint": format!("{own}/token"),
            });
            (200, over(told, &script.configuration).to_string())
        }
        "/keys" => {
            let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            (200, json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "c", "x": x, "y": y}]}).to_string())
        }
        "/token" => {
            let fields = read(body).unwrap();
            let who = head.lines().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
            script.forms.push((fields.clone(), who));
            if let Some(instead) = &script.instead {
                return instead.clone();
            }
            // The code is good once, for whoever knows what the challenge was made of.
            let challenge = digest::digest(&digest::SHA256, fields["code_verifier"].as_bytes());
            let challenge = URL_SAFE_NO_PAD.encode(challenge.as_ref());
            let Some((_, nonce)) = script.code.take().filter(|(own, _)| *own == challenge) else {
                return (400, json!({"error": "invalid_grant", "error_description": "secret"}).to_string());
            };
            let claims =
                json!({"iss": own, "aud": "console", "sub": "ada", "exp": script.until, "nonce": nonce});
            let signed = format!(
                "{}.{}",
                encoded(&json!({"alg": "ES256", "kid": "c"})),
                encoded(&over(claims, &script.claims))
            );
            let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            (200, json!({"access_token": "x", "token_type": "Bearer", "id_token": token}).to_string())
        }
        _ => (404, String::new()),
    }
}

const SIGN_IN: &str = "[sign_in]\nclient = \"console\"\n";

#[test]
fn whoever_comes_back_in_order_gets_in_once() {
    let issuer = Issuer::start();
    let sign_in = issuer.sign_in(
        "[rights]\nrole = \"operator\"\n[sign_in]\nclient = \"console\"\nscopes = [\"groups\", \"openid\"]\n",
    );
    let begun = sign_in.begin(NOW).unwrap();
    let (place, query) = begun.go.split_once('?').unwrap();
    assert_eq!(place, format!("{}/authorize", issuer.address));
    let asked = read(query).unwrap();
    let wanted =
        [("tenant", "desk"), ("response_type", "code"), ("client_id", "console"), ("scope", "openid groups")];
    for (name, value) in wanted {
        assert_eq!(asked[name], value);
    }
    assert_eq!(asked["redirect_uri"], "https://desk.example/console/api/signed-in");
    assert_eq!(asked["code_challenge_method"], "S256");
    // What the browser keeps tells nobody the state, the nonce or the verifier.
    for name in ["state", "nonce", "code_challenge"] {
        assert!(asked[name].len() == 43 && !begun.kept.contains(&asked[name]), "{name}");
    }
    let back = issuer.back(&begun.go, NOW + 300);
    let holder = sign_in.finish(Some(&begun.kept), &back, NOW + 60).unwrap();
    assert_eq!(holder.rights.role, Role::Operator);
    let (fields, who) = issuer.script().forms.pop().unwrap();
    assert_eq!((fields["grant_type"].as_str(), fields["code"].as_str()), ("authorization_code", "the code"));
    assert_eq!(
        (fields["client_id"].as_str(), fields["redirect_uri"].as_str()),
        ("console", asked["redirect_uri"].as_str())
    );
    assert!(who.is_none() && !fields.contains_key("client_secret"));
    // The same person as with a token for programs, whose audience is another.
    let whom = sizewise_contract::ContentHash::of(format!("{}\0ada", issuer.address).as_bytes()).to_string();
    assert_eq!(holder.id, format!("oidc-{}", &whom[..16]));
    // Back again with the same: nobody asks the issuer, though it would say yes.
    issuer.back(&begun.go, NOW + 300);
    assert_eq!(sign_in.finish(Some(&begun.kept), &back, NOW + 61).unwrap_err(), Trouble::Stale);
    assert!(issuer.script().forms.is_empty());
    // A code that was used, in a new beginning.
    let again = sign_in.begin(NOW).unwrap();
    let replayed = issuer.back(&again.go, NOW + 300);
    issuer.script().code = None;
    assert_eq!(sign_in.finish(Some(&again.kept), &replayed, NOW + 60).unwrap_err(), Trouble::Stale);
}

#[test]
fn nobody_comes_back_with_what_somebody_else_began_or_too_late() {
    let issuer = Issuer::start();
    let sign_in = issuer.sign_in(SIGN_IN);
    let (mine, theirs) = (sign_in.begin(NOW).unwrap(), sign_in.begin(NOW).unwrap());
    assert_ne!(mine.kept, theirs.kept);
    let back = issuer.back(&theirs.go, NOW + 300);
    let without_state = form(&[("code", "the code")]);
    let later = mine.kept.replacen(&NOW.to_string(), &(NOW + 500).to_string(), 1);
    let own = issuer.back(&mine.go, NOW + 300);
    let (twice, odd) = (format!("{own}&state=x"), format!("{own}&x=%ff"));
    let long = format!("{own}&x={}", "a".repeat(QUERY_BYTES));
    let cases: &[(&str, Option<&str>, &str, i64)] = &[
        ("another's way back in my browser", Some(&mine.kept), &back, NOW),
        ("no cookie", None, &back, NOW),
        ("an empty cookie", Some(""), &back, NOW),
        ("no state", Some(&mine.kept), &without_state, NOW),
        ("an empty state", Some(&mine.kept), "code=x&state=", NOW),
        ("nothing", Some(&mine.kept), "", NOW),
        ("too late", Some(&mine.kept), &own, NOW + AWAY),
        ("a cookie that says it is younger", Some(&later), &own, NOW + AWAY),
        ("before it was begun", Some(&mine.kept), &own, NOW - 1),
        ("said twice", Some(&mine.kept), &twice, NOW),
        ("no text", Some(&mine.kept), &odd, NOW),
        ("too long", Some(&mine.kept), &long, NOW),
    ];
    for (what, kept, query, at) in cases.iter().copied() {
        assert_eq!(sign_in.finish(kept, query, at).unwrap_err(), Trouble::Stale, "{what}");
    }
    assert!(issuer.script().forms.is_empty(), "the issuer was not asked");
    // Another process, or this one after a restart, has another key.
    let other = issuer.sign_in(SIGN_IN);
    assert_eq!(other.finish(Some(&mine.kept), &own, NOW).unwrap_err(), Trouble::Stale);
    assert!(sign_in.finish(Some(&mine.kept), &own, NOW).is_ok(), "what went wrong before used nothing up");
}

#[test]
fn a_token_that_is_not_the_answer_lets_nobody_in() {
    let issuer = Issuer::start();
    let sign_in = issuer.sign_in(&format!(
        "groups_claim = \"roles\"\n[group.desk]\n[group.watch]\nrole = \"monitor\"\n{SIGN_IN}"
    ));
    let outcome = |claims: Value| {
        issuer.script().claims = claims;
        let begun = sign_in.begin(NOW).unwrap();
        let back = issuer.back(&begun.go, NOW + 300);
        sign_in.finish(Some(&begun.kept), &back, NOW)
    };
    assert!(outcome(json!({"roles": ["desk"]})).is_ok());
    assert!(outcome(json!({"roles": "desk", "aud": ["console", "other"], "azp": "console"})).is_ok());
    for (claims, part) in [
        (json!({"nonce": "another"}), "another sign-in"),
        (json!({"nonce": null}), "another sign-in"),
        (json!({"aud": "programs"}), "made out for somebody else"),
        (json!({"aud": ["console", "other"]}), "another client"),
        (json!({"azp": "other"}), "another client"),
        (json!({"iss": "https://id.example"}), "another issuer"),
        (json!({"exp": NOW - 61}), "has ended"),
        (json!({"nbf": NOW + 61}), "has not begun"),
        (json!({"sub": ""}), "nobody"),
        (json!({"sub": null}), "not signed"),
    ] {
        let mut twisted = claims.clone();
        twisted["roles"] = json!(["desk"]);
        let told = outcome(twisted).unwrap_err();
        assert!(matches!(&told, Trouble::Token(told) if told.contains(part)), "{claims}: {told:?}");
    }
    assert_eq!(outcome(json!({"roles": ["guests"]})).unwrap_err(), Trouble::Rights);
    assert_eq!(outcome(json!({})).unwrap_err(), Trouble::Rights, "in no group");
    assert_eq!(outcome(json!({"roles": ["watch"]})).unwrap_err(), Trouble::Rights, "reads metrics alone");
}

#[test]
fn what_the_issuer_says_no_with_is_told_in_words_of_ours() {
    let issuer = Issuer::start();
    let sign_in = issuer.sign_in(SIGN_IN);
    let came = |query: &[(&str, &str)]| {
        let begun = sign_in.begin(NOW).unwrap();
        let back = issuer.back(&begun.go, NOW + 300);
        sign_in.finish(Some(&begun.kept), &format!("{}&{}", back.replace("code=", "x="), form(query)), NOW)
    };
    assert_eq!(came(&[("error", "access_denied")]).unwrap_err(), Trouble::Denied);
    let told = came(&[("error", "server_error"), ("error_description", "Ada")]).unwrap_err();
    assert_eq!(told.told(), Some("it says server_error"));
    let told = came(&[("error", "<b>Ada</b>")]).unwrap_err();
    assert!(told.told().is_some_and(|told| !told.contains("Ada")), "{told:?}");
    assert_eq!(came(&[]).unwrap_err(), Trouble::Stale, "neither code nor error");
    assert!(matches!(
        came(&[("code", "x"), ("iss", "https://other.example")]).unwrap_err(),
        Trouble::Issuer(_)
    ));
    for (status, body, part) in [
        (401, r#"{"error":"invalid_client"}"#.to_owned(), "401 and said invalid_client"),
        (500, "<html>".into(), "500 and said nothing more"),
        (200, r#"{"access_token":"x"}"#.into(), "no id_token"),
        (200, "x".repeat(DOCUMENT_BYTES + 1), "more than"),
        (302, String::new(), "302"),
    ] {
        issuer.script().instead = Some((status, body));
        let told = came(&[("code", "x")]).unwrap_err();
        assert!(matches!(&told, Trouble::Issuer(told) if told.contains(part)), "{part}: {told:?}");
    }
}

#[test]
fn the_secret_goes_where_the_issuer_wants_it() {
    let issuer = Issuer::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "s3:cret").unwrap();
    let came = |configuration: Value| {
        issuer.script().configuration = configuration;
        let settings = issuer.settings("[sign_in]\nclient = \"console\"\nsecret = \"file:secret\"\n");
        let oidc = Arc::new(Oidc::new(&settings));
        let sign_in = SignIn::new(oidc, settings.sign_in.as_ref().unwrap(), (Some(ADDRESS), folder.path()));
        let sign_in = sign_in.unwrap();
        // Places that nobody has looked for are looked for now.
        let begun = sign_in.begin(NOW).unwrap();
        let back = issuer.back(&begun.go, NOW + 300);
        let back = format!("{back}&{}", form(&[("iss", &issuer.address)]));
        sign_in.finish(Some(&begun.kept), &back, NOW).unwrap();
        issuer.script().forms.pop().unwrap()
    };
    let (fields, who) = came(json!({"authorization_response_iss_parameter_supported": true}));
    assert_eq!(who, Some(format!("Basic {}", STANDARD.encode("console:s3%3Acret"))));
    assert!(!fields.contains_key("client_secret"));
    let (fields, who) = came(json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]}));
    assert_eq!((fields["client_id"].as_str(), fields["client_secret"].as_str()), ("console", "s3:cret"));
    assert!(who.is_none());
}

#[test]
fn an_issuer_that_cannot_be_used_is_told_of() {
    let issuer = Issuer::start();
    for (configuration, part) in [
        (json!({"issuer": "https://other.example"}), "to the letter"),
        (json!({"token_endpoint": null}), "token_endpoint"),
        (json!({"authorization_endpoint": "javascript:alert(1)"}), "authorization_endpoint"),
        (json!({"authorization_endpoint": "https://id.example/\u{a}x"}), "authorization_endpoint"),
    ] {
        issuer.script().configuration = configuration;
        let oidc = Arc::new(Oidc::new(&issuer.settings(SIGN_IN)));
        assert!(oidc.refresh().unwrap_err().contains(part), "{part}");
        let settings = issuer.settings(SIGN_IN).sign_in.unwrap();
        let sign_in = SignIn::new(Arc::clone(&oidc), &settings, (Some(ADDRESS), Path::new("."))).unwrap();
        assert!(matches!(sign_in.begin(NOW), Err(Trouble::Issuer(told)) if told.contains(part)), "{part}");
        assert!(!oidc.keys.read().unwrap().is_empty(), "tokens are taken all the same");
    }
    // It says that it names itself, and does not.
    issuer.script().configuration = json!({"authorization_response_iss_parameter_supported": true});
    let sign_in = issuer.sign_in(SIGN_IN);
    let begun = sign_in.begin(NOW).unwrap();
    let back = issuer.back(&begun.go, NOW + 300);
    assert!(matches!(sign_in.finish(Some(&begun.kept), &back, NOW), Err(Trouble::Issuer(_))));
}

#[test]
fn settings_that_cannot_be_meant_so_are_told_at_the_start() {
    let issuer = Issuer::start();
    let told = |more: &str, address: Option<&str>| {
        let settings = issuer.settings(more);
        let oidc = Arc::new(Oidc::new(&settings));
        SignIn::new(oidc, settings.sign_in.as_ref().unwrap(), (address, Path::new(".")))
            .unwrap_err()
            .to_string()
    };
    assert!(told(SIGN_IN, None).contains("[serve] address"));
    assert!(told("[sign_in]\nclient = \" \"\n", Some(ADDRESS)).contains("client"));
    assert!(told(&format!("{SIGN_IN}hours = 0\n"), Some(ADDRESS)).contains("hours"));
    assert!(told(&format!("{SIGN_IN}scopes = [\"a b\"]\n"), Some(ADDRESS)).contains("scopes"));
    assert!(
        told(&format!("{SIGN_IN}secret = \"env:SIZEWISE_NO_SUCH\"\n"), Some(ADDRESS))
            .contains("SIZEWISE_NO_SUCH")
    );
    assert!(!told(&format!("{SIGN_IN}secret = \"s3cret\"\n"), Some(ADDRESS)).contains("s3cret"));
}

#[test]
fn ways_back_that_are_remembered_are_never_too_many() {
    let issuer = Issuer::start();
    let sign_in = issuer.sign_in(SIGN_IN);
    for at in 0..USED + 5 {
        assert!(sign_in.first(&at.to_string(), NOW + 1, NOW));
    }
    assert_eq!(sign_in.used.lock().unwrap().len(), USED);
    assert!(!sign_in.first(&(USED + 4).to_string(), NOW + 1, NOW));
    assert!(sign_in.first("later", NOW + 99, NOW + 2));
    assert_eq!(sign_in.used.lock().unwrap().len(), 1, "what is too old is forgotten");
}
