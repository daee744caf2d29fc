//! Windows: the text around a candidate that is compared with the item, as long as the item and cut where the text is.
//!
//! A mean over a window of another length is another mean, which is what a single threshold over fixed windows suffers from.
//! So the window is the paragraph, if it is about as long as the item; else the sentences that hold the item's terms.

use std::ops::Range;

use super::terms::terms_of;
use crate::tokenize::floor_char_boundary;

/// A paragraph is the window when it has at most twice the item's terms and so many more.
const SLACK: usize = 12;
/// How far a sentence is followed beyond the outermost term, in bytes.
const REACH: usize = 200;
/// How far a blank line is looked for, in bytes.
const FAR: usize = 4000;

/// The window around `found` (bytes from the first to the last term of an item of `terms` terms).
pub fn window(text: &str, found: Range<usize>, terms: usize) -> Range<usize> {
    let paragraph = paragraph(text, found.clone());
    if paragraph.len() <= (2 * terms + SLACK) * 16 && terms_of(&text[paragraph.clone()]).len() <= 2 * terms + SLACK {
        return trimmed(text, paragraph);
    }
    let before = &text[paragraph.start..found.start];
    let mut start = sentence_start(before).map_or(paragraph.start, |at| paragraph.start + at);
    if found.start - start > REACH {
        start = found.start;
    }
    let after = &text[found.end..paragraph.end];
    let mut end = sentence_end(after).map_or(paragraph.end, |at| found.end + at);
    if end - found.end > REACH {
        end = found.end;
    }
    trimmed(text, start..end)
}

/// The lines around a stretch up to the next blank line (or one of only comment marks) on each side.
pub fn paragraph(text: &str, found: Range<usize>) -> Range<usize> {
    let mut start = found.start;
    let least = floor_char_boundary(text, found.start.saturating_sub(FAR));
    loop {
        let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
        if line <= least || line == 0 {
            start = line.max(least);
            break;
        }
        let above = text[..line - 1].rfind('\n').map_or(0, |at| at + 1);
        if is_blank(&text[above..line - 1]) {
            start = line;
            break;
        }
        start = above;
    }
    let most = floor_char_boundary(text, (found.end + FAR).min(text.len()));
    let mut end = found.end;
    loop {
        let Some(line) = text[end..].find('\n').map(|at| end + at) else { break end = text.len() };
        if line >= most {
            break end = most;
        }
        let next = text[line + 1..].find('\n').map_or(text.len(), |at| line + 1 + at);
        if is_blank(&text[line + 1..next]) {
            break end = line;
        }
        end = next;
    }
    start.min(found.start)..end.max(found.end)
}

fn is_blank(line: &str) -> bool {
    line.chars().all(|c| c.is_whitespace() || matches!(c, '#' | '*' | '/' | '>' | ';' | '-'))
}

/// Where the last sentence of `text` begins.
fn sentence_start(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let ends = |i: usize| matches!(bytes[i], b'.' | b'?' | b'!' | b';') || (bytes[i] == b':' && i + 1 < bytes.len());
    (0..bytes.len().saturating_sub(1))
        .rev()
        .find(|&i| ends(i) && bytes[i + 1].is_ascii_whitespace() && !is_initial(&bytes[..i]))
        .map(|i| i + 1)
}

/// Where the first sentence of `text` ends, its mark included.
fn sentence_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len())
        .find(|&i| {
            matches!(bytes[i], b'.' | b'?' | b'!')
                && bytes.get(i + 1).is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b')'))
                && !is_initial(&bytes[..i])
        })
        .map(|i| i + 1)
}

/// Whether a full stop after this belongs to an initial or a title: `J.`, `Mr.`
fn is_initial(before: &[u8]) -> bool {
    let from = before.iter().rposition(|b| !b.is_ascii_alphabetic()).map_or(0, |at| at + 1);
    let word = &before[from..];
    (word.len() == 1 && word[0].is_ascii_uppercase()) || matches!(word, b"Mr" | b"Mrs" | b"Ms" | b"Dr" | b"vs" | b"al")
}

/// Without white space at both ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inside = &text[range.clone()];
    let start = range.start + (inside.len() - inside.trim_start().len());
    start..start + inside.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, found: &str, terms: usize) -> String {
        let start = text.find(found).unwrap();
        text[window(text, start..start + found.len(), terms)].to_string()
    }

    #[test]
    fn a_paragraph_of_the_items_length_is_the_window() {
        let text = "Host text before.\n\nAnna has 3 hens. Each lays 2 eggs.\nHow many in all?\n\nHost text after.";
        assert_eq!(of(text, "3 hens. Each lays 2", 12), "Anna has 3 hens. Each lays 2 eggs.\nHow many in all?");
        let commented = "# Host.\n#\n# Anna has 3 hens.\n# How many?\n#\n# Host.";
        assert_eq!(of(commented, "3 hens", 6), "# Anna has 3 hens.\n# How many?");
    }

    #[test]
    fn a_long_paragraph_gives_the_sentences_around_the_terms() {
        let host = "Some other words come here without an end in sight. ".repeat(10);
        let text = format!("{host}Mr. Anna has 3 hens. Each lays 2 eggs a day. {host}");
        assert_eq!(of(&text, "3 hens. Each lays 2", 8), "Mr. Anna has 3 hens. Each lays 2 eggs a day.");
        assert_eq!(of("no end", "no end", 1), "no end");
    }
}
