//! What can stand where a template has a slot?

use super::{
    draft::Draft,
    invent::{Inventor, capital},
    numbers,
    places::Places,
};
use crate::fit::Random;
use sizewise_models::tagger::{Entity, entries};

/// Everything that slots are filled from.
pub(super) struct Filler {
    pub(super) random: Random,
    given: Vec<&'static str>,
    surnames: Vec<&'static str>,
    jobs: Vec<&'static str>,
    job_words: Vec<&'static str>,
    nationalities: Vec<&'static str>,
    companies: Vec<&'static str>,
    company_words: Vec<&'static str>,
    given_like: Inventor,
    surname_like: Inventor,
    word_like: Inventor,
    pub(super) places: Places,
}

const MR: &str = "Mr.|Mrs.|Ms.|Miss|Dr.|Mr.|Mrs.|Ms.|Dr.|Mr|Mrs|Ms|Dr|Prof.|Professor|Sir|Madam|Mx.|Rev.|Capt.|Lady|Herr|Frau|Mme|Señor|Doctor";
const ENDINGS: &str = "Inc|Inc.|Ltd|Ltd.|Limited|LLC|LLP|PLC|plc|Corp|Corp.|Corporation|Co.|Company|GmbH|AG|KG|SE|S.A.|SAS|SARL|S.r.l.|SpA|B.V.|BV|NV|AB|AS|A/S|ApS|Oy|sp. z o.o.|s.r.o.|Kft|d.o.o.|Ltda|Pty Ltd|Pte Ltd|Group|Holdings|Partners|Associates|and Sons|& Sons|Brothers|& Co|Enterprises|Industries|International|Ventures|Consulting|Solutions|Technologies|Systems|Services|Foundation";
const WORDS: &str = "Blue|Green|Red|Golden|Silver|Royal|First|United|National|General|Global|Pacific|Atlantic|Northern|Southern|Eastern|Western|Central|Modern|Smart|Bright|Fresh|River|Mountain|Lake|Forest|Stone|Iron|Sun|Moon|Star|Sky|Ocean|Harbor|Eagle|Lion|Bear|Fox|Oak|Maple|Cedar|Rose|Crown|Castle|Bridge|Tower|Garden|Valley|Summit|Horizon|Pioneer|Liberty|Heritage|Premier|Alpha|Delta|Omega|Apex|Nova|Metro|Urban|Family|Community|Quality|Rapid|Super|Dream|Happy|Little|Big|House|Home|Auto|Body|Pro|Total|Future|World";
const TAILS: &str = "soft|ly|ify|data|hub|tech|lytics|ware|pay|health|coach|labs|works|mind|sense|flow|base|cloud|media|metrics|scope|link|io|.io|X|IQ|DB";
const FIELDS: &str = "sales|marketing|water|quality|finance|insurance|medical|dental|legal|network|computer|systems|security|training|human resources|production|customer service|data|tax|bank|office|school|hotel|kitchen|airport|railway|bus|road|building|metal|wood|glass|paper|textile|food|farm|forest|animal|plant|laboratory|research|sports|music|art|film|news|web|software|information|communications|electronics|power|gas|oil|steel|mining|aircraft|ship|postal|warehouse|freight|cargo|travel|property|fire|health|nursing|rehabilitation|welfare|education|library|museum|payroll|billing|claims|credit|purchasing|advertising|event|fitness|beauty|fashion|garden|pool|pipe|cable|line|machine|tool|engine|equipment|maintenance|safety|compliance|environmental|operations|regional|technical|financial|industrial|agricultural|electrical|chemical|nuclear|clinical|surgical|respiratory|occupational|physical|social|political|public relations|budget|cost|labor|employee benefits|job|employment|recruitment";
const THINGS: &str = "parcel|tent|jacket|lamp|stove|printer|phone|laptop|charger|keyboard|report|invoice|contract|letter|book|key|ticket|bag|shoe|bike|sofa|table|chair|coffee machine|router|cable|camera|watch|ring|coat|map|rope|toaster|heater|manual|file|photo|form|medicine|cream|tablet|antibiotic";
const PRODUCTS: &str = "Trail|Summit|Aero|Power|Smart|Ultra|Home|Sound|Clean|Fresh|Speed|Light|Cloud|Quick|Easy|Flex|Turbo|Eco|Max|Mini|Air|Hydro|Thermo|Vision|Studio|Office|Family|Premium|Gold|Travel|Night|Sun";
const PRODUCT_NOUNS: &str = "Tent|Lamp|Stove|Phone|Watch|Speaker|Vacuum|Backpack|Jacket|Kettle|Router|Camera|Plan|Card|Bundle|Edition|Kit|Set|App|Drive|Pad|Book|Charger|Box|Mixer|Blender|Scooter|Boots";
const WEEKDAYS: &str = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|today|tomorrow|yesterday|Monday morning|next week|last Friday";
const MONTHS: &str = "January|February|March|April|May|June|July|August|September|October|November|December";

impl Filler {
    pub(super) fn new(seed: u64) -> Self {
        let all = |list: &str| entries(list).collect::<Vec<_>>();
        let words = || WORDS.split('|').chain(PRODUCT_NOUNS.split('|')).chain(entries("companies"));
        Self {
            random: Random(seed),
            given: all("given"),
            surnames: all("surnames"),
            jobs: all("jobs"),
            job_words: all("job_words"),
            nationalities: all("nationalities"),
            companies: all("companies"),
            company_words: all("company_words"),
            given_like: Inventor::like(entries("given")),
            surname_like: Inventor::like(entries("surnames")),
            word_like: Inventor::like(words()),
            places: Places::new(),
        }
    }

    /// Fills the slot of this name; false where there is none such.
    pub(super) fn fill(&mut self, slot: &str, draft: &mut Draft) -> bool {
        match slot {
            "person" => self.person(draft),
            "given" => self.name(draft, true),
            "surname" => self.name(draft, false),
            "SURNAME" => {
                let name = self.surname().0.to_uppercase();
                draft.entity(&name, Entity::Person);
            }
            "mr" => draft.entity(self.random.of(MR), Entity::Title),
            "mrde" => draft.entity(self.random.of("Herr|Frau"), Entity::Title),
            "r" => draft.plain(self.random.of("r|")),
            "field" => draft.plain(self.random.of(FIELDS)),
            "job" => {
                let job = self.job(false);
                draft.entity(&job, Entity::Title);
            }
            "job1" => {
                let job = self.job(true);
                let title = self.random.below(2) == 0;
                let job = if title { titled(&job) } else { capital(&job) };
                draft.entity(&job, Entity::Title);
            }
            "nrp" => {
                let nationality = pick(&mut self.random, &self.nationalities);
                draft.entity(nationality, Entity::Nationality);
            }
            "org" => {
                let (name, strange) = self.organization();
                draft.stranger(&name, Entity::Organization, strange);
            }
            "product" => {
                let name = self.product();
                draft.plain(&name);
            }
            "thing" => draft.plain(self.random.of(THINGS)),
            "weekday" => draft.plain(self.random.of(WEEKDAYS)),
            "month" => draft.entity(self.random.of(MONTHS), Entity::DateTime),
            _ => {
                return self.places.fill(slot, draft, &mut self.random, (&self.surnames, &self.surname_like))
                    || numbers::fill(slot, draft, &mut self.random);
            }
        }
        true
    }

    /// A given name, and whether the tagger is to know it.
    fn first(&mut self) -> (String, bool) {
        match self.random.below(100) {
            0..40 => (self.given_like.name(&mut self.random), true),
            chance => (pick(&mut self.random, &self.given).to_owned(), chance < 58),
        }
    }

    fn surname(&mut self) -> (String, bool) {
        match self.random.below(100) {
            0..40 => (self.surname_like.name(&mut self.random), true),
            40..43 => {
                let name = self.surname_like.name(&mut self.random);
                let start = self.random.of("Mc|Mac|O'|Al-|De |Van |von |Di |Le |D'|Fitz");
                (format!("{start}{name}"), true)
            }
            43..45 => (
                format!(
                    "{}-{}",
                    pick(&mut self.random, &self.surnames),
                    pick(&mut self.random, &self.surnames)
                ),
                false,
            ),
            chance => (pick(&mut self.random, &self.surnames).to_owned(), chance < 60),
        }
    }

    fn name(&mut self, draft: &mut Draft, first: bool) {
        let (name, strange) = if first { self.first() } else { self.surname() };
        draft.stranger(&name, Entity::Person, strange);
    }

    fn person(&mut self, draft: &mut Draft) {
        let ((first, a), (last, b)) = (self.first(), self.surname());
        let initial = char::from(b'A' + self.random.below(26) as u8);
        let name = match self.random.below(100) {
            0..9 => format!("{first} {initial}. {last}"),
            9..14 => format!("{first} {initial} {last}"),
            14..18 => format!("{initial}. {last}"),
            18..24 => format!("{first} {} {last}", self.first().0),
            24..29 => format!("{first} {last} {}", self.surname().0),
            29..31 => format!("{first}-{} {last}", self.first().0),
            31..33 => format!("{last}, {first}"),
            33..38 => first,
            38..40 => format!("{first} {last}{}", self.random.of(" Jr.| Sr.| III| II")),
            _ => format!("{first} {last}"),
        };
        draft.stranger(&name, Entity::Person, a && b || (a || b) && self.random.below(2) == 0);
    }

    fn job(&mut self, long: bool) -> String {
        let random = &mut self.random;
        match random.below(if long { 10 } else { 6 }) {
            0..4 => pick(random, &self.jobs).to_owned(),
            4 => format!(
                "{} {}",
                random.of("senior|junior|chief|deputy|assistant|lead|head|trainee|freelance"),
                pick(random, &self.job_words)
            ),
            8 => format!("{} and {} {}", random.of(FIELDS), random.of(FIELDS), pick(random, &self.job_words)),
            9 => format!(
                "{}, {}, and {} {}",
                random.of(FIELDS),
                random.of(FIELDS),
                random.of(FIELDS),
                pick(random, &self.job_words)
            ),
            _ => format!("{} {}", random.of(FIELDS), pick(random, &self.job_words)),
        }
    }

    /// A name of an organisation, and whether the tagger is to take it for unknown.
    fn organization(&mut self) -> (String, bool) {
        let ending = self.random.of(ENDINGS).to_owned();
        let word = |filler: &mut Self| filler.random.of(WORDS).to_owned();
        let kind = |filler: &mut Self| titled(pick(&mut filler.random, &filler.company_words));
        let name = match self.random.below(124) {
            100..105 => format!("{} {}", word(self), titled(self.random.of(PRODUCT_NOUNS))),
            105..109 => format!("{} {}", titled(self.random.of(FIELDS)), word(self)),
            109..112 => {
                format!("{} {} {}", word(self), titled(self.random.of(FIELDS)), self.random.of(PRODUCT_NOUNS))
            }
            112..114 => {
                let (one, other) = (titled(self.random.of(FIELDS)), titled(self.random.of(FIELDS)));
                format!("{one} {} {other}", self.random.of("and|And|&|for|of"))
            }
            114..119 => format!("{}{}", self.word_like.name(&mut self.random), self.random.of(TAILS)),
            119..121 => format!("{} {}", self.word_like.name(&mut self.random), word(self)),
            121..123 => format!("{} {}", self.surname().0, titled(self.random.of(FIELDS))),
            123 => {
                let name = self.word_like.name(&mut self.random);
                format!("{name} {}{}", self.surname().0, self.random.of(TAILS))
            }
            0..14 => format!("{} {ending}", self.surname().0),
            14..20 => format!(
                "{}, {} {} {}",
                self.surname().0,
                self.surname().0,
                self.random.of("and|&"),
                self.surname().0
            ),
            20..26 => format!("{}-{}", self.surname().0, self.surname().0),
            26..30 => format!("{} {} {}", self.surname().0, self.random.of("and|&"), self.surname().0),
            30..38 => return (pick(&mut self.random, &self.companies).to_owned(), self.random.below(4) == 0),
            38..44 => format!("{} {}", self.places.city(&mut self.random).0, kind(self)),
            44..48 => format!("{} of {}", kind(self), self.places.city(&mut self.random).0),
            48..54 => format!("{} {} {}", word(self), word(self), kind(self)),
            54..60 => format!("{} {}", word(self), kind(self)),
            60..64 => format!("{} {} {ending}", word(self), kind(self)),
            64..69 => format!("{} {ending}", self.word_like.name(&mut self.random)),
            69..74 => self.word_like.name(&mut self.random),
            74..78 => format!(
                "{}{}",
                word(self),
                self.random.of("Tech|Soft|Net|Med|Bank|Works|Lab|Point|Mart|Line|Star")
            ),
            78..81 => (0..2 + self.random.below(3))
                .map(|_| char::from(b'A' + self.random.below(26) as u8))
                .collect(),
            81..87 => self.surname().0,
            87..90 => format!(
                "The {} {}",
                word(self),
                self.random.of(
                    "Company|Group|Store|Shop|House|Club|Times|Post|Foundation|Trust|Corner|Market|Inn|Bakery"
                )
            ),
            90..93 => format!("{}'s {}", self.first().0, titled(pick(&mut self.random, &self.company_words))),
            93..95 => format!("{} {} {}", 1 + self.random.below(9), word(self), kind(self)),
            _ => format!("{} {} {ending}", word(self), word(self)),
        };
        (name, self.random.below(4) == 0)
    }

    fn product(&mut self) -> String {
        let number = 1 + self.random.below(900);
        match self.random.below(5) {
            0 => format!("{} {}", self.random.of(PRODUCTS), self.random.of(PRODUCT_NOUNS)),
            1 => format!("{} {} {number}", self.random.of(PRODUCTS), self.random.of(PRODUCT_NOUNS)),
            2 => format!("{}{}", self.random.of(PRODUCTS), self.random.of(PRODUCT_NOUNS)),
            3 => format!("{} {}", self.random.of(PRODUCTS), self.random.of(PRODUCT_NOUNS)).to_lowercase(),
            _ => format!("{}-{number}", self.random.of("X|Z|TX|GT|LM|SR|A|E")),
        }
    }
}

/// One of a list.
pub(super) fn pick<'a>(random: &mut Random, list: &[&'a str]) -> &'a str {
    list.get(random.below(list.len())).copied().unwrap_or_default()
}

impl Random {
    /// One of several, with bars between them.
    pub(super) fn of<'a>(&mut self, several: &'a str) -> &'a str {
        let count = several.split('|').count();
        several.split('|').nth(self.below(count)).unwrap_or_default()
    }
}

/// Every word with a capital.
fn titled(text: &str) -> String {
    text.split(' ')
        .map(|word| if word == "and" || word == "of" { word.to_owned() } else { capital(word) })
        .collect::<Vec<_>>()
        .join(" ")
}
