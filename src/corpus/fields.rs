//! Where the text, the id and the metadata of a record are: field paths compiled to a tree, and the pass over one JSON line
//! that fills a [`Document`] from it.
//!
//! A path such as `meta.source` names the field `source` of the object `meta`, or a field whose own name is `meta.source`.
//! The text and id are copied straight from the line into the document's buffers; fields nobody asked for are skipped
//! without being built. Of a field that occurs twice the last counts.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

use super::{Document, ReadOptions};

/// One level of field names.
#[derive(Debug, Default)]
struct Node {
    children: Vec<(String, Node)>,
    text: bool,
    id: bool,
    /// Indices into [`Fields::metadata`].
    metadata: Vec<usize>,
}

impl Node {
    fn child(&self, key: &str) -> Option<&Node> {
        self.children.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Calls `mark` on the node of `path`, and on those of its other readings (`a.b` as one name, or as two).
    fn insert(&mut self, path: &str, mark: &mut dyn FnMut(&mut Node)) {
        mark(self.entry(path));
        // Names with more than a few dots are paths, not names: only whole-path and step-by-step readings then.
        let nested = path.matches('.').count() <= 6;
        for (at, _) in path.match_indices('.') {
            let (head, tail) = (&path[..at], &path[at + 1..]);
            if !head.is_empty() && !tail.is_empty() && (nested || !head.contains('.')) {
                self.entry(head).insert(tail, mark);
            }
        }
    }

    fn entry(&mut self, name: &str) -> &mut Node {
        let at = self.children.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
            self.children.push((name.to_string(), Node::default()));
            self.children.len() - 1
        });
        &mut self.children[at].1
    }

    fn only_text(&self) -> bool {
        self.text && !self.id && self.metadata.is_empty() && self.children.is_empty()
    }

    fn only_id(&self) -> bool {
        self.id && !self.text && self.metadata.is_empty() && self.children.is_empty()
    }
}

/// The fields to read, ready for use.
#[derive(Debug)]
pub(super) struct Fields {
    root: Node,
    text_field: String,
    metadata: Vec<String>,
    keep_rest: bool,
}

/// What became of the text field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Missing,
    Found,
    Not(&'static str),
}

impl Fields {
    pub(super) fn new(options: &ReadOptions) -> Self {
        let mut root = Node::default();
        root.insert(&options.text_field, &mut |n| n.text = true);
        if !options.id_field.is_empty() {
            root.insert(&options.id_field, &mut |n| n.id = true);
        }
        let metadata = options.metadata_fields.clone().unwrap_or_default();
        for (i, path) in metadata.iter().enumerate() {
            root.insert(path, &mut |n| n.metadata.push(i));
        }
        let keep_rest = options.metadata_fields.is_none();
        Self { root, text_field: options.text_field.clone(), metadata, keep_rest }
    }

    /// Fills `doc`'s text, id (empty where the record has none) and metadata from one JSON object.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the line.
    pub(super) fn fill(&self, line: &str, doc: &mut Document) -> Result<(), String> {
        doc.text.clear();
        doc.id.clear();
        doc.metadata.clear();
        let mut text = Text::Missing;
        let mut json = serde_json::Deserializer::from_str(line);
        let record = Record { fields: self, doc, text: &mut text };
        record.deserialize(&mut json).and_then(|()| json.end()).map_err(complaint)?;
        match text {
            Text::Found => Ok(()),
            Text::Missing => Err(format!("there is no field `{}`", self.text_field)),
            Text::Not(kind) => Err(format!("field `{}` is {kind}, not a string", self.text_field)),
        }
    }

    /// Takes the wanted parts out of `value`, which stood at `node`; what remains of it, if anything.
    fn dig(&self, node: &Node, value: Value, doc: &mut Document, text: &mut Text) -> Option<Value> {
        for &i in &node.metadata {
            doc.metadata.insert(self.metadata[i].clone(), value.clone());
        }
        if node.id {
            set_id(&value, &mut doc.id);
        }
        match value {
            Value::String(s) if node.text => {
                *text = Text::Found;
                doc.text = s;
                None
            }
            Value::Object(mut object) if !node.children.is_empty() => {
                for (name, child) in &node.children {
                    if let Some(v) = object.shift_remove(name)
                        && let Some(rest) = self.dig(child, v, doc, text)
                    {
                        object.insert(name.clone(), rest);
                    }
                }
                (!object.is_empty()).then_some(Value::Object(object))
            }
            other if node.text => {
                *text = Text::Not(kind_of_value(&other));
                None
            }
            other => (!node.id).then_some(other),
        }
    }

    /// The line with the text field's value replaced by `text`, every other byte unchanged.
    pub(super) fn replace(&self, line: &str, text: &str) -> Result<String, String> {
        let mut spans = Vec::new();
        spans_of(&self.root, line, 0, &mut spans)?;
        if spans.is_empty() {
            return Err(format!("there is no field `{}`", self.text_field));
        }
        let quoted = serde_json::to_string(text).map_err(complaint)?;
        let mut out = String::with_capacity(line.len());
        let mut from = 0;
        for (start, end) in spans {
            out.push_str(&line[from..start]);
            out.push_str(&quoted);
            from = end;
        }
        out.push_str(&line[from..]);
        Ok(out)
    }
}

/// serde_json's message without the line number, which is always 1 here.
fn complaint(error: serde_json::Error) -> String {
    let message = error.to_string().replace(" at line 1 column ", " at column ");
    if error.is_data() { format!("not a JSON object: {message}") } else { format!("not JSON: {message}") }
}

fn kind_of_value(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Strings and numbers are ids; anything else is none.
pub(super) fn set_id(value: &Value, id: &mut String) {
    id.clear();
    match value {
        Value::String(s) => id.push_str(s),
        Value::Number(n) => id.push_str(&n.to_string()),
        _ => {}
    }
}

/// Byte ranges in `line` of the values at text nodes below `node`; `base` is added to all.
fn spans_of(node: &Node, line: &str, base: usize, spans: &mut Vec<(usize, usize)>) -> Result<(), String> {
    struct Members<'a>(Vec<(String, &'a RawValue)>);
    impl<'de> serde::Deserialize<'de> for Members<'de> {
        fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
            struct V;
            impl<'de> Visitor<'de> for V {
                type Value = Members<'de>;
                fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut members = Vec::new();
                    while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                        members.push(entry);
                    }
                    Ok(Members(members))
                }
            }
            de.deserialize_map(V)
        }
    }
    let Members(members) = serde_json::from_str(line).map_err(complaint)?;
    for (key, raw) in members {
        let Some(child) = node.child(&key) else { continue };
        let value = raw.get();
        let start = value.as_ptr() as usize - line.as_ptr() as usize;
        if child.text && value.starts_with('"') {
            spans.push((base + start, base + start + value.len()));
        } else if !child.children.is_empty() && value.starts_with('{') {
            spans_of(child, value, base + start, spans)?;
        }
    }
    Ok(())
}

/// The pass over one object.
struct Record<'a> {
    fields: &'a Fields,
    doc: &'a mut Document,
    text: &'a mut Text,
}

/// What to do with a field, decided on its name.
enum Action<'a> {
    Text,
    Id,
    Dig(&'a Node, Option<String>),
    Keep(String),
    Skip,
}

struct Key<'a>(&'a Fields);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Action<'a>;
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Action<'a>, D::Error> {
        de.deserialize_str(self)
    }
}

impl<'de, 'a> Visitor<'de> for Key<'a> {
    type Value = Action<'a>;
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a field name")
    }
    fn visit_str<E>(self, key: &str) -> Result<Action<'a>, E> {
        let keep = self.0.keep_rest;
        Ok(match self.0.root.child(key) {
            Some(node) if node.only_text() => Action::Text,
            Some(node) if node.only_id() => Action::Id,
            Some(node) => Action::Dig(node, keep.then(|| key.to_string())),
            None if keep => Action::Keep(key.to_string()),
            None => Action::Skip,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Record<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Record<'_> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("one JSON object a line")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(action) = map.next_key_seed(Key(self.fields))? {
            match action {
                Action::Text => *self.text = map.next_value_seed(Copy(&mut self.doc.text))?,
                Action::Id => set_id(&map.next_value()?, &mut self.doc.id),
                Action::Skip => {
                    map.next_value::<IgnoredAny>()?;
                }
                Action::Keep(key) => {
                    let value = map.next_value()?;
                    self.doc.metadata.insert(key, value);
                }
                Action::Dig(node, key) => {
                    let value = map.next_value()?;
                    if let (Some(rest), Some(key)) = (self.fields.dig(node, value, self.doc, self.text), key) {
                        self.doc.metadata.insert(key, rest);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Copies a string into a buffer; anything else is consumed and named.
struct Copy<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Copy<'_> {
    type Value = Text;
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Text, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copy<'_> {
    type Value = Text;
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E>(self, s: &str) -> Result<Text, E> {
        self.0.clear();
        self.0.push_str(s);
        Ok(Text::Found)
    }
    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text::Not("null"))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text::Not("a boolean"))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text::Not("a number"))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text::Not("a number"))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text::Not("a number"))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text::Not("an array"))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text::Not("an object"))
    }
}

/// Puts `value` at a dotted `path` of nested objects, unless a scalar is in the way.
pub(super) fn insert_at(object: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            object.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let slot = object.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = slot {
                insert_at(inner, rest, value);
            }
        }
    }
}
