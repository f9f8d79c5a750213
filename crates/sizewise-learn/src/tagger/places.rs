//! Where do people live, and how do they write it down?

use super::{draft::Draft, fill::pick, invent::Inventor, numbers};
use crate::fit::Random;
use sizewise_models::tagger::{Entity, entries};

/// Names of places and streets.
pub(super) struct Places {
    cities: Vec<&'static str>,
    countries: Vec<&'static str>,
    regions: Vec<&'static str>,
    city_like: Inventor,
}

const BEFORE: &str = "New|Port|Lake|North|South|East|West|Saint|St.|San|Santa|El|La|Los|Fort|Mount|Bad|Upper|Great|Little|Old|Villa|Sankt|Le|Las|São|Nova|Stara|Ban|Tel";
const AMID: &str = "de la|del|de|do|da|di|nad|pod|am|an der|bei|in|sur|sous|les|aan den|op|på|de los";
const AFTER: &str = "ville|ton|borough|burg|ford|field|stad|by|heim|hausen|dorf|wick|mouth|bury|ham|port|view|land|berg|kirchen|sund|vik|polis|grad|pur|abad|shire|haven|worth|ley|ingen|bach|feld|furt|stedt|rode|lingen|hult|köping|torp|holm|ö|nes|dal|stein";
const BEHIND: &str = "Beach|City|Falls|Springs|Heights|Park|Valley|Creek|Hills|Bay|Island|Grove|Junction|Harbour|upon Thames|on Sea|am See|an der Lahn|sur Mer|de la Sierra|del Mar|Bridge|Point|Rock";
const ROADS: &str = "Street|Street|St|St.|Avenue|Avenue|Ave|Ave.|Road|Road|Rd|Rd.|Lane|Ln|Drive|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Way|Square|Terrace|Highway|Parkway|Circle|Trail|Crescent|Close|Grove|Row|Mews|Walk|Hill|Heights|Rise|View|Loop|Alley|Pike|Run|Path|Point|Ridge|Esplanade|Parade";
const TREES: &str = "Oak|Maple|Cedar|Pine|Elm|Walnut|Park|Church|Main|High|Mill|Station|School|Lake|River|Hill|Washington|Lincoln|Victoria|King|Queen|Market|Bridge|Spring|Sunset|Meadow|Forest|Chestnut|Willow|Garden|Ashton|Highland|Franklin|Jefferson|Broad|Center|Union|Cherry|Rose|Castle|Green|Mountain|Valley|Birch|Orchard|Abbey|Canal|Dock|Water|Court|Stadium|Farm|Fox|Deer|Eagle|Hidden|Old Mill|Broadway";
const GERMAN: &str = "Haupt|Bahnhof|Garten|Schul|Kirch|Berg|Linden|Ring|Goethe|Schiller|Mozart|Wald|Wiesen|Rosen|Birken|Dorf|Markt|Mühlen|Brunnen|Eichen|Park|Buchen|Hafen|Kaiser|Luther|Karl|Feld|Sonnen|Tal|Bach";
const FRENCH: &str = "de la Paix|de la République|du Château|des Fleurs|Victor Hugo|Pasteur|de l'Église|du Moulin|de la Gare|des Acacias|Jean Jaurès|Voltaire|de Paris|du Pont|des Lilas|Saint-Honoré|de la Liberté|du Général Leclerc|des Écoles|Gambetta";
const SPANISH: &str = "Mayor|del Sol|de la Constitución|Real|San Juan|Santa María|de Cervantes|de la Paz|Colón|Nueva|de las Flores|Libertad|Hidalgo|Juárez|del Prado|Santa Ana|de Alcalá|Ramón y Cajal|Independencia|Bolívar";
const ITALIAN: &str = "Roma|Garibaldi|Mazzini|Verdi|Dante|Cavour|Marconi|XX Settembre|della Repubblica|San Marco|Nazionale|Matteotti|Torino|Leopardi|delle Rose|Vittorio Emanuele|del Corso|Gramsci|Nizza|Santa Lucia";
const NORDIC: &str = "Kirke|Stor|Skole|Kungs|Drottning|Strand|Skog|Berg|Sjö|Ny|Gammel|Hav|Park|Industri|Björk|Ring|Ås|Bakke|Møll|Lille|Tor|Norr|Söder|Väster";

impl Places {
    pub(super) fn new() -> Self {
        Self {
            cities: entries("cities").collect(),
            countries: entries("countries").collect(),
            regions: entries("regions").collect(),
            city_like: Inventor::like(entries("cities").filter(|city| !city.contains(' '))),
        }
    }

    pub(super) fn fill(
        &self,
        slot: &str,
        draft: &mut Draft,
        random: &mut Random,
        (names, like): (&[&str], &Inventor),
    ) -> bool {
        let street = |random: &mut Random| street(random, names, like);
        match slot {
            "city" => self.put_city(draft, random),
            "country" => self.put_country(draft, random),
            "region" => draft.entity(pick(random, &self.regions), Entity::Location),
            "place" => match random.below(10) {
                0..5 => self.put_city(draft, random),
                5..8 => self.put_country(draft, random),
                _ => draft.entity(pick(random, &self.regions), Entity::Location),
            },
            "street" => draft.entity(&street(random), Entity::Address),
            "streetname" => draft.entity(&road(random, names, like), Entity::Address),
            "housen" => draft.entity(&(1 + random.below(3_000)).to_string(), Entity::Address),
            "unit" => draft.entity(&unit(random), Entity::Address),
            "pc" => draft.entity(&numbers::code(random), Entity::Address),
            "address" => {
                let comma = if random.below(6) == 0 { " " } else { ", " };
                self.address(draft, random, comma, &street);
            }
            "block" => {
                let newline = random.of("\n|\n|\n|\n|\n |\n  ");
                self.address(draft, random, newline, &street);
            }
            "blockq" => self.address(draft, random, "\n> ", &street),
            _ => return false,
        }
        true
    }

    /// A name of a city, and whether it was made up.
    pub(super) fn city(&self, random: &mut Random) -> (String, bool) {
        match random.below(108) {
            100..104 => {
                let (name, other) = (self.city_like.name(random), self.city_like.name(random));
                (format!("{name} {} {other}", random.of(AMID)), true)
            }
            104 => (format!("{} ({})", self.city_like.name(random), self.city_like.name(random)), true),
            105 => (format!("{} {}", pick(random, &self.cities), random.of("K|C|V.|N|1|2|4|7|12")), false),
            106..108 => (format!("{} {}", self.city_like.name(random), self.city_like.name(random)), true),
            0..50 => (pick(random, &self.cities).to_owned(), false),
            50..76 => (self.city_like.name(random), true),
            76..82 => (format!("{} {}", random.of(BEFORE), self.city_like.name(random)), true),
            82..93 => {
                let stem: String = self.city_like.name(random).chars().take(5).collect();
                (format!("{stem}{}", random.of(AFTER)), true)
            }
            93..97 => (format!("{} {}", self.city_like.name(random), random.of(BEHIND)), true),
            _ => (format!("{} {}", random.of(BEFORE), pick(random, &self.cities)), false),
        }
    }

    fn put_city(&self, draft: &mut Draft, random: &mut Random) {
        let (city, made_up) = self.city(random);
        let strange = made_up || random.below(5) == 0;
        let city = if random.below(12) == 0 { city.to_uppercase() } else { city };
        draft.stranger(&city, Entity::Location, strange);
    }

    fn put_country(&self, draft: &mut Draft, random: &mut Random) {
        let strange = random.below(12) == 0;
        draft.stranger(pick(random, &self.countries), Entity::Location, strange);
    }

    /// A whole address, its parts on one line or on several.
    fn address(
        &self,
        draft: &mut Draft,
        random: &mut Random,
        between: &str,
        street: &dyn Fn(&mut Random) -> String,
    ) {
        if random.below(12) == 0 {
            return draft.entity(&military(random, between), Entity::Address);
        }
        let in_lines = between.contains('\n');
        let mut parts = Draft::default();
        let has_unit = random.below(3) == 0;
        if random.below(25) == 0 {
            parts.entity(&unit(random), Entity::Address);
            parts.plain(random.of(" |, "));
        }
        let before =
            if random.below(12) == 0 { format!("{} ", 1 + random.below(900)) } else { String::new() };
        parts.entity(&format!("{before}{}", street(random)), Entity::Address);
        if has_unit {
            parts.plain(random.of(if in_lines { ", | | | |\n" } else { ", | | " }));
            parts.entity(&unit(random), Entity::Address);
        }
        parts.plain(between);
        // From the door to the country it is one address; a street and a city are two things.
        let whole = self.below_street(&mut parts, random, between, in_lines) || has_unit;
        if whole {
            draft.whole(parts, Entity::Address);
        } else {
            draft.append(parts);
        }
    }

    /// City, code and country; whether they are written as on an envelope of the United States.
    fn below_street(&self, draft: &mut Draft, random: &mut Random, between: &str, in_lines: bool) -> bool {
        let code = numbers::code(random);
        let near = if in_lines || between == ", " { random.of(", |, | |\n, ") } else { " " };
        let form = random.below(8);
        match form {
            0 | 1 => {
                self.put_city(draft, random);
                draft.plain(near);
                draft.entity(pick(random, &self.regions), Entity::Location);
                draft.plain(if in_lines { random.of(" | | |\n ") } else { " " });
                draft.entity(&code, Entity::Address);
            }
            2 | 3 => {
                draft.entity(&code, Entity::Address);
                draft.plain(" ");
                self.put_city(draft, random);
            }
            4 | 5 => {
                self.put_city(draft, random);
                draft.plain(random.of(" |, |  "));
                draft.entity(&code, Entity::Address);
            }
            6 => {
                self.put_city(draft, random);
                draft.plain(between);
                draft.entity(&code, Entity::Address);
            }
            _ => self.put_city(draft, random),
        }
        if random.below(5) < 2 {
            draft.plain(between);
            if random.below(3) == 0 {
                let country = pick(random, &self.countries).to_uppercase();
                draft.entity(&country, Entity::Location);
            } else {
                self.put_country(draft, random);
            }
            if random.below(5) == 0 {
                draft.plain(" ");
                draft.entity(&numbers::code(random), Entity::Address);
            }
        }
        form < 2
    }
}

/// A name that streets are called by.
fn called(random: &mut Random, names: &[&str], like: &Inventor) -> String {
    match random.below(10) {
        0..3 => random.of(TREES).to_owned(),
        3..6 => pick(random, names).to_owned(),
        _ => like.name(random),
    }
}

/// A street without a number.
fn road(random: &mut Random, names: &[&str], like: &Inventor) -> String {
    if random.below(20) == 0 {
        let (one, other) = (called(random, names, like), called(random, names, like));
        return format!(
            "{} {one} {} and {other} {}",
            random.of("the corner of|corner of|between"),
            random.of(ROADS),
            random.of(ROADS)
        );
    }
    let name = called(random, names, like);
    match random.below(10) {
        0..6 => format!("{name} {}", random.of(ROADS)),
        6 => format!("{} {name} {}", random.of("N|S|E|W|North|South|East|West|Old|Upper"), random.of(ROADS)),
        7 => format!(
            "{}{} {}",
            1 + random.below(90),
            random.of("th|th|st|nd|rd"),
            random.of("Street|Avenue|St|Ave")
        ),
        8 => format!("{name} {} {}", random.of("Creek|Park|Hill|Lake|Bay|Bridge|Hollow"), random.of(ROADS)),
        _ => abroad(random, &name).0,
    }
}

/// A street with its number.
fn street(random: &mut Random, names: &[&str], like: &Inventor) -> String {
    let number = match random.below(4) {
        0 => 1 + random.below(30),
        1 => 1 + random.below(200),
        2 => 1 + random.below(2_000),
        _ => 1 + random.below(9_999),
    };
    let letter = if random.below(10) == 0 { random.of("a|b|A|B|C|/2|-4|bis| A") } else { "" };
    let name = called(random, names, like);
    match random.below(104) {
        100..104 => {
            let (one, other) = (road(random, names, like), road(random, names, like));
            let form = random.of("the corner of |the corner of |corner of |");
            match random.below(3) {
                0 => format!("{form}{number} {one} and {other}"),
                1 => format!("{form}{one} {number} and {other}"),
                _ => format!("{form}{one} and {other} {number}"),
            }
        }
        0..42 => format!("{number}{letter} {}", road(random, names, like)),
        42..45 => format!("{}{number} {}", random.of("PO Box |P.O. Box |Box |Postfach |BP |Apartado "), "")
            .trim_end()
            .to_owned(),
        45..52 => format!("{name} {number}"),
        52..54 => format!("No. {number}, {name} {}", random.of("Road|Nagar|Street|Marg|Lane")),
        54..56 => format!("{}-{}-{} {name}", 1 + random.below(9), 1 + random.below(30), 1 + random.below(30)),
        _ => {
            let (road, number_first) = abroad(random, &name);
            let number = 1 + number % 240;
            if number_first {
                format!("{number}{letter}{}{road}", random.of(", | | "))
            } else {
                format!("{road}{}{number}{letter}", random.of(", | | | | "))
            }
        }
    }
}

/// A street as it is called in another country, and whether the number stands before it.
fn abroad(random: &mut Random, name: &str) -> (String, bool) {
    let stem = name.to_owned();
    match random.below(12) {
        0 | 1 => (format!("{}{}", random.of(GERMAN), random.of("straße|strasse|str.|weg|gasse|allee|platz|ring")), false),
        2 => (format!("{stem}{}", random.of("straße|str.|strasse|weg| Straße|-Straße| Allee|damm|ufer")), false),
        3 => (format!("{} {}", random.of("Am|An der|Im|Zum|Unter den"), random.of("Bach|Hang|Markt|Tal|Linden|Anger|Park|Wald")), false),
        4 | 5 => (format!("{} {}", random.of("rue|Rue|avenue|Avenue|boulevard|Place|place|chemin|allée|quai|cours|impasse"), random.of(FRENCH)), true),
        6 => (format!("{} {}", random.of("Calle|C/|Avenida|Avda.|Paseo|Plaza|Carrera|Camino|Av."), random.of(SPANISH)), false),
        7 => (format!("{} {}", random.of("Via|Viale|Piazza|Corso|Strada|Largo|Vicolo"), random.of(ITALIAN)), false),
        8 => (format!("{} {stem}", random.of("Rua|R|Avenida|Travessa|Praça|Estrada|Via|Calle|ul.|ulica|Ulica|Jalan|Jl.|al.|Rue|nám.|tř.")), false),
        9 => (format!("{stem}{}", random.of("straat|laan|weg|plein|gracht|kade|singel|dijk|steeg|hof")), false),
        10 => (format!("{}{}", random.of(NORDIC), random.of("gatan|vägen|gata|veien|vegen|vej|gade|gränd|torget|stien|allé|bakken")), false),
        _ => (format!("{stem}{}", random.of("gatan|vägen|vej|gade|veien|katu|tie|kuja|polku| utca| út| tér|ova| u.| ulica| sokak| Caddesi| trg| cesta|gata|vegur|stígur")), false),
    }
}

fn unit(random: &mut Random) -> String {
    let number = 1 + random.below(999);
    let word = random.of("Apt.|Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Room|Building|Bldg|Lot|Level|#");
    let letter = random.of("|||A|B|C");
    if word == "#" { format!("#{number}{letter}") } else { format!("{word} {number}{letter}") }
}

/// Post of the forces of the United States.
fn military(random: &mut Random, between: &str) -> String {
    let (a, b, code) =
        (1_000 + random.below(9_000), 1_000 + random.below(9_000), 10_000 + random.below(89_999));
    let state = random.of("AA|AE|AP");
    let ship = random.of("Lincoln|Washington|Harper|Mitchell|Nguyen|Torres|Evans|Coleman|Bennett");
    match random.below(3) {
        0 => format!("PSC {a}, Box {b}{between}{} {state} {code}", random.of("APO|FPO")),
        1 => format!("Unit {a} Box {b}{between}{} {state} {code}", random.of("APO|DPO")),
        _ => format!("{} {ship}{between}FPO {state} {code}", random.of("USS|USNS|USCGC|USNV")),
    }
}
