//! Which fields of a benchmark's rows are which component.
//!
//! A [`Mapping`] names, for each component, a field of the row: a plain name, a dotted path into nested objects and
//! arrays (`answers.text.0`), or alternatives of which the first present wins (`text|prompt`). Ready mappings exist for
//! common benchmarks; [`Mapping::detect`] picks one from the fields of a row when the user names none.

use serde_json::{Map, Value};

use super::item::EvalItem;
use crate::error::{Error, Result};

/// One row of a benchmark file.
pub type Row = Map<String, Value>;

/// Field per component; `None` where the benchmark has no such component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    pub id: Option<String>,
    pub question: Option<String>,
    pub answer: Option<String>,
    pub passage: Option<String>,
    /// A list of strings, or one string with `; ` between the choices.
    pub choices: Option<String>,
    /// The right choice: 0-based number, letter, or the text of the choice.
    pub correct: Option<String>,
}

/// Named mappings: name, then the mapping as `--map` would spell it.
// Benchmarks without ids of their own are often given an `id`; a row without one is named by its place.
const NAMED: &[(&str, &str)] = &[
    ("humaneval", "id=task_id,question=prompt,answer=canonical_solution"),
    ("mbpp", "id=task_id,question=text|prompt,answer=code"),
    ("hellaswag", "id=ind,question=ctx,choices=endings,correct=label"),
    ("arc", "id=id,question=question,choices=choices.text,correct=answerKey"),
    ("mmlu", "id=index,question=question,choices=choices,correct=answer"),
    ("squad", "id=id,passage=context,question=question,answer=answers.text.0"),
    ("math", "id=idx|unique_id,question=problem,answer=solution"),
    ("bbh", "id=id,question=input,answer=target"),
    ("truthfulqa", "id=id,question=Question|question,answer=Best Answer|best_answer"),
    ("gsm8k", "id=id,question=question,answer=answer"),
];

impl Mapping {
    /// Names of the ready mappings.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// A ready mapping by name, or one spelled out as `question=prompt,answer=canonical_solution`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name or component, and for a mapping without question, answer or passage.
    pub fn parse(spec: &str) -> Result<Mapping> {
        if let Some((_, known)) = NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(spec)) {
            return Mapping::spelled(known);
        }
        if !spec.contains('=') {
            let names: Vec<&str> = Mapping::names().collect();
            return Err(Error::invalid_hint(
                format!("unknown mapping `{spec}`"),
                format!("use one of {}, or spell it out: question=FIELD,answer=FIELD", names.join(", ")),
            ));
        }
        Mapping::spelled(spec)
    }

    fn spelled(spec: &str) -> Result<Mapping> {
        let mut mapping = Mapping::default();
        for part in spec.split(',').filter(|part| !part.trim().is_empty()) {
            let (component, field) = part.split_once('=').ok_or_else(|| {
                Error::invalid_hint(format!("`{part}` is not COMPONENT=FIELD"), "for example question=prompt")
            })?;
            let slot = match component.trim() {
                "id" => &mut mapping.id,
                "question" => &mut mapping.question,
                "answer" => &mut mapping.answer,
                "passage" => &mut mapping.passage,
                "choices" => &mut mapping.choices,
                "correct" => &mut mapping.correct,
                other => {
                    return Err(Error::invalid_hint(
                        format!("unknown component `{other}` in the mapping"),
                        "components are id, question, answer, passage, choices, correct",
                    ));
                }
            };
            *slot = Some(field.trim().to_string());
        }
        if mapping.question.is_none() && mapping.answer.is_none() && mapping.passage.is_none() {
            return Err(Error::invalid_hint(
                format!("the mapping `{spec}` names no text"),
                "map at least one of question, answer, passage",
            ));
        }
        Ok(mapping)
    }

    /// The mapping that fits a row: our own names when it has them, else the first ready mapping whose fields are all
    /// there. `None` when nothing fits.
    pub fn detect(row: &Row) -> Option<Mapping> {
        let text = |name: &str| row.get(name).is_some_and(Value::is_string);
        let own = row.contains_key("passage") || row.contains_key("correct");
        if own && (text("question") || text("passage") || text("answer")) {
            return Some(Mapping::own());
        }
        for (_, spec) in NAMED {
            let Ok(mapping) = Mapping::spelled(spec) else { continue };
            let fields = [&mapping.question, &mapping.answer, &mapping.passage, &mapping.choices, &mapping.correct];
            if fields.into_iter().flatten().all(|field| lookup(row, field).is_some()) {
                return Some(mapping);
            }
        }
        (text("question") || text("answer")).then(Mapping::own)
    }

    /// Our own names: `id`, `question`, `answer`, `passage`, `choices`, `correct`, any subset.
    pub fn own() -> Mapping {
        let name = |s: &str| Some(s.to_string());
        Mapping {
            id: name("id"),
            question: name("question"),
            answer: name("answer"),
            passage: name("passage"),
            choices: name("choices"),
            correct: name("correct"),
        }
    }

    /// The item of a row, without origin, and the row's own id. What is wrong with the row is `Err`.
    pub fn apply(&self, row: &Row) -> std::result::Result<(EvalItem, Option<String>), String> {
        let text = |field: &Option<String>| field.as_deref().and_then(|f| lookup(row, f)).and_then(text_of);
        let mut item = EvalItem {
            question: text(&self.question),
            answer: text(&self.answer),
            passage: text(&self.passage),
            ..EvalItem::default()
        };
        if let Some(value) = self.choices.as_deref().and_then(|f| lookup(row, f)) {
            item.choices = choices_of(value)?;
        }
        if let Some(value) = self.correct.as_deref().and_then(|f| lookup(row, f)) {
            item.correct = correct_of(value, &item.choices)?;
        }
        if let Some(right) = item.correct.and_then(|i| item.choices.get(i)) {
            item.answer = Some(right.clone());
        }
        let id = self.id.as_deref().and_then(|f| lookup(row, f)).and_then(text_of);
        if item.is_empty() {
            let fields: Vec<&str> = row.keys().map(String::as_str).collect();
            return Err(format!(
                "eval item without text: none of its mapped fields has a letter or digit (fields of the row: {})",
                fields.join(", ")
            ));
        }
        Ok((item, id))
    }
}

fn lookup<'a>(row: &'a Row, field: &str) -> Option<&'a Value> {
    field.split('|').find_map(|path| {
        if let Some(value) = row.get(path) {
            return (!value.is_null()).then_some(value);
        }
        let mut parts = path.split('.');
        let mut value = row.get(parts.next()?)?;
        for part in parts {
            value = match value {
                Value::Object(object) => object.get(part)?,
                Value::Array(list) => list.get(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        (!value.is_null()).then_some(value)
    })
}

/// Text of a string, number or boolean; a list of strings is joined by newlines.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => (!s.trim().is_empty()).then(|| s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().filter_map(text_of).collect();
            (!parts.is_empty()).then(|| parts.join("\n"))
        }
        _ => None,
    }
}

fn choices_of(value: &Value) -> std::result::Result<Vec<String>, String> {
    match value {
        Value::Array(list) => list
            .iter()
            .map(|v| text_of(v).or_else(|| v.as_str().map(str::to_string)).ok_or("a choice is not text".to_string()))
            .collect(),
        Value::String(s) => Ok(s.split("; ").map(str::to_string).collect()),
        Value::Object(object) => match object.get("text") {
            Some(list) => choices_of(list),
            None => Err("`choices` is an object without a list `text`".into()),
        },
        _ => Err("`choices` is not a list".into()),
    }
}

fn correct_of(value: &Value, choices: &[String]) -> std::result::Result<Option<usize>, String> {
    let range = |i: usize| {
        if i < choices.len() {
            Ok(Some(i))
        } else {
            Err(format!("the right choice is number {i}, but there are {} choices", choices.len()))
        }
    };
    match value {
        Value::Number(n) => match n.as_u64() {
            Some(i) => range(i as usize),
            None => Ok(None),
        },
        Value::String(s) => {
            if let Some(i) = choices.iter().position(|c| c == s) {
                return Ok(Some(i));
            }
            if let Ok(i) = s.parse::<usize>() {
                return range(i);
            }
            match s.as_bytes() {
                [letter] if letter.is_ascii_alphabetic() => range((letter.to_ascii_uppercase() - b'A') as usize),
                _ => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: Value) -> Row {
        match value {
            Value::Object(map) => map,
            _ => unreachable!("test rows are objects"),
        }
    }

    #[test]
    fn every_ready_mapping_reads_the_shape_its_benchmark_has() {
        let cases = [
            ("gsm8k", json!({"question": "q w", "answer": "a"}), "q w", "a", 0),
            (
                "humaneval",
                json!({"task_id": "HumanEval/0", "prompt": "def f", "canonical_solution": "return 1", "test": "x"}),
                "def f",
                "return 1",
                0,
            ),
            ("mbpp", json!({"task_id": 2, "text": "Write", "code": "def", "test_list": []}), "Write", "def", 0),
            ("mmlu", json!({"question": "q", "subject": "s", "choices": ["x", "y"], "answer": 1}), "q", "y", 2),
            ("math", json!({"problem": "p", "solution": "s", "level": "Level 1"}), "p", "s", 0),
            ("truthfulqa", json!({"Question": "q", "Best Answer": "b", "Correct Answers": "b; c"}), "q", "b", 0),
            (
                "arc",
                json!({"id": "M1", "question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}),
                "q",
                "y",
                2,
            ),
            ("hellaswag", json!({"ind": 3, "ctx": "c", "endings": ["e", "f", "g", "h"], "label": "2"}), "c", "g", 4),
            (
                "squad",
                json!({"id": "5", "context": "p", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}}),
                "q",
                "a",
                0,
            ),
            ("bbh", json!({"input": "i", "target": "t"}), "i", "t", 0),
        ];
        for (name, value, question, answer, choices) in cases {
            let row = row(value);
            let named = Mapping::parse(name).unwrap();
            assert_eq!(Mapping::detect(&row), Some(named.clone()), "{name} is detected");
            let (item, _) = named.apply(&row).unwrap();
            assert_eq!(item.question.as_deref(), Some(question), "{name}");
            assert_eq!(item.answer.as_deref(), Some(answer), "{name}");
            assert_eq!(item.choices.len(), choices, "{name}");
        }
    }

    #[test]
    fn spelled_mappings_and_their_mistakes() {
        let mapping = Mapping::parse("question=a.b, answer=c|d").unwrap();
        let (item, _) = mapping.apply(&row(json!({"a": {"b": "deep"}, "d": 7}))).unwrap();
        assert_eq!((item.question.as_deref(), item.answer.as_deref()), (Some("deep"), Some("7")));
        assert!(Mapping::parse("nonesuch").unwrap_err().hint().unwrap().contains("gsm8k"));
        assert!(Mapping::parse("questoin=a").is_err());
        assert!(Mapping::parse("id=a").is_err());
        let what = mapping.apply(&row(json!({"a": {"b": " ... "}, "x": 1}))).unwrap_err();
        assert!(what.contains("without text") && what.contains("a, x"), "{what}");
        assert!(
            Mapping::parse("mmlu")
                .unwrap()
                .apply(&row(json!({"question": "q", "choices": ["x"], "answer": 4})))
                .is_err()
        );
    }
}
