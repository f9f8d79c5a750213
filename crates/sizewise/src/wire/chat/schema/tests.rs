//! Does every reply fit its schema, and is every schema that cannot be met refused?

use super::*;
use crate::wire::testing::support_task;
use proptest::prelude::*;
use serde_json::json;

fn shape(schema: Value) -> Result<Vec<Property>, (String, String)> {
    match Shape::of_schema(&schema.to_string(), &support_task()) {
        Ok(Shape::Object(properties)) => Ok(properties),
        Ok(Shape::Value) => panic!("a schema gives an object"),
        Err(error) => Err((
            error.param().unwrap_or_default().trim_start_matches(PLACE).to_owned(),
            error.message().to_owned(),
        )),
    }
}

/// As the Python client writes the schema of a pydantic model with `strict`.
fn pydantic() -> Value {
    json!({
        "$defs": {"Team": {"enum": ["returns", "billing", "delivery"], "title": "Team", "type": "string"}},
        "type": "object",
        "title": "Triage",
        "properties": {
            "urgent": {"title": "Urgent", "type": "boolean"},
            "team": {"$ref": "#/$defs/Team"},
            "mood": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 2}, {"type": "null"}], "title": "Mood"},
        },
        "required": ["urgent", "team", "mood"],
        "additionalProperties": false,
    })
}

#[test]
fn each_property_finds_its_question_and_a_form_for_every_class() {
    let properties = shape(pydantic()).expect("can be met");
    let forms = |index: usize| Value::from(properties[index].forms.clone());
    assert_eq!((properties[0].question, forms(0)), (1, json!([false, true])));
    assert_eq!((properties[1].question, forms(1)), (0, json!(["billing", "delivery", "returns"])));
    assert_eq!((properties[2].question, forms(2)), (2, json!([0, 1, 2])));
    assert!(properties[2].nullable && !properties[0].nullable);
    assert_eq!(
        Shape::Object(properties).questions(&support_task()),
        Some(vec![QuestionRef(1), QuestionRef(0), QuestionRef(2)])
    );
}

#[test]
fn a_predicate_is_written_in_the_words_that_the_schema_allows() {
    let words = |schema: Value| {
        let schema = json!({"type": "object", "properties": {"urgent": schema}, "required": ["urgent"]});
        shape(schema).map(|properties| Value::from(properties[0].forms.clone()))
    };
    assert_eq!(words(json!({"enum": ["Yes", "No"]})), Ok(json!(["No", "Yes"])));
    assert_eq!(words(json!({"type": "string"})), Ok(json!(["no", "yes"])));
    assert_eq!(words(json!({"type": "integer"})), Ok(json!([0, 1])));
    assert_eq!(words(json!(true)), Ok(json!([false, true])));
}

#[test]
fn values_that_spell_numbers_and_booleans_may_be_written_as_such() {
    assert_eq!(spelled("12"), [json!("12"), json!(12)]);
    assert_eq!(spelled("true"), [json!("true"), json!(true)]);
    assert_eq!(spelled("012"), [json!("012")]);
    assert_eq!(spelled("null"), [json!("null")]);
}

#[test]
fn a_task_with_one_question_answers_a_property_of_any_name() {
    let mut task = support_task();
    task.questions.truncate(1);
    let schema = json!({"type": "object", "properties": {"department": {"type": "string"}}});
    assert!(Shape::of_schema(&schema.to_string(), &task).is_ok());
    assert_eq!(Shape::plain(&task), Shape::Value);
}

#[test]
fn a_schema_that_cannot_be_met_names_the_place() {
    let property =
        |schema: Value| json!({"type": "object", "properties": {"team": schema}, "required": ["team"]});
    for (schema, place, message) in [
        (
            property(json!({"enum": ["billing", "delivery"]})),
            ".properties.team",
            "the schema has no place for the value `returns` of question `team`",
        ),
        (
            property(json!({"type": "object", "properties": {}})),
            ".properties.team",
            "the schema has no place for the value `billing` of question `team`",
        ),
        (
            property(json!({"type": "string", "pattern": "^b"})),
            ".properties.team",
            "the keyword `pattern` is not supported",
        ),
        (
            property(json!({"type": "string", "maxLength": 7})),
            ".properties.team",
            "the schema has no place for the value `delivery` of question `team`",
        ),
        (property(json!({"$ref": "#/$defs/None"})), "", "the reference `#/$defs/None` leads nowhere"),
        (property(json!(3)), ".properties.team", "a schema is an object or a boolean"),
        (
            json!({"type": "object", "properties": {"colour": {}}, "required": ["colour"]}),
            ".properties.colour",
            "task `support` has no question `colour`",
        ),
        (
            json!({"type": "object", "properties": {"colour": {}}}),
            ".properties",
            "no property is a question of task `support`",
        ),
        (json!({"type": "array"}), ".type", "the reply is an object, so the schema has to ask for one"),
        (json!({"type": "object", "minProperties": 9}), "", "the keyword `minProperties` is not supported"),
        (json!({"required": ["team"]}), ".required", "`team` is required but has no schema"),
        (json!([]), "", "the schema is not an object"),
    ] {
        assert_eq!(shape(schema.clone()).err(), Some((place.to_owned(), message.to_owned())), "{schema}");
    }
}

#[test]
fn a_schema_that_refers_to_itself_ends_in_an_error() {
    let schema = json!({
        "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}]}},
        "type": "object",
        "properties": {"team": {"$ref": "#/$defs/A"}},
    });
    assert_eq!(
        shape(schema),
        Err((".properties.team".to_owned(), "the schema is nested too deeply".to_owned()))
    );
    let root = json!({"$ref": "#"});
    assert!(shape(root).is_err());
}

proptest! {
    #[test]
    fn any_json_is_a_schema_or_an_error(text in "[\\[\\]{}:,\"a-z$#/0-9 ]{0,80}") {
        let _ = Shape::of_schema(&text, &support_task());
        let _ = Shape::of_schema(&format!(r#"{{"properties":{{"team":{text}}}}}"#), &support_task());
    }
}
