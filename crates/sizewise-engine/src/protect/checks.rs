//! Do the check digits hold?
//!
//! A checksum tells what a number is: one digit in ten or fewer holds by chance.

use std::net::{Ipv4Addr, Ipv6Addr};

/// ISO 13616: the remainder modulo 97 is 1.
pub(super) fn is_iban(text: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let (head, tail) = plain.split_at(4);
    let digits = tail.iter().chain(head).flat_map(|byte| match byte {
        b'0'..=b'9' => vec![u32::from(byte - b'0')],
        letter => {
            let value = u32::from(letter.to_ascii_uppercase() - b'A') + 10;
            vec![value / 10, value % 10]
        }
    });
    digits.fold(0, |rest, digit| (rest * 10 + digit) % 97) == 1
}

/// ISO/IEC 7812-1, Luhn's sum.
pub(super) fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let doubled = |(place, digit): (usize, &u32)| match place % 2 {
        1 => digit * 2 - if *digit > 4 { 9 } else { 0 },
        _ => *digit,
    };
    (12..=19).contains(&digits.len()) && digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

pub(super) fn is_ip(text: &str) -> bool {
    // Two colons between letters are no address, though they could be one.
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    text.parse::<Ipv4Addr>().is_ok() || (digits && text.parse::<Ipv6Addr>().is_ok())
}

/// A number that a country gives to a person, with check digits: Spain (DNI, NIE), Italy (codice fiscale), France (NIR), Finland, Brazil
/// (CPF) and Sweden, the last two where they are written with their separators; and of the United Kingdom (National Insurance), which
/// has letters and no checksum.
pub(super) fn is_national_id(text: &str) -> bool {
    let plain: String =
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    let separated = text.contains(['-', '.', '+']);
    is_spanish(&plain)
        || is_italian(&plain)
        || is_finnish(text)
        || is_insured_briton(&plain)
        || is_french(&plain)
        || (separated && is_brazilian(&plain))
        || (separated && is_swede(&plain))
}

fn digits(text: &str) -> Vec<u32> {
    text.bytes().filter(u8::is_ascii_digit).map(|byte| u32::from(byte - b'0')).collect()
}

fn is_spanish(plain: &str) -> bool {
    let Some((number, letter)) = plain.split_at_checked(8) else { return false };
    let first = number.chars().next().unwrap_or(' ');
    let number = match first {
        'X' | 'Y' | 'Z' => number.replace(first, &(u32::from(first) - u32::from('X')).to_string()),
        _ => number.to_owned(),
    };
    let expected =
        number.parse::<usize>().ok().and_then(|number| "TRWAGMYFPDXBNJZSQVHLCKE".chars().nth(number % 23));
    number.len() == 8 && letter.len() == 1 && expected == letter.chars().next()
}

fn is_italian(plain: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let bytes = plain.as_bytes();
    let form = bytes.iter().enumerate().all(|(at, byte)| match at {
        0..=5 | 8 | 11 | 15 => byte.is_ascii_uppercase(),
        _ => byte.is_ascii_alphanumeric(),
    });
    if bytes.len() != 16 || !form {
        return false;
    }
    let value = |byte: &u8| usize::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' });
    let sum: u32 = bytes.iter().take(15).enumerate().fold(0, |sum, (at, byte)| {
        sum + if at % 2 == 0 { ODD.get(value(byte)).copied().unwrap_or(0) } else { value(byte) as u32 }
    });
    bytes.last().is_some_and(|last| u32::from(*last - b'A') == sum % 26)
}

fn is_finnish(text: &str) -> bool {
    let (Some(born), Some(rest)) = (text.get(..6), text.get(7..)) else { return false };
    let number: String = born.chars().chain(rest.chars().take(3)).collect();
    let sign = text.get(6..7).is_some_and(|sign| ["-", "+", "A"].contains(&sign));
    let expected =
        number.parse::<usize>().ok().and_then(|n| "0123456789ABCDEFHJKLMNPRSTUVWXY".chars().nth(n % 31));
    sign && rest.len() == 4 && number.len() == 9 && rest.chars().last() == expected
}

fn is_insured_briton(plain: &str) -> bool {
    let bytes = plain.as_bytes();
    bytes.len() == 9
        && bytes.iter().take(2).all(|byte| byte.is_ascii_uppercase() && !b"DFIQUV".contains(byte))
        && bytes.iter().skip(2).take(6).all(u8::is_ascii_digit)
        && bytes.last().is_some_and(|byte| (b'A'..=b'D').contains(byte))
}

fn is_french(plain: &str) -> bool {
    let (Some(number), Some(key)) = (plain.get(..13), plain.get(13..15)) else { return false };
    let (Ok(number), Ok(key)) = (number.parse::<u64>(), key.parse::<u64>()) else { return false };
    plain.len() == 15 && plain.starts_with(['1', '2']) && 97 - number % 97 == key
}

fn is_brazilian(plain: &str) -> bool {
    let all = digits(plain);
    let check = |count: usize| {
        let sum: u32 = all
            .iter()
            .take(count)
            .zip((2..=count as u32 + 1).rev())
            .map(|(digit, weight)| digit * weight)
            .sum();
        (sum * 10 % 11) % 10
    };
    let different = all.iter().any(|digit| Some(digit) != all.first());
    plain.len() == 11
        && all.len() == 11
        && different
        && all.get(9) == Some(&check(9))
        && all.get(10) == Some(&check(10))
}

fn is_swede(plain: &str) -> bool {
    let all = digits(plain);
    let sum: u32 = all
        .iter()
        .enumerate()
        .map(|(at, digit)| if at % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { *digit })
        .sum();
    let month = all.get(2..4).map_or(0, |month| month.iter().fold(0, |sum, digit| sum * 10 + digit));
    plain.len() == 10 && all.len() == 10 && (1..=12).contains(&month) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_countries_print_as_examples_holds_and_its_neighbour_does_not() {
        // The specimen numbers of the authorities' own pages.
        for (right, wrong) in [
            ("12345678Z", "12345678A"),
            ("X1234567L", "X1234567M"),
            ("RSSMRA85T10A562S", "RSSMRA85T10A562T"),
            ("131052-308T", "131052-308U"),
            ("AB123456C", "AB123456E"),
            ("2 55 08 14 168 025 38", "2 55 08 14 168 025 39"),
            ("529.982.247-25", "529.982.247-26"),
            ("811228-9874", "811228-9875"),
        ] {
            assert!(is_national_id(right), "{right}");
            assert!(!is_national_id(wrong), "{wrong}");
        }
    }
}
