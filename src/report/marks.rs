//! Byte ranges of a text, marked.

use crate::tokenize::floor_char_boundary;

/// The first `most` bytes of `text` with `open` and `close` around the ranges, everything between them passed through `escape`.
/// Ranges may overlap and come in any order; those that are none of the text mark nothing. ` …` ends a text that was cut.
pub fn marked(
    text: &str,
    mut ranges: Vec<(usize, usize)>,
    most: usize,
    (open, close): (&str, &str),
    escape: impl Fn(&str) -> String,
) -> String {
    let shown = floor_char_boundary(text, text.len().min(most));
    ranges.sort_unstable();
    let (mut out, mut at) = (String::new(), 0);
    for (a, b) in ranges {
        let (a, b) = (a.max(at), b.min(shown));
        if a >= b {
            continue;
        }
        let (Some(before), Some(inside)) = (text.get(at..a), text.get(a..b)) else { continue };
        out += &escape(before);
        out += open;
        out += &escape(inside);
        out += close;
        at = b;
    }
    out += &escape(text.get(at..shown).unwrap_or_default());
    if shown < text.len() {
        out += " …";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_follow_bytes_and_text_is_escaped() {
        let of = |text: &str, ranges: &[(usize, usize)]| {
            marked(text, ranges.to_vec(), 10, ("<", ">"), |t| t.replace('&', "+"))
        };
        assert_eq!(of("é&b&x", &[(2, 5)]), "é<+b+>x");
        assert_eq!(of("abcd", &[(1, 3), (0, 2), (9, 12)]), "<ab><c>d");
        assert_eq!(of("éa", &[(1, 2)]), "éa", "a range inside a character marks nothing");
        assert_eq!(of(&"é".repeat(6), &[(8, 12)]), format!("{}<é> …", "é".repeat(4)), "cut at ten bytes");
    }
}
