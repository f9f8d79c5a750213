//! Which ids stand before and after a text?
//!
//! The file's post-processor says it, in one of three forms. Only the form for one text counts here, and only one id on
//! either side: no known encoder has another.

use super::section::Section;
use crate::error::Result;
use serde_json::Value;

/// The ids around a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) begin: u32,
    pub(super) end: u32,
}

impl Frame {
    /// Reads the `post_processor` section.
    ///
    /// # Errors
    /// Fails when it is damaged or puts anything else around a text.
    pub(super) fn parse(section: &Section<'_>) -> Result<Self> {
        match section.kind()? {
            "RobertaProcessing" | "BertProcessing" => {
                // The two other keys are about offsets, which are not kept here.
                section.only(&["sep", "cls", "trim_offsets", "add_prefix_space"])?;
                let id = |key: &str| section.id(section.value(key).and_then(|pair| pair.get(1)), key);
                Ok(Self { begin: id("cls")?, end: id("sep")? })
            }
            "TemplateProcessing" => Self::from_template(section),
            "Sequence" => {
                section.only(&["processors"])?;
                let parts = section.parts("processors")?;
                // A byte-level post-processor only moves offsets.
                let mut framing = Vec::new();
                for part in &parts {
                    if part.kind()? != "ByteLevel" {
                        framing.push(part);
                    }
                }
                match framing.as_slice() {
                    [one] => Self::parse(one),
                    _ => Err(section.unsupported("processors", "does not have exactly one that adds ids")),
                }
            }
            _ => Err(section.unknown_kind("RobertaProcessing, BertProcessing and TemplateProcessing")),
        }
    }

    fn from_template(section: &Section<'_>) -> Result<Self> {
        section.only(&["single", "pair", "special_tokens"])?;
        let name =
            |part: &'_ Value| part.pointer("/SpecialToken/id").and_then(Value::as_str).map(str::to_owned);
        let is_text = |part: &Value| part.pointer("/Sequence/id").and_then(Value::as_str) == Some("A");
        let template = section.value("single").and_then(Value::as_array).map(Vec::as_slice);
        let (begin, end) = match template {
            Some([begin, text, end]) if is_text(text) => (name(begin), name(end)),
            _ => (None, None),
        };
        let (Some(begin), Some(end)) = (begin, end) else {
            let problem = "is not one special token, the text `A` and one special token";
            return Err(section.unsupported("single", problem));
        };
        let id = |name: &str| {
            let ids =
                section.value("special_tokens").and_then(|tokens| tokens.get(name)?.get("ids")?.as_array());
            match ids.map(Vec::as_slice) {
                Some([id]) => section.id(Some(id), "special_tokens"),
                _ => Err(section.damaged("special_tokens", &format!("has not exactly one id for `{name}`"))),
            }
        };
        Ok(Self { begin: id(&begin)?, end: id(&end)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value) -> Result<Frame> {
        Frame::parse(&Section::of("t", "post_processor", value).unwrap().unwrap())
    }

    fn template(single: &Value) -> Value {
        json!({"type":"TemplateProcessing","single":single,"pair":[],"special_tokens":{
            "<s>":{"id":"<s>","ids":[5],"tokens":["<s>"]},"</s>":{"id":"</s>","ids":[7],"tokens":["</s>"]}}})
    }

    #[test]
    fn all_forms_say_the_same() {
        let roberta =
            json!({"type":"RobertaProcessing","sep":["</s>",7],"cls":["<s>",5],"trim_offsets":true});
        let single = json!([{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
            {"SpecialToken":{"id":"</s>","type_id":0}}]);
        let nested = json!({"type":"Sequence","processors":[{"type":"ByteLevel"}, template(&single)]});
        for form in [roberta, template(&single), nested] {
            assert_eq!(parse(&form).unwrap(), Frame { begin: 5, end: 7 });
        }
    }

    #[test]
    fn another_frame_is_refused_by_name() {
        let text = json!({"Sequence":{"id":"A"}});
        let special = |id: &str| json!({"SpecialToken":{"id":id}});
        for (form, expected) in [
            (template(&json!([special("<s>"), text])), "post_processor.single is not one"),
            (template(&json!([special("<s>"), text, special("<x>")])), "no"),
            (
                json!({"type":"RobertaProcessing","sep":["</s>",-1],"cls":["<s>",5]}),
                "post_processor.sep is no id",
            ),
            (json!({"type":"Strange"}), "post_processor.type is `Strange`"),
            (json!({"type":"RobertaProcessing","more":1}), "post_processor.more is not known"),
        ] {
            let error = parse(&form).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
