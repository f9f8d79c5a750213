//! Does a key get what its rights, its team and its provider's budget let it have, and no more?

use super::{
    provider::Provider,
    server::{Heard, Server},
};
use std::time::{Duration, Instant};

/// What a call of the scenario costs, in millionths of a dollar: 100 tokens read and 10 written.
const CALL: u64 = 120;

fn server(provider: &Provider) -> Server {
    let plain = provider.settings("plain", false);
    let other = provider.settings("other", false) + "budget = { usd_total = 0.004 }\n";
    let rest = "[team.care]\nrequests_per_minute = 7\n[relay]\nproviders = [\"plain\", \"other\"]\nbudget = { usd_total = 9 }\n";
    Server::start(&(plain + &other + rest))
}

/// Calls until the answer has another status, and how many had been answered before.
fn until_refused(server: &Server, key: &str, model: &str) -> (u64, Heard) {
    let mut answered = 0;
    loop {
        let heard = server.chat_as(key, model);
        if heard.status != 200 {
            return (answered, heard);
        }
        answered += 1;
        assert!(answered < 200, "no limit holds");
    }
}

/// What is put down twice a second.
fn settled(server: &Server, payer: &str, expected: u64) {
    let begun = Instant::now();
    while server.paid_by(payer) != expected {
        assert!(begun.elapsed() < Duration::from_secs(5), "{payer}: {}", server.paid_by(payer));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn money_rates_and_allowed_models_hold_for_each_key() {
    let provider = Provider::start();
    let server = server(&provider);
    let (poor, poor_key) = server.key(&["--usd-total", "0.003"]);
    let (_, narrow_key) = server.key(&["--models", "other"]);
    let (_, slow_key) = server.key(&["--requests-per-minute", "5"]);
    let team = ["--team", "care"];
    let ((_, first), (_, second)) = (server.key(&team), server.key(&team));
    let begun = Instant::now();
    while server.chat_as("nobody", "plain").status != 401 || server.chat_as(&second, "nobody").status == 401 {
        assert!(begun.elapsed() < Duration::from_secs(5), "new keys are noticed within a second");
        std::thread::sleep(Duration::from_millis(20));
    }

    let (answered, refused) = until_refused(&server, &poor_key, "plain");
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.body.contains("budget_spent"), "{refused:?}");
    assert!(answered >= 10 && answered * CALL <= 3_000, "{answered}");
    settled(&server, &format!("key/{poor}"), answered * CALL);

    let unknown = server.chat_as(&narrow_key, "plain");
    assert_eq!((unknown.status, unknown.body.contains("unknown_task")), (404, true), "{unknown:?}");
    let (answered, refused) = until_refused(&server, &narrow_key, "other");
    assert!(refused.body.contains("budget_spent"), "the provider's own budget: {refused:?}");
    settled(&server, "provider/other", answered * CALL);

    let (answered, refused) = until_refused(&server, &slow_key, "plain");
    assert!(refused.status == 429 && refused.body.contains("rate_limited"), "{refused:?}");
    assert!((5..=6).contains(&answered), "{answered}");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=13).contains(&wait), "{wait}");

    server.change(&poor, &["--usd-total", "none"]);
    let begun = Instant::now();
    while server.chat_as(&poor_key, "plain").status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(5), "a change is noticed within a second");
        std::thread::sleep(Duration::from_millis(50));
    }

    // One request of the team was asked for a model that is not there.
    let of_first = until_refused(&server, &first, "plain").0;
    let of_second = until_refused(&server, &second, "plain").0;
    assert!((6..=8).contains(&(of_first + of_second)), "{of_first} and {of_second} of the team's 7");
}
