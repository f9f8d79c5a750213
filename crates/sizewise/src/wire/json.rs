//! How is a request's JSON read, with a bound on everything and the name of what is wrong with it?
//!
//! Bodies are read straight into borrowed types: no tree is built, so a body costs about as much memory as it has
//! bytes. When that fails, the body is read a second time with the path tracked, which is slower and only paid for by
//! requests that are wrong.

use super::error::WireError;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// Longest message about a body; a message may quote what it found there.
const MESSAGE_CHARS: usize = 300;

/// Reads a body.
///
/// **Bounds.** Nesting stops at 128 levels; lists at the length of their type.
///
/// # Errors
/// Names the field that is missing or of the wrong type, as `questions[2].choices`.
pub fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, WireError> {
    // An array would be taken for the fields of the object in order.
    if let Some(first) = body.iter().find(|byte| !byte.is_ascii_whitespace())
        && *first != b'{'
        && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
    {
        return Err(WireError::request(None, "the body is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| locate::<T>(body, &error))
}

fn locate<'de, T: Deserialize<'de>>(body: &'de [u8], first: &serde_json::Error) -> WireError {
    if !first.is_data() {
        return WireError::request(None, format!("the body is not JSON: {}", shortened(&first.to_string())));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut deserializer) else {
        return WireError::request(None, shortened(&first.to_string()));
    };
    let mut path = error.path().to_string();
    let message = without_type_names(&without_position(&error.inner().to_string()));
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        path = if path == "." { field.to_owned() } else { format!("{path}.{field}") };
    }
    let param = (path != ".").then_some(path);
    WireError::request(param, shortened(&message))
}

/// Columns say little about a body that a program wrote; the path says it.
fn without_position(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(front, _)| front).to_owned()
}

/// What our own types are called is nobody else's business.
fn without_type_names(message: &str) -> String {
    let Some((front, rest)) = message.split_once("expected struct ") else { return message.to_owned() };
    let rest = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    format!("{front}expected an object{rest}")
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

/// A string that is borrowed from the body wherever it holds no escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A list of at most `MAX` items.
#[derive(Debug, Clone)]
pub struct AtMost<T, const MAX: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
            type Value = AtMost<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while list.len() < MAX {
                    match items.next_element()? {
                        Some(item) => list.push(item),
                        None => return Ok(AtMost(list)),
                    }
                }
                match items.next_element::<IgnoredAny>()? {
                    Some(_) => Err(A::Error::custom(format_args!("more than {MAX} items"))),
                    None => Ok(AtMost(list)),
                }
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// An object as pairs in the order written, at most `MAX` of them and no key twice.
#[derive(Debug, Clone)]
pub struct Pairs<'a, T, const MAX: usize>(pub Vec<(Text<'a>, T)>);

impl<'de: 'a, 'a, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Pairs<'a, T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor::<T, MAX>(PhantomData))
    }
}

struct PairsVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for PairsVisitor<T, MAX> {
    type Value = Pairs<'de, T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Vec<(Text<'de>, T)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = entries.next_key::<Text<'de>>()? {
            if pairs.len() == MAX {
                return Err(A::Error::custom(format_args!("more than {MAX} keys")));
            }
            if !seen.insert(key.0.clone()) {
                return Err(A::Error::custom(format_args!("the key `{}` stands twice", &*key)));
            }
            pairs.push((key, entries.next_value()?));
        }
        Ok(Pairs(pairs))
    }
}

/// A string, or a list of at most `MAX` parts.
#[derive(Debug, Clone)]
pub enum TextOrParts<'a, T, const MAX: usize> {
    /// A string.
    Text(Text<'a>),
    /// Its parts.
    Parts(Vec<T>),
}

impl<'de: 'a, 'a, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for TextOrParts<'a, T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherVisitor<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for EitherVisitor<T, MAX> {
            type Value = TextOrParts<'de, T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(TextOrParts::Text(Text(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOrParts::Text(Text(Cow::Owned(text.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                let AtMost(parts) = AtMost::<T, MAX>::deserialize(SeqAccessDeserializer::new(items))?;
                Ok(TextOrParts::Parts(parts))
            }
        }
        deserializer.deserialize_any(EitherVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Outer<'a> {
        #[serde(borrow)]
        name: Text<'a>,
        #[serde(borrow)]
        list: AtMost<Inner<'a>, 2>,
        #[serde(borrow, default)]
        pairs: Option<Pairs<'a, Text<'a>, 2>>,
        #[serde(borrow, default)]
        content: Option<TextOrParts<'a, Inner<'a>, 2>>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Inner<'a> {
        #[serde(borrow)]
        value: Text<'a>,
    }

    fn failure(body: &str) -> (Option<String>, String) {
        let error = read::<Outer<'_>>(body.as_bytes()).expect_err(body);
        (error.param().map(str::to_owned), error.message().to_owned())
    }

    #[test]
    fn strings_without_escapes_are_borrowed() {
        let outer: Outer<'_> = read(br#"{"name":"plain","list":[{"value":"a\nb"}]}"#).expect("valid");
        assert!(matches!(outer.name.0, Cow::Borrowed("plain")));
        assert_eq!(&*outer.list.0[0].value, "a\nb");
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (body, param, message) in [
            (r#"{"list":[]}"#, Some("name"), "missing field `name`"),
            (r#"{"name":5,"list":[]}"#, Some("name"), "invalid type: integer `5`, expected a string"),
            (r#"{"name":"","list":[{"value":""},{}]}"#, Some("list[1].value"), "missing field `value`"),
            (
                r#"{"name":"","list":[{"value":""},{"value":""},{"value":""}]}"#,
                Some("list"),
                "more than 2 items",
            ),
            (r#"{"name":"","list":{}}"#, Some("list"), "invalid type: map, expected an array of at most 2"),
            (
                r#"{"name":"","list":[],"pairs":{"a":1}}"#,
                Some("pairs.a"),
                "invalid type: integer `1`, expected a string",
            ),
            (r#"{"name":"","list":[],"pairs":{"a":"","a":""}}"#, Some("pairs"), "the key `a` stands twice"),
            (r#"{"name":"","list":[],"pairs":{"a":"","b":"","c":""}}"#, Some("pairs"), "more than 2 keys"),
            (
                r#"{"name":"","list":[],"content":[{"value":"x"},{"value":true}]}"#,
                Some("content[1].value"),
                "invalid type: boolean `true`, expected a string",
            ),
            ("[]", None, "the body is not a JSON object"),
        ] {
            assert_eq!(failure(body), (param.map(str::to_owned), message.to_owned()), "{body}");
        }
    }

    #[test]
    fn what_is_not_json_says_where() {
        let (param, message) = failure("{\"name\":");
        assert_eq!(param, None);
        assert_eq!(message, "the body is not JSON: EOF while parsing a value at line 1 column 8");
        assert!(failure("\u{0}").1.starts_with("the body is not JSON"));
    }

    #[test]
    fn a_message_never_quotes_a_whole_body() {
        let body = format!(r#"{{"name":"","list":"{}"}}"#, "x".repeat(100_000));
        assert!(failure(&body).1.chars().count() <= MESSAGE_CHARS + 1);
    }

    #[test]
    fn deep_nesting_ends_in_an_error() {
        let deep = "[".repeat(1_000_000);
        for body in [
            format!(r#"{{"name":"","list":[],"extra":{deep}"#),
            format!(r#"{{"name":"","list":{deep}"#),
            format!(r#"{{"name":"","list":[],"content":{deep}"#),
        ] {
            assert!(read::<Outer<'_>>(body.as_bytes()).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_value_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<Outer<'_>>(&body);
        }

        #[test]
        fn a_string_comes_back_as_it_was_written(text in ".*") {
            let body = serde_json::to_vec(&serde_json::json!({"name": text, "list": []})).expect("has a JSON form");
            let outer: Outer<'_> = read(&body).expect("valid");
            prop_assert_eq!(&*outer.name, text.as_str());
        }
    }
}
