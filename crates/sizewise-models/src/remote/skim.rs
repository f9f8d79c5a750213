//! How is the little that matters read out of JSON of which most only passes?
//!
//! A stream says hundreds of events, and of each a name or a length is wanted: building a whole value of every one would cost more than
//! all else that is done with it. What is skimmed is still checked to be JSON.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, value::RawValue};
use std::fmt;

/// The members of an object by these names, as they stand in the text; none of what is no object.
///
/// # Errors
/// Fails where the text is no JSON.
pub(super) fn members<'de, const N: usize>(
    json: &'de str,
    names: [&str; N],
) -> serde_json::Result<[Option<&'de str>; N]> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = Members(names).deserialize(&mut reader)?;
    reader.end()?;
    Ok(found)
}

/// Bytes of all texts that stand below `path`, through every array on the way; 0 where the text is no JSON.
pub(super) fn length(json: Option<&str>, path: &[&str]) -> u64 {
    json.and_then(|json| Length(path).deserialize(&mut serde_json::Deserializer::from_str(json)).ok())
        .unwrap_or(0)
}

/// The value of a member.
pub(super) fn value(json: Option<&str>) -> Option<Value> {
    serde_json::from_str(json?).ok()
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de str>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de str>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(place) = map.next_key_seed(Name(&self.0))? {
            match place.and_then(|place| found.get_mut(place)) {
                Some(found) => *found = Some(map.next_value::<&'de RawValue>()?.get()),
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok([None; N])
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok([None; N])
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok([None; N])
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok([None; N])
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok([None; N])
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok([None; N])
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok([None; N])
    }
}

/// Which of some names a key is.
struct Name<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

#[derive(Clone, Copy)]
struct Length<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for Length<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Length<'_> {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut length = 0;
        let (next, rest) = self.0.split_first().map_or((None, self.0), |(next, rest)| (Some(*next), rest));
        let wanted = next.as_slice();
        while let Some(place) = map.next_key_seed(Name(wanted))? {
            match (next, place) {
                (Some(_), None) => _ = map.next_value::<IgnoredAny>()?,
                _ => length += map.next_value_seed(Self(rest))?,
            }
        }
        Ok(length)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let mut length = 0;
        while let Some(more) = seq.next_element_seed(self)? {
            length += more;
        }
        Ok(length)
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(if self.0.is_empty() { text.len() as u64 } else { 0 })
    }

    fn visit_u64<E>(self, _: u64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_bool<E>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn members_stand_as_they_were_written_and_the_last_of_a_name_counts() {
        let json = r#"{"a":1, "b" : {"a":[1e3, null]}, "\u0063":"x","a":{"d":2} }"#;
        assert_eq!(
            members(json, ["a", "b", "c", "d"]).unwrap(),
            [Some(r#"{"d":2}"#), Some(r#"{"a":[1e3, null]}"#), Some(r#""x""#), None]
        );
        for other in ["5", "-5", "0.5", "true", "null", "\"a\"", "[1,{\"a\":2}]"] {
            assert_eq!(members(other, ["a"]).unwrap(), [None], "{other}");
        }
        for broken in ["", "{\"a\":1", "{\"b\":tru}", "{} {}", "[1,]", "{\"a\":\"\u{1}\"}"] {
            assert!(members(broken, ["a"]).is_err(), "{broken}");
        }
    }

    #[test]
    fn lengths_are_of_what_is_meant_and_not_of_how_it_is_written() {
        let json = Some(
            r#"[{"delta":{"content":"\u00e4b","more":["c",1,null,true,-2,0.5,{"d":"e"}]},"other":"x"},{"delta":"y"},"z"]"#,
        );
        assert_eq!(length(json, &["delta"]), 3 + 1 + 1 + 1);
        assert_eq!(length(json, &["delta", "content"]), 3);
        assert_eq!(length(json, &[]), 3 + 1 + 1 + 1 + 1 + 1);
        assert_eq!((length(None, &[]), length(Some("{"), &[])), (0, 0));
    }
}
