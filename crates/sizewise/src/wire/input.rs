//! What does a request give a task to read?
//!
//! A text, or an object whose keys are the task's fields. Keys that the task does not read are ignored; a field that is
//! missing, null or nested is an error, because a model would otherwise read something that it was not trained on.

use super::{
    error::WireError,
    json::{Pairs, Text},
};
use serde::{
    Deserialize, Deserializer,
    de::{
        IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use sizewise_contract::{Code, Task, limits};
use sizewise_engine::InputValue;
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Most texts in one list.
const TEXTS: usize = 1_000;

/// One input as a protocol carries it.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// One text.
    Text(Text<'a>),
    /// An object of fields.
    Fields(Pairs<'a, Field<'a>, { limits::COLUMNS }>),
    /// A list; readable when all of it is text.
    List(Vec<Field<'a>>),
}

/// The value of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<'a> {
    /// A text, or a number or boolean as JSON writes it.
    Text(Cow<'a, str>),
    /// Nothing.
    Null,
    /// An object or an array.
    Nested,
}

impl Input<'_> {
    /// What the engine reads.
    ///
    /// # Errors
    /// Names the field that cannot be read; `place` is where the protocol keeps this input.
    pub fn read(self, task: &Task, place: &str) -> Result<InputValue, WireError> {
        match self {
            Self::Text(text) => Ok(InputValue::Text(text.0.into_owned())),
            Self::Fields(pairs) => read_fields(task, pairs.0, place),
            Self::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    let Field::Text(text) = item else {
                        return Err(unreadable(format!("{place}[{index}]"), "expected a text"));
                    };
                    texts.push(text);
                }
                Ok(InputValue::Text(texts.join("\n")))
            }
        }
    }
}

fn read_fields(task: &Task, pairs: Vec<(Text<'_>, Field<'_>)>, place: &str) -> Result<InputValue, WireError> {
    let mut values = BTreeMap::new();
    let reads = || task.input.fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
    for (key, value) in pairs {
        if !task.input.fields.iter().any(|field| *field == *key) {
            continue;
        }
        match value {
            Field::Text(text) => values.insert(key.0.into_owned(), text.into_owned()),
            Field::Null => return Err(unreadable(format!("{place}.{}", &*key), "the field is null")),
            Field::Nested => {
                return Err(unreadable(
                    format!("{place}.{}", &*key),
                    "the field is an object or an array, not a text",
                ));
            }
        };
    }
    match task.input.fields.iter().find(|field| !values.contains_key(*field)) {
        Some(missing) => Err(unreadable(format!("{place}.{missing}"), "the field is missing")
            .with_hint(format!("task `{}` reads {}", task.name, reads()))),
        None => Ok(InputValue::Fields(values)),
    }
}

fn unreadable(place: String, problem: &str) -> WireError {
    WireError::new(Code::InputInvalid, Some(place), problem)
}

impl<'de: 'a, 'a> Deserialize<'de> for Input<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an object of fields")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Input<'de>, E> {
        Ok(Input::Text(Text(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Input<'de>, E> {
        Ok(Input::Text(Text(Cow::Owned(text.to_owned()))))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Input<'de>, A::Error> {
        Pairs::deserialize(MapAccessDeserializer::new(entries)).map(Input::Fields)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Input<'de>, A::Error> {
        let list = super::json::AtMost::<Field<'de>, TEXTS>::deserialize(SeqAccessDeserializer::new(items))?;
        Ok(Input::List(list.0))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Borrowed(if value { "true" } else { "false" })))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(value.to_string())))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Field<'de>, E> {
        let text = serde_json::to_string(&value).map_err(E::custom)?;
        Ok(Field::Text(Cow::Owned(text)))
    }

    fn visit_unit<E>(self) -> Result<Field<'de>, E> {
        Ok(Field::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Field<'de>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Nested)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Nested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::support_task;

    fn value(body: &str) -> Result<InputValue, (String, String)> {
        let mut task = support_task();
        task.input.fields = vec!["subject".into(), "body".into()];
        let input: Input<'_> = serde_json::from_str(body).expect("has the shape of an input");
        input
            .read(&task, "state")
            .map_err(|error| (error.param().unwrap_or_default().to_owned(), error.message().to_owned()))
    }

    #[test]
    fn a_text_or_a_list_of_texts_is_read_as_one_text() {
        assert_eq!(value(r#""my card""#), Ok(InputValue::Text("my card".into())));
        assert_eq!(value(r#"["one", "two"]"#), Ok(InputValue::Text("one\ntwo".into())));
    }

    #[test]
    fn fields_are_taken_by_name_and_others_ignored() {
        let fields = BTreeMap::from([("body".into(), "12.5".into()), ("subject".into(), "true".into())]);
        assert_eq!(
            value(r#"{"extra":[{"deep":1}],"body":12.5,"subject":true}"#),
            Ok(InputValue::Fields(fields))
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (body, place, problem) in [
            (r#"{"subject":"x"}"#, "state.body", "the field is missing"),
            (r#"{"subject":"x","body":null}"#, "state.body", "the field is null"),
            (
                r#"{"subject":{"a":1},"body":"x"}"#,
                "state.subject",
                "the field is an object or an array, not a text",
            ),
            (r#"["x",{"role":"user"}]"#, "state[1]", "expected a text"),
        ] {
            assert_eq!(value(body), Err((place.into(), problem.into())), "{body}");
        }
    }
}
