//! Is what is personal found, replaced and put back?

use super::*;

fn by_rules(text: &str) -> String {
    match kept(text, StoreInput::Redacted) {
        StoredInput::Redacted(text) => text,
        _ => panic!("it is redacted"),
    }
}

#[test]
fn addresses_and_long_numbers_are_replaced_and_the_matter_stays() {
    for (text, expected) in [
        ("write to ann.lee+shop@mail.example.org please", "write to <EMAIL_ADDRESS_1> please"),
        ("my card 4111 1111 1111 1111 was charged 49.90", "my card <CREDIT_CARD_1> was charged 49.90"),
        ("my card 4111 1111 1111 1112 was charged", "my card <NUMBER_1> was charged"),
        (
            "it runs on 10.0.0.1 and fe80::1, since 12:30:45",
            "it runs on <IP_ADDRESS_1> and <IP_ADDRESS_2>, since 12:30:45",
        ),
        ("born 3/23/1940, number 308-63-0237", "born <DATE_TIME_1>, number <US_SSN_1>"),
        ("my api key is sk-abcdEFGH1234567890, token: hunter22", "my <SECRET_1> <SECRET_2>"),
        ("version 1.2.3 of the app, 2 of 3 pieces", "version 1.2.3 of the app, 2 of 3 pieces"),
        ("it says std::vec", "it says std::vec"),
        ("call +49 (30) 901820 or 030/9018-20", "call <NUMBER_1> or <NUMBER_2>"),
        ("to DE89 3704 0044 0532 0130 00, order F-20418", "to <IBAN_CODE_1>, order F-20418"),
        ("see https://example.org/t?token=abc it broke", "see <URL_1> it broke"),
        ("ordered 2 tents on 3 May", "ordered 2 tents on 3 May"),
        ("DNI 12345678Z, or was it 12345678A?", "DNI <NATIONAL_ID_1>, or was it <NUMBER_1>?"),
        (
            "I am 34 years old, aged 34; zip code 10115",
            "I am <AGE_1> years old, aged <AGE_1>; zip code <ZIP_CODE_1>",
        ),
        ("my driver's license is D1234567", "my driver's license is <DRIVER_LICENSE_1>"),
        ("on 12 March 2021 at shop.example.com", "on <DATE_TIME_1> at <URL_1>"),
    ] {
        assert_eq!(by_rules(text), expected);
    }
}

#[test]
fn names_and_places_are_found_and_are_who_they_were() {
    let text = "Dear Mrs. Johnson,\nmy name is Peter Krüger and I live in Hamburg. Peter Krüger, call +49 40 1234567.";
    let redacted = redacted(text).unwrap();
    let shown = redacted.text();
    assert!(!shown.contains("Johnson") && !shown.contains("Krüger") && !shown.contains("Hamburg"), "{shown}");
    assert_eq!(shown.matches("<PERSON_2>").count(), 2, "{shown}");
    assert_eq!(redacted.restore(shown), text);
    let answer = redacted.restore("Ask <PERSON_2> in <LOCATION_1>, not <PERSON_9> or <b>.");
    assert_eq!(answer, "Ask Peter Krüger in Hamburg, not <PERSON_9> or <b>.");
    assert!(!format!("{redacted:?}").contains("Hamburg"));
}

#[test]
fn what_has_nothing_personal_stays_as_it_is() {
    for text in [
        "How do I reset my password?",
        "The lamp stopped working after an hour, I want my money back.",
        "what time does the shop open on monday",
        "",
    ] {
        assert_eq!(redact(text), text);
    }
}

#[test]
fn a_placeholder_that_a_text_holds_already_is_left_to_it() {
    let text = "<PERSON_1> wrote to Maria Lopez; <PERSON_<PERSON_2> did not";
    let redacted = redacted(text).unwrap();
    assert!(!redacted.text().contains("Maria"), "{redacted:?}");
    assert_eq!(redacted.restore(redacted.text()), text);
}

#[test]
fn where_nothing_can_be_searched_nothing_is_shown() {
    assert_eq!(Redacted::new("Maria Lopez", None).into_text(), "<WITHHELD>");
}

#[test]
fn a_long_text_takes_time_in_proportion() {
    let unit = "Maria Lopez of 12 Oak Street, x@y.org; <a> 555-123-4567 ";
    for long in
        [unit.repeat((1 << 18) / unit.len()), "1".repeat(1 << 20), "a.".repeat(1 << 16), "A ".repeat(1 << 16)]
    {
        let begun = std::time::Instant::now();
        let redacted = redacted(&long).unwrap();
        assert_eq!(redacted.restore(redacted.text()), long);
        // Seconds even where tests are compiled without optimisation; what is squared in the length would take hours.
        assert!(begun.elapsed().as_secs() < 60);
    }
}

proptest::proptest! {
    #[test]
    fn no_seven_digits_survive_together(text in ".{0,80}", number in "[0-9]{7,20}") {
        let text = format!("{text} {number} {text}");
        proptest::prop_assert!(!by_rules(&text).contains(&number));
        proptest::prop_assert!(!redact(&text).contains(&number));
    }

    #[test]
    fn any_text_comes_back_and_findings_lie_in_order(
        text in "\\PC{0,60}|([A-Z][a-zéüß]{1,9}|[0-9]{1,9}|<PERSON_1>|<|>|\n|İ|ẞ|\u{301}| |, |@|\\.){0,30}"
    ) {
        let found = find(&text).unwrap();
        let mut after = 0;
        for finding in &found {
            proptest::prop_assert!(finding.span.start >= after && finding.span.start < finding.span.end);
            proptest::prop_assert!(text.get(finding.span.clone()).is_some());
            after = finding.span.end;
        }
        let redacted = redacted(&text).unwrap();
        proptest::prop_assert_eq!(redacted.restore(redacted.text()), text);
    }
}
