//! What goes over the wire when somebody signs in?

use super::{
    harness::{Behaviour, Keys, call, start},
    *,
};
use crate::oidc::sign_in::tests::Issuer;

const BEGIN: &str = "/console/api/sign-in";

#[test]
fn a_browser_is_sent_there_and_back_with_cookies_that_no_script_reads() {
    for (address, secure) in [("http://localhost", false), ("https://localhost", true)] {
        let issuer = Issuer::start();
        let settings =
            Settings { sign_in: Some(Arc::new(issuer.sign_in_at(address))), ..Settings::default() };
        let server = start(settings, Keys::One, Behaviour::Answers);
        assert_eq!(
            call(&server, "GET", "/console/api/login", "", "").json()["sign_in"].as_str(),
            Some(issuer.host())
        );
        let own = "sec-fetch-site: same-origin\r\ncontent-type: application/json\r\n";
        let begun = call(&server, "POST", BEGIN, own, "{}");
        let cookie = begun.header("set-cookie").expect("a cookie").to_owned();
        assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Lax; Max-Age=600"), "{cookie}");
        assert_eq!(
            (cookie.starts_with("__Host-"), cookie.ends_with("; Secure")),
            (secure, secure),
            "{cookie}"
        );
        let go = begun.json()["go"].as_str().expect("an address").to_owned();
        let back = issuer.back(&go, unix_seconds() as i64 + 300);
        let path = format!("/console/api/signed-in?{back}&next=https://evil.example");
        let kept = format!("cookie: a=b; {}\r\n", cookie.split(';').next().expect("a pair"));
        let without = call(&server, "GET", &path, "", "");
        assert_eq!(
            (without.status, without.header("location")),
            (303, Some("/console/#/not-signed-in/stale"))
        );
        assert!(!without.head.contains("sizewise_session="), "{}", without.head);
        let came = call(&server, "GET", &path, &kept, "");
        assert_eq!((came.status, came.header("location")), (303, Some("/console/")));
        assert_eq!(came.header("cache-control"), Some("no-store"));
        assert_eq!(came.header("referrer-policy"), Some("no-referrer"));
        let cookies: Vec<&str> =
            came.head.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).collect();
        assert!(
            cookies.iter().any(|one| one.contains("sizewise_sign_in=;") && one.contains("Max-Age=0")),
            "{cookies:?}"
        );
        let session = cookies.iter().find(|one| one.starts_with("sizewise_session=")).expect("a session");
        assert!(
            session.contains("; HttpOnly; SameSite=Strict") && session.ends_with("; Secure") == secure,
            "{session}"
        );
        let with = format!("cookie: {}\r\n", session.split(';').next().expect("a pair"));
        let told = call(&server, "GET", "/console/api/session", &with, "");
        assert!(told.json()["key"].as_str().is_some_and(|id| id.starts_with("oidc-")), "{}", told.body);
        let again = call(&server, "GET", &path, &kept, "");
        assert_eq!(again.header("location"), Some("/console/#/not-signed-in/stale"));
    }
}

#[test]
fn only_a_page_of_this_server_begins_and_only_where_its_cookie_comes_back() {
    let issuer = Issuer::start();
    let settings = Settings {
        sign_in: Some(Arc::new(issuer.sign_in_at("https://desk.example"))),
        ..Settings::default()
    };
    let server = start(settings, Keys::One, Behaviour::Answers);
    let json = "content-type: application/json\r\n";
    for from in
        ["", "sec-fetch-site: cross-site\r\n", "sec-fetch-site: none\r\n", "origin: https://evil.example\r\n"]
    {
        let reply = call(&server, "POST", BEGIN, &format!("{from}{json}"), "{}");
        assert_eq!((reply.status, reply.error_code().as_str()), (403, "origin_refused"), "{from}");
        assert!(reply.header("set-cookie").is_none());
    }
    let elsewhere = call(&server, "POST", BEGIN, &format!("sec-fetch-site: same-origin\r\n{json}"), "{}");
    assert_eq!(elsewhere.status, 403);
    assert!(elsewhere.body.contains("https://desk.example/console/"), "{}", elsewhere.body);
}
