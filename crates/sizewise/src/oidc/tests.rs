//! Are good tokens taken, and all others not?

#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::json;
use sizewise_store::Role;
use std::io::{Read, Write};

const NOW: i64 = 1_900_000_000;

/// A key of 2,048 bits that was made for this test and thrown away, and a token that it signed.
const MODULUS: &str = concat!(
    "pnmUbLsd7-_0-zDtSn4ALBm8VwO5WkMHGjuYB8tC56d8BxsEgGiPEwrv8dlUueo_NwlXlG3N663zTKyTXP41V0pAwOCY6ojjC82s",
    "PVcgfXPMz2t49-ajZTuruXhekwonv0GzpLn5ad4PS4S0-FqPUtULBQWR61ogESVkOao_7_Fn6i8fQ2zzeoQkzQXy_93TplXIFU5v",
    "0Gxj27capXIvg6tRxEfHiWdOVpVEZabw2IAWMAGp1cnuxiVS70LOTJuOyA-_LCAluBFGnb7F7w6SSj4oVPW1djfOUrF_5tnyBvde",
    "-XCB9z7olXNl2Pjp3lri3rh8CKCdZgk8V0upw4DfAQ"
);
const RS256: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOlsib3RoZXIiLCJzaXpld",
    "2lzZSJdLCJzdWIiOiJhZGFAZGVzay5leGFtcGxlIiwiZXhwIjoyMDAwMDAwMDAwLCJncm91cHMiOlsic3RhZmYiXX0.knorDvc1Y",
    "ItaZ7YB73ymOvyNGdvAaFSj05LGpr3OwQB_2RrQGG1gUOTsSDSNDGobKzwIBteL3pcMOjGbfzHVWAeuKEObBUOtVvi2nI-Hks8Si",
    "YYgC8cEJuHWfrYNb7CAcNFKdGqORHs9jNNrncLEGlpEg5FwPTyqUiIag68z7iDcGo7xg-wR2Ornp4eiLgDAbeJ-CXYQtKXm5KESE",
    "xxhe4Ronfm6mw6RFX2gAAk93kzrxPQ7zUtoWgokTJ8D3JyZxxypFSNxdV9yb8NVt3k_val1kyApOeDniG2jGMZijT1hdZY97DlCW",
    "hPgnf54yuKODuuLWzoHq9ZPMbgcE13kRQ"
);

fn settings() -> OidcSettings {
    toml::from_str("issuer = \"https://id.example\"\naudience = \"sizewise\"").unwrap()
}

fn issuer(settings: OidcSettings, keys: Value) -> Oidc {
    let oidc = Oidc::new(&settings);
    *oidc.keys.write().unwrap() = serde_json::from_value(keys).unwrap();
    oidc
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "sizewise", "sub": "ada", "exp": NOW + 600, "nbf": NOW - 5})
}

/// An issuer that signs with a curve, and its signer.
fn curve(settings: OidcSettings) -> (Oidc, impl Fn(&Value, &Value) -> String) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let oidc =
        issuer(settings, json!([{"kty": "EC", "crv": "P-256", "kid": "c", "use": "sig", "x": x, "y": y}]));
    let sign = move |header: &Value, claims: &Value| {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = pair.sign(&random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    (oidc, sign)
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "c", "typ": "JWT"})
}

#[test]
fn a_good_token_lets_in_and_is_remembered_until_its_end() {
    let (oidc, sign) = curve(settings());
    let token = sign(&header(), &claims());
    let holder = oidc.verify(&token, NOW).unwrap();
    assert!(holder.id.starts_with("oidc-") && !holder.id.contains("ada"));
    assert_eq!(holder.rights, Rights::default());
    assert!(Arc::ptr_eq(&holder, &oidc.verify(&token, NOW + 600).unwrap()), "within the leeway of clocks");
    assert!(oidc.verify(&token, NOW + 661).is_none(), "remembered, and over");
    let again = oidc.verify(&sign(&header(), &claims()), NOW).unwrap();
    assert_eq!(again.id, holder.id, "another token of the same person");
}

#[test]
fn whatever_is_wrong_with_a_token_keeps_out() {
    let (oidc, sign) = curve(settings());
    let with = |name: &str, value: Value| {
        let mut changed = claims();
        changed[name] = value;
        sign(&header(), &changed)
    };
    let without = |name: &str| {
        let mut changed = claims();
        changed.as_object_mut().unwrap().remove(name);
        sign(&header(), &changed)
    };
    let good = sign(&header(), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let forged = format!(
        "{head}.{}.{signature}",
        encoded(&json!({"iss": "https://id.example", "aud": "sizewise", "sub": "root", "exp": NOW + 600}))
    );
    let unsigned = format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(&claims()));
    let shared = sign(&json!({"alg": "HS256", "kid": "c"}), &claims());
    for (what, token) in [
        ("another issuer", with("iss", json!("https://id.example.evil"))),
        ("another audience", with("aud", json!(["other"]))),
        ("no audience", without("aud")),
        ("over", with("exp", json!(NOW - 61))),
        ("no end", without("exp")),
        ("not begun", with("nbf", json!(NOW + 61))),
        ("nobody", with("sub", json!(""))),
        ("no subject", without("sub")),
        ("forged", forged),
        ("unsigned", unsigned),
        ("a shared secret", shared),
        ("another algorithm", sign(&json!({"alg": "RS256", "kid": "c"}), &claims())),
        ("another key", sign(&json!({"alg": "ES256", "kid": "d"}), &claims())),
        ("what must be understood", sign(&json!({"alg": "ES256", "kid": "c", "crit": ["x"]}), &claims())),
        ("cut off", signed.to_owned()),
        ("too large", format!("{good}{}", "A".repeat(TOKEN_BYTES))),
        ("nothing", String::new()),
        ("dots", "..".into()),
    ] {
        assert!(oidc.verify(&token, NOW).is_none(), "{what}");
    }
    assert!(oidc.missed.load(Ordering::Relaxed), "a key that is not known is looked for");
    assert!(oidc.verify(&good, NOW).is_some());
}

#[test]
fn groups_say_what_their_members_may_do_and_others_stay_out() {
    let text = "issuer = \"https://id.example\"\naudience = \"sizewise\"\n[group.admins]\nrole = \"operator\"\n[group.desk]\ntasks = [\"support\"]\n";
    let (oidc, sign) = curve(toml::from_str(text).unwrap());
    let holder = |groups: Value| {
        let mut claims = claims();
        claims["groups"] = groups;
        oidc.verify(&sign(&header(), &claims), NOW)
    };
    assert_eq!(holder(json!(["guests", "admins"])).unwrap().rights.role, Role::Operator);
    assert!(!holder(json!("desk")).unwrap().rights.allow_task("other"));
    assert!(holder(json!(["guests"])).is_none() && holder(json!(7)).is_none());
    assert!(oidc.verify(&sign(&header(), &claims()), NOW).is_none(), "no group at all");
}

#[test]
fn every_algorithm_is_verified_with_keys_of_its_kind_alone() {
    let rsa = json!({"kty": "RSA", "kid": "r", "n": MODULUS, "e": "AQAB"});
    let oidc = issuer(settings(), json!([rsa]));
    assert!(oidc.verify(RS256, NOW).is_some());
    let (front, back) = RS256.split_at(RS256.len() - 2);
    assert!(oidc.verify(&format!("{front}{}", if back == "AA" { "BB" } else { "AA" }), NOW).is_none());
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let oidc = issuer(settings(), json!([{"kty": "OKP", "crv": "Ed25519", "x": x}]));
    let signed = format!("{}.{}", encoded(&json!({"alg": "EdDSA"})), encoded(&claims()));
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())));
    assert!(oidc.verify(&token, NOW).is_some());
    assert!(oidc.verify(RS256, NOW).is_none());
}

#[test]
fn keys_come_from_where_the_issuer_says() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let told = address.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 2_048];
            let count = stream.read(&mut head).unwrap_or(0);
            let body = match std::str::from_utf8(&head[..count]).unwrap().split(' ').nth(1).unwrap() {
                "/realm/.well-known/openid-configuration" => json!({"jwks_uri": format!("{told}/keys")}),
                "/keys" => json!({"keys": [{"kty": "RSA", "kid": "r", "n": MODULUS, "e": "AQAB"}, {"kty": "new", "x5c": 7}, 5]}),
                _ => json!({}),
            }
            .to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    let mut settings = settings();
    settings.issuer = format!("{address}/realm/");
    let oidc = Oidc::new(&settings);
    oidc.refresh().unwrap();
    assert!(oidc.keys.read().unwrap().iter().any(|key| key.kid.as_deref() == Some("r")));
    settings.issuer = format!("{address}/nowhere");
    assert!(Oidc::new(&settings).refresh().unwrap_err().contains("jwks_uri"));
}
