//! How do decisions and keys get their names?

use crate::error::{Error, Result};
use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's base 32: no letter that is taken for another.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new name that nobody can guess and that sorts by time: `prefix`, 48 bits of milliseconds, 80 random bits.
///
/// # Errors
/// Fails when the system has no random bytes.
pub fn new_id(prefix: &str) -> Result<String> {
    let mut random = [0u8; 10];
    fill(&mut random)?;
    let millis = now().0 as u64 & 0xffff_ffff_ffff;
    let low = random.iter().fold(0u128, |value, byte| value << 8 | u128::from(*byte));
    let mut id = String::with_capacity(prefix.len() + 26);
    id.push_str(prefix);
    push_digits(&mut id, u128::from(millis) << 80 | low, 26);
    Ok(id)
}

/// Random digits, five bits each.
pub(crate) fn random_digits(count: usize) -> Result<String> {
    let mut bytes = vec![0u8; count];
    fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(DIGITS[usize::from(byte & 31)])).collect())
}

/// Sixty-four random bits.
///
/// # Errors
/// Fails when the system has none.
pub fn random_bits() -> Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|_| Error::Internal("the system gives no random bytes"))
}

/// The moment.
pub(crate) fn now() -> sizewise_contract::units::UnixMillis {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    sizewise_contract::units::UnixMillis(elapsed.as_millis() as i64)
}

fn push_digits(text: &mut String, value: u128, count: u32) {
    for place in (0..count).rev() {
        text.push(char::from(DIGITS[(value >> (5 * place)) as usize & 31]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_long_distinct_and_sort_by_time() {
        let first = new_id("d_").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = new_id("d_").unwrap();
        assert_eq!(first.len(), 28);
        assert!(first < second, "{first} {second}");
    }
}
