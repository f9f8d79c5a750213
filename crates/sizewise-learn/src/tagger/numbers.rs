//! Which dates, telephone numbers, codes and other numbers do people write, and how?

use super::draft::Draft;
use crate::fit::Random;
use sizewise_models::tagger::Entity;

const PHONES: &str = "###-###-####|(###) ###-####|### ### ####|###.###.####|+1-###-###-####|+1 (###) ###-####|1-800-###-####|###-###-####x###|(###)###-####x####|+1-###-###-####x####|+44 #### ######|0#### ######|(0####) ### ###|0## #### ####|07### ### ###|+49 ### #######|0### / ######|0### ## ## ##|(0###) ## ## ##|+49 (0)### #######|0# ## ## ## ##|+33 # ## ## ## ##|+33 (0)# ## ## ## ##|### ### ###|### ## ## ##|+34 ### ### ###|#### ### ###|0### ######|+39 ### #######|(##) ####-####|+55 ## #####-####|## #### ####|(0#) #### ####|+61 # #### ####|+31 ## #######|0##-#######|+46 ##-### ## ##|0##-### ## ##|### ## ###|## ## ## ##|+45 ## ## ## ##|+47 ### ## ###|0## ### ####|+358 ## #######|+48 ### ### ###|## ### ## ##|+420 ### ### ###|+36 ## ### ####|(##) ### ###|0## / ### ## ##|+41 ## ### ## ##|+43 (0)### ### ## ##|0#### ## ##|+7 ### ###-##-##|+90 ### ### ## ##|0### ### ## ##|+91 ##### #####|+86 ### #### ####|0#-####-####|+81 ## #### ####|+82-##-####-####|+27 ## ### ####|##########|+###########|###########|### ####|###-####|## ######|#### ####|##-##-##-##|####-####|#######|#### #######|0##########|(##)####-####|+## (#)## ### ## ##|###-###-###-####";
const LICENSES: &str = "@#######|@############|@##############|#######|########|#########|@@######|@###-###-##-###-#|@###-####-####|### ### ###|##-###-####|####-##-####|@@@@@######@@#@@|@#########|###-##-####|@@-######|@##-##-####|@@########|########@|@######";
const CODES: &str = "#####|#####|#####|#####|####|####|#####-####|### ##|##-###|#####-###|####-###|@@# #@@|@@## #@@|@# #@@|@#@ #@#|#### @@|######|###|@-####|@@-#####|### ###|@@#@ #@@";
const MONTHS: &str = "January|February|March|April|May|June|July|August|September|October|November|December|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Oct|Nov|Dec";
const HOSTS: &str = "example|mail|posteo|web|company|school|shop|hello|studio";

/// Fills the slot of this name; false where there is none such.
pub(super) fn fill(slot: &str, draft: &mut Draft, random: &mut Random) -> bool {
    match slot {
        "phone" => {
            let phone = digits(random.of(PHONES), random);
            draft.entity(&phone, Entity::Phone);
        }
        "license" => {
            let number = digits(random.of(LICENSES), random);
            draft.entity(&number, Entity::DriverLicense);
        }
        "zip" => {
            let code = code(random);
            draft.entity(&code, Entity::ZipCode);
        }
        "date" => {
            let date = date(random);
            draft.entity(&date, Entity::DateTime);
        }
        "year" => {
            let year = year(random).to_string();
            draft.entity(&year, Entity::DateTime);
        }
        "yy" => {
            let year = format!("{:02}", random.below(100));
            draft.entity(&year, Entity::DateTime);
        }
        "datetime" => {
            let (day, clock) = (
                date(random),
                format!("{:02}:{:02}:{:02}", random.below(24), random.below(60), random.below(60)),
            );
            let day = if random.below(2) == 0 { iso(random) } else { day };
            draft.entity(&format!("{day}{}{clock}", random.of(" |T")), Entity::DateTime);
        }
        "age" => {
            let age = match random.below(30) {
                0 => random.of("twelve|forty-two|sixty|thirty five|eighteen|seventy").to_owned(),
                1 => (100 + random.below(8)).to_string(),
                _ => (1 + random.below(99)).to_string(),
            };
            draft.entity(&age, Entity::Age);
        }
        "email" => {
            let (a, b) = (random.of("ann|bob|info|j.doe|kim99|sales|m_lee"), random.of(HOSTS));
            draft.known(&format!("{a}@{b}.{}", random.of("com|org|de|fr|co.uk")), "EMAIL_ADDRESS");
        }
        "url" => {
            let host = random.of(HOSTS);
            draft.known(
                &format!("{}{host}.{}/", random.of("https://|http://www.|www."), random.of("com|org|de")),
                "URL",
            );
        }
        "ip" => {
            let ip = format!(
                "{}.{}.{}.{}",
                random.below(256),
                random.below(256),
                random.below(256),
                random.below(256)
            );
            draft.known(&ip, "IP_ADDRESS");
        }
        "iban" => draft.known("DE89370400440532013000", "IBAN_CODE"),
        "card" => draft.known("4111 1111 1111 1111", "CREDIT_CARD"),
        "ssn" => {
            let number = digits("###-##-####", random);
            draft.known(&number, "US_SSN");
        }
        "n" => {
            let (small, large) = (random.below(30), random.below(1_500));
            draft.plain(&(if random.below(3) == 0 { large } else { small }).to_string());
        }
        "money" => {
            let (whole, part) = (random.below(3_000), random.below(100));
            let money = match random.below(6) {
                0 => format!("${whole}.{part:02}"),
                1 => format!("{whole},{part:02} €"),
                2 => format!("{whole} {}", random.of("dollars|euros|pounds|USD|EUR|CHF|kr")),
                3 => format!("£{whole}"),
                4 => format!("{}{whole}", random.of("$|€|EUR |USD ")),
                _ => format!("{} dollars", random.of("five|ten|twenty|a hundred|1,200|15,000")),
            };
            draft.plain(&money);
        }
        "order" => {
            let order = digits(
                random.of("F-#####|#####|####|SO-####-###|######|@@-####|INV-####|####/##|T#####"),
                random,
            );
            draft.plain(&order);
        }
        "time" => {
            let (hour, minute) = (1 + random.below(12), random.below(60));
            let time = match random.below(4) {
                0 => format!("{hour} {}", random.of("pm|am|o'clock|p.m.")),
                1 => format!("{hour}:{minute:02}"),
                2 => format!("{}:{minute:02}", hour + 11),
                _ => format!("{hour}{}", random.of("pm|am")),
            };
            draft.plain(&time);
        }
        _ => return false,
    }
    true
}

/// A postal code of some country.
pub(super) fn code(random: &mut Random) -> String {
    digits(random.of(CODES), random)
}

/// `#` becomes a digit, `@` a capital.
pub(super) fn digits(pattern: &str, random: &mut Random) -> String {
    let mut one = |letter| match letter {
        '#' => char::from(b'0' + random.below(10) as u8),
        '@' => char::from(b'A' + random.below(26) as u8),
        letter => letter,
    };
    pattern.chars().map(&mut one).collect()
}

fn year(random: &mut Random) -> usize {
    if random.below(8) == 0 { 1800 + random.below(150) } else { 1940 + random.below(92) }
}

fn iso(random: &mut Random) -> String {
    format!("{}-{:02}-{:02}", year(random), 1 + random.below(12), 1 + random.below(28))
}

fn date(random: &mut Random) -> String {
    let (day, month, year, name) =
        (1 + random.below(31), 1 + random.below(12), year(random), random.of(MONTHS));
    let th = match day {
        1 | 21 | 31 => "st",
        2 | 22 => "nd",
        3 | 23 => "rd",
        _ => "th",
    };
    match random.below(16) {
        0..3 => format!("{month}/{day}/{year}"),
        3 => format!("{month:02}/{day:02}/{year}"),
        4 => format!("{day}/{month}/{:02}", year % 100),
        5 => iso(random),
        6 => format!("{day}.{month}.{year}"),
        7 => format!("{day:02}.{month:02}.{:02}", year % 100),
        8 => format!("{name} {day}, {year}"),
        9 => format!("{day} {name} {year}"),
        10 => format!("{name} {day}{th}, {year}"),
        11 => format!("{day}{th} of {name} {year}"),
        12 => format!("{name} {day}{}", random.of("th|")),
        13 => format!("{day} {name}"),
        14 => format!("{day}-{name}-{year}"),
        _ => format!("{name} {year}"),
    }
}
