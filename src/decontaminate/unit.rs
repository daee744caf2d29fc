//! Whether a match stands as a text unit of its own, and whether it is character for character.
//!
//! A component of a few words occurs by chance inside running prose; as a line or sentence of its own, with its own
//! punctuation, it does not. These two facts are what short items are judged by.

use std::ops::Range;

/// What surrounds a matched stretch of a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Bounds {
    /// A line, sentence or list label begins right before it.
    pub starts_unit: bool,
    /// A line or sentence ends right after it.
    pub ends_unit: bool,
    /// The document's line before and after it holds nothing else: the match is a paragraph line of its own.
    pub own_line: bool,
    /// Equal to the component in every character, white space apart.
    pub literal: bool,
}

impl Bounds {
    /// Looks around `found` (byte range of the first to the last matched word) in `text`; `component` is the whole
    /// text of the component that was matched from its first to its last word.
    pub fn of(text: &str, found: Range<usize>, component: &str) -> Bounds {
        let (Some(before), Some(inside), Some(after)) =
            (text.get(..found.start), text.get(found.clone()), text.get(found.end..))
        else {
            return Bounds::default();
        };
        let component = component.trim();
        let first = component.find(char::is_alphanumeric).unwrap_or(0);
        let last = component.rfind(char::is_alphanumeric).unwrap_or(0);
        let last = last + component[last..].chars().next().map_or(0, char::len_utf8);
        let (lead, middle, tail) = (&component[..first], &component[first..last], &component[last..]);

        let stripped = ends_with_squeezed(before, lead);
        let followed = starts_with_squeezed(after, tail);
        let literal = stripped.is_some() && followed.is_some() && squeezed_eq(inside, middle);
        let before = stripped.unwrap_or(before);
        let after = followed.unwrap_or(after);
        let line_start = before.rsplit('\n').next().unwrap_or("");
        let line_end = after.split('\n').next().unwrap_or("");
        let opened = is_lead_in(line_start);
        let closing = line_end.trim_start_matches(|c: char| !c.is_alphanumeric() && !c.is_whitespace());
        let terminated = (followed.is_some() && tail.ends_with(['.', '?', '!', ':', ';']))
            || line_end.trim_start_matches(['"', '\'', ')', '”', '’', '*', '_']).starts_with(['.', '?', '!']);
        Bounds {
            starts_unit: opened
                || line_start.trim_end().ends_with(['.', '?', '!', ':', ';', '。', '？', '！'])
                || line_start.split_whitespace().next_back().is_some_and(is_label),
            ends_unit: closing.trim().is_empty() || terminated,
            own_line: opened && closing.trim().is_empty(),
            literal,
        }
    }
}

/// Whether the text between line start and match is only white space, markup, quotes, or a label such as `12.`, `(b)`,
/// `Q:`, `Question 3:`.
fn is_lead_in(line_start: &str) -> bool {
    let rest = line_start.trim();
    if rest.chars().all(|c| !c.is_alphanumeric()) {
        return true;
    }
    let Some(label) = rest.strip_suffix([':', '.', ')', ']', '*']) else { return false };
    let label = label.trim_matches(|c: char| !c.is_alphanumeric());
    if label.len() <= 3 {
        return true;
    }
    let word = label.trim_end_matches(|c: char| !c.is_alphabetic());
    ["question", "answer", "prompt", "problem", "exercise", "task", "example"]
        .iter()
        .any(|w| word.eq_ignore_ascii_case(w))
}

/// Whether a token is a list label inside a line: `(b)`, `C.`, `3)`.
fn is_label(token: &str) -> bool {
    let inner = token.trim_matches(|c: char| !c.is_alphanumeric());
    token.ends_with(['.', ')', ']', ':', ',']) && (1..=2).contains(&inner.len())
}

/// Equal when every run of white space counts as one space, and space next to punctuation as none.
fn squeezed_eq(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

/// `text` without a leading `tail`, white space apart; `None` when it does not start so.
fn starts_with_squeezed<'a>(text: &'a str, tail: &str) -> Option<&'a str> {
    let mut rest = text;
    for c in tail.chars().filter(|c| !c.is_whitespace()) {
        rest = rest.trim_start().strip_prefix(c)?;
    }
    Some(rest)
}

fn ends_with_squeezed<'a>(text: &'a str, lead: &str) -> Option<&'a str> {
    let mut rest = text;
    for c in lead.chars().rev().filter(|c| !c.is_whitespace()) {
        rest = rest.trim_end().strip_suffix(c)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str, found: &str, component: &str) -> Bounds {
        let start = text.find(found).unwrap();
        Bounds::of(text, start..start + found.len(), component)
    }

    #[test]
    fn a_line_of_its_own_is_told_from_running_prose() {
        let own = bounds("x\n\nSocialization is:\nA. a", "Socialization is", "Socialization is:");
        assert_eq!(own, Bounds { starts_unit: true, ends_unit: true, own_line: true, literal: true });
        let prose = bounds("they say socialization is: a process", "socialization is", "Socialization is:");
        assert!(!prose.starts_unit && !prose.own_line && !prose.literal);
        let label = bounds("Question 12: Why now?\n", "Why now", "Why now?");
        assert!(label.own_line && label.literal);
        let sentence = bounds("He left. Why now? Nobody", "Why now", "Why now?");
        assert!(sentence.starts_unit && sentence.ends_unit && !sentence.own_line && sentence.literal);
        let longer = bounds("\nWhy now that\n", "Why now", "Why now?");
        assert!(longer.starts_unit && !longer.ends_unit);
    }

    #[test]
    fn literal_means_every_character_but_white_space() {
        assert!(bounds("    return [ x ]\n    # y", "return [ x", "return [ x ]").literal);
        assert!(bounds("\n  (a) return x\n  + 1;", "return x\n  + 1", "return x + 1;").literal);
        assert!(!bounds("return x + 1", "return x + 1", "return x - 1").literal);
        assert!(!bounds("Return X", "Return X", "return x").literal);
        assert!(bounds("“Quoted” text", "Quoted” text", "“Quoted” text").literal);
    }
}
