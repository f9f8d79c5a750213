//! Which JSON object does the reply have to be?
//!
//! A schema's properties are matched to the task's questions by name; a schema that asks for one property of a task with
//! one question may call it anything. For every class of a question the first *form* that the property allows is chosen
//! before the task is asked, so that a reply never breaks the schema: a request whose schema has no place for
//! some class is refused, and the class named. Forms are a value as a string, as the boolean or number that it spells,
//! yes and no of a predicate as a boolean, and a level by its index.
//!
//! A keyword that is neither checked here nor a mere note is refused, so that no constraint is passed over in silence.

use crate::wire::{asked::describe, error::WireError};
use serde_json::{Map, Value};
use sizewise_contract::{Code, Question, QuestionKind, Task, did_you_mean};
use sizewise_engine::QuestionRef;
use std::cell::Cell;

/// Largest schema, in bytes.
const SCHEMA_BYTES: usize = 256 << 10;
/// Deepest chain of references and alternatives.
const DEPTH: usize = 16;
/// Most comparisons in one schema, over all properties and classes.
const STEPS: usize = 4_000_000;
/// Where requests keep their schema.
const PLACE: &str = "response_format.json_schema.schema";
/// Keywords that say nothing about which values are allowed.
const NOTES: &[&str] = &[
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];

/// The shape of a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// The value of the only question, as text.
    Value,
    /// A JSON object.
    Object(Vec<Property>),
}

/// One property of the object, answered by one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Its key.
    pub key: String,
    /// Position of the question in the task.
    pub question: usize,
    /// What is written for each class. `[classes]`
    pub forms: Vec<Value>,
    /// Whether null may be written where nobody is sure enough.
    pub nullable: bool,
}

impl Shape {
    /// A reply without a format: the value, or an object where there are several.
    #[must_use]
    pub fn plain(task: &Task) -> Self {
        if task.questions.len() == 1 { Self::Value } else { Self::object(task) }
    }

    /// An object with one property for each question, in the form that comes most naturally.
    #[must_use]
    pub fn object(task: &Task) -> Self {
        let natural = |question: &Question| {
            classes(question).filter_map(|forms| forms.into_iter().next()).collect::<Vec<Value>>()
        };
        Self::Object(
            task.questions
                .iter()
                .enumerate()
                .map(|(position, question)| Property {
                    key: question.name.clone(),
                    question: position,
                    forms: natural(question),
                    nullable: false,
                })
                .collect(),
        )
    }

    /// An object that satisfies a schema.
    ///
    /// # Errors
    /// Names the property or keyword that the task cannot satisfy.
    pub fn of_schema(text: &str, task: &Task) -> Result<Self, WireError> {
        if text.len() > SCHEMA_BYTES {
            let message = format!("the schema has {} bytes; at most {SCHEMA_BYTES} are read", text.len());
            return Err(refused("", message));
        }
        let root: Value = serde_json::from_str(text)
            .map_err(|error| refused("", format!("the schema cannot be read: {error}")))?;
        Reader { root: &root, task, steps: Cell::new(STEPS) }.object()
    }

    /// The questions that the reply needs; none is all of them in order.
    #[must_use]
    pub fn questions(&self, task: &Task) -> Option<Vec<QuestionRef>> {
        let Self::Object(properties) = self else { return None };
        let all = properties.len() == task.questions.len()
            && properties.iter().enumerate().all(|(position, property)| property.question == position);
        (!all).then(|| properties.iter().map(|property| QuestionRef(property.question)).collect())
    }
}

/// For each class, the forms in which it may be written, the natural one first.
fn classes(question: &Question) -> impl Iterator<Item = Vec<Value>> + '_ {
    question.class_values().into_iter().enumerate().map(|(index, value)| match question.kind {
        QuestionKind::Predicate => {
            let yes = index == 1;
            let words = if yes {
                ["yes", "true", "Yes", "True", "YES", "TRUE", "y", "Y"]
            } else {
                ["no", "false", "No", "False", "NO", "FALSE", "n", "N"]
            };
            let mut forms = vec![Value::Bool(yes)];
            forms.extend(words.map(Value::from));
            forms.push(Value::from(u8::from(yes)));
            forms
        }
        QuestionKind::Choice => spelled(value),
        QuestionKind::Score => {
            let mut forms = spelled(value);
            forms.push(Value::from(index));
            forms
        }
    })
}

/// A value as a string, and as the boolean or number that it spells exactly.
fn spelled(value: &str) -> Vec<Value> {
    let mut forms = vec![Value::from(value)];
    if let Ok(literal @ (Value::Bool(_) | Value::Number(_))) = serde_json::from_str::<Value>(value)
        && serde_json::to_string(&literal).is_ok_and(|text| text == value)
    {
        forms.push(literal);
    }
    forms
}

struct Reader<'s> {
    root: &'s Value,
    task: &'s Task,
    steps: Cell<usize>,
}

impl<'s> Reader<'s> {
    fn object(&self) -> Result<Shape, WireError> {
        let mut schema = self.root;
        for _ in 0..DEPTH {
            match schema.get("$ref").and_then(Value::as_str) {
                Some(reference) => schema = self.resolve(reference)?,
                None => break,
            }
        }
        let Some(keywords) = schema.as_object() else {
            return Err(refused("", "the schema is not an object".to_owned()));
        };
        for keyword in keywords.keys() {
            let known =
                ["type", "properties", "required", "additionalProperties"].contains(&keyword.as_str());
            if !known && !NOTES.contains(&keyword.as_str()) {
                return Err(unsupported("", keyword));
            }
        }
        if keywords.get("type").is_some_and(|kind| kind != "object") {
            return Err(refused(
                "type",
                "the reply is an object, so the schema has to ask for one".to_owned(),
            ));
        }
        let none = Map::new();
        let properties = keywords.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let required: Vec<&str> = keywords
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if let Some(name) = required.iter().find(|name| !properties.contains_key(**name)) {
            return Err(refused("required", format!("`{}` is required but has no schema", short(name))));
        }
        self.properties(properties, &required)
    }

    fn properties(&self, properties: &Map<String, Value>, required: &[&str]) -> Result<Shape, WireError> {
        let mut list: Vec<Property> = Vec::new();
        for (key, schema) in properties {
            let alone = properties.len() == 1 && self.task.questions.len() == 1;
            let found = self
                .task
                .question(key)
                .or_else(|| self.task.questions.first().filter(|_| alone).map(|q| (0, q)));
            match found {
                Some((position, question)) => list.push(self.property(key, schema, position, question)?),
                None if required.contains(&key.as_str()) => return Err(self.no_question(key)),
                None => {}
            }
        }
        if list.is_empty() {
            return Err(refused(
                "properties",
                format!("no property is a question of task `{}`", self.task.name),
            )
            .with_hint(self.asks()));
        }
        Ok(Shape::Object(list))
    }

    fn property(
        &self,
        key: &str,
        schema: &Value,
        position: usize,
        question: &Question,
    ) -> Result<Property, WireError> {
        let place = format!("properties.{key}");
        let allows = |value: &Value| Check { reader: self, place: &place }.allows(schema, value, 0);
        let mut forms = Vec::new();
        for (class, candidates) in question.class_values().into_iter().zip(classes(question)) {
            let mut fitting = None;
            for candidate in candidates {
                if allows(&candidate)? {
                    fitting = Some(candidate);
                    break;
                }
            }
            match fitting {
                Some(form) => forms.push(form),
                None => {
                    return Err(refused(
                        &place,
                        format!(
                            "the schema has no place for the value `{class}` of question `{}`",
                            question.name
                        ),
                    )
                    .with_hint(format!(
                        "task `{}` asks {}",
                        self.task.name,
                        describe(question)
                    )));
                }
            }
        }
        let nullable = allows(&Value::Null)?;
        Ok(Property { key: key.to_owned(), question: position, forms, nullable })
    }

    fn no_question(&self, key: &str) -> WireError {
        let near = did_you_mean(key, self.task.questions.iter().map(|question| question.name.as_str()));
        let near = near.map_or(String::new(), |name| format!("did you mean `{name}`? "));
        refused(
            &format!("properties.{key}"),
            format!("task `{}` has no question `{}`", self.task.name, short(key)),
        )
        .with_hint(format!("{near}{}", self.asks()))
    }

    fn asks(&self) -> String {
        let questions: Vec<String> = self.task.questions.iter().take(20).map(describe).collect();
        format!("it asks {}", questions.join(", "))
    }

    /// Follows a reference inside the document, as `#/$defs/Team`.
    fn resolve(&self, reference: &str) -> Result<&'s Value, WireError> {
        let target = match reference.strip_prefix('#') {
            Some(pointer) => self.root.pointer(pointer),
            None => None,
        };
        target.ok_or_else(|| refused("", format!("the reference `{}` leads nowhere", short(reference))))
    }
}

/// Whether a value satisfies a part of the schema.
struct Check<'c, 's> {
    reader: &'c Reader<'s>,
    place: &'c str,
}

impl Check<'_, '_> {
    fn allows(&self, schema: &Value, value: &Value, depth: usize) -> Result<bool, WireError> {
        self.spend(1)?;
        if depth > DEPTH {
            return Err(refused(self.place, "the schema is nested too deeply".to_owned()));
        }
        let keywords = match schema {
            Value::Bool(all) => return Ok(*all),
            Value::Object(keywords) => keywords,
            _ => return Err(refused(self.place, "a schema is an object or a boolean".to_owned())),
        };
        for (keyword, argument) in keywords {
            if !self.keyword(keyword, argument, value, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn keyword(
        &self,
        keyword: &str,
        argument: &Value,
        value: &Value,
        depth: usize,
    ) -> Result<bool, WireError> {
        let length = || value.as_str().map(|text| text.chars().count() as f64);
        let limit = || argument.as_f64().unwrap_or(f64::NAN);
        Ok(match keyword {
            "type" => match argument {
                Value::String(name) => is_of_type(value, name),
                Value::Array(names) => {
                    names.iter().filter_map(Value::as_str).any(|name| is_of_type(value, name))
                }
                _ => false,
            },
            "enum" => {
                let values = argument.as_array().map_or(&[][..], Vec::as_slice);
                self.spend(values.len())?;
                values.contains(value)
            }
            "const" => argument == value,
            "$ref" => {
                let target = self.reader.resolve(argument.as_str().unwrap_or_default())?;
                self.allows(target, value, depth + 1)?
            }
            "anyOf" => self.count(argument, value, depth)? > 0,
            "oneOf" => self.count(argument, value, depth)? == 1,
            "allOf" => self.count(argument, value, depth)? == argument.as_array().map_or(0, Vec::len),
            "minLength" => length().is_none_or(|length| length >= limit()),
            "maxLength" => length().is_none_or(|length| length <= limit()),
            "minimum" => value.as_f64().is_none_or(|number| number >= limit()),
            "maximum" => value.as_f64().is_none_or(|number| number <= limit()),
            "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > limit()),
            "exclusiveMaximum" => value.as_f64().is_none_or(|number| number < limit()),
            _ if NOTES.contains(&keyword) => true,
            // These only bind objects and arrays, which no class is ever written as.
            "properties" | "required" | "additionalProperties" | "items" | "minItems" | "maxItems" => true,
            _ => return Err(unsupported(self.place, keyword)),
        })
    }

    fn spend(&self, steps: usize) -> Result<(), WireError> {
        let left = self.reader.steps.get().checked_sub(steps);
        self.reader.steps.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or_else(|| refused(self.place, "the schema takes too long to check".to_owned()))
    }

    fn count(&self, alternatives: &Value, value: &Value, depth: usize) -> Result<usize, WireError> {
        let mut fitting = 0;
        for alternative in alternatives.as_array().into_iter().flatten() {
            fitting += usize::from(self.allows(alternative, value, depth + 1)?);
        }
        Ok(fitting)
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

fn refused(place: &str, message: String) -> WireError {
    let param = if place.is_empty() { PLACE.to_owned() } else { format!("{PLACE}.{place}") };
    WireError::new(Code::RequestInvalid, Some(param), message)
}

fn unsupported(place: &str, keyword: &str) -> WireError {
    refused(place, format!("the keyword `{}` is not supported", short(keyword)))
        .with_hint("use type, enum, const, anyOf, oneOf, allOf, $ref, lengths and bounds")
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
