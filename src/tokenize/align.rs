//! Which original characters each byte of a normalised text came from.
//!
//! A `tokenizer.json` may normalise text (lower-case, strip accents, compose, replace) before it cuts it, and its engine
//! reports no offsets. They are recovered here: the text is normalised one grapheme cluster at a time, and when the parts put together
//! give what the whole gave (nearly always), each part is the image of its cluster. When they do not (a normalizer that
//! looks at the whole text, such as one that prepends or strips), the two texts are walked side by side, with
//! characters compared without case and accents and a bounded look-ahead after a mismatch; spans are then a best effort, though
//! still valid, ordered slices.
//!
//! Cost: one normalizer call per cluster; nothing when normalization changed nothing.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use super::ByteSpan;
use crate::error::Result;

/// How far the side-by-side walk looks ahead on either side, in characters.
const LOOK_AHEAD: usize = 32;

/// The origin of every byte of a normalised text, as ranges relative to the original.
pub(super) enum Alignment {
    /// The texts are equal.
    Same,
    /// One origin for each normalised byte.
    Table(Vec<ByteSpan>),
}

impl Alignment {
    /// Aligns `normal` with `original`. `normalize(part, offset, into)` appends the normalised `part`, which
    /// starts at byte `offset` of `original`.
    pub(super) fn new(
        original: &str,
        normal: &str,
        normalize: &dyn Fn(&str, usize, &mut String) -> Result<()>,
    ) -> Result<Self> {
        if original == normal {
            return Ok(Alignment::Same);
        }
        let mut table = Vec::with_capacity(normal.len());
        let mut parts = String::with_capacity(normal.len());
        for (offset, cluster) in original.grapheme_indices(true) {
            normalize(cluster, offset, &mut parts)?;
            table.resize(parts.len(), span(offset, offset + cluster.len()));
            if parts.len() > normal.len() {
                break;
            }
        }
        if parts != normal {
            table = side_by_side(original, normal);
        }
        Ok(Alignment::Table(table))
    }

    /// The original range of the normalised bytes `start..end`.
    pub(super) fn span(&self, start: usize, end: usize) -> ByteSpan {
        match self {
            Alignment::Same => span(start, end),
            Alignment::Table(table) => {
                let first = table.get(start).or(table.last()).copied().unwrap_or_default();
                let last = if end > start { table.get(end - 1).copied().unwrap_or(first) } else { first };
                ByteSpan { start: first.start, end: last.end.max(first.start) }
            }
        }
    }
}

fn span(start: usize, end: usize) -> ByteSpan {
    ByteSpan { start: start as u32, end: end as u32 }
}

/// What is left of a character when case, accents and the kind of blank do not matter.
fn key(c: char) -> char {
    if c.is_whitespace() || c == '\u{2581}' {
        return ' ';
    }
    let base = std::iter::once(c).nfkd().next().unwrap_or(c);
    base.to_lowercase().next().unwrap_or(base)
}

fn side_by_side(original: &str, normal: &str) -> Vec<ByteSpan> {
    let source: Vec<(usize, char)> = original.char_indices().map(|(at, c)| (at, key(c))).collect();
    let image: Vec<(usize, char)> = normal.chars().map(|c| (c.len_utf8(), key(c))).collect();
    let start_of = |j: usize| source.get(j).map_or(original.len(), |s| s.0);
    let mut table = Vec::with_capacity(normal.len());
    let (mut i, mut j) = (0, 0);
    while i < image.len() {
        // The nearest pair of equal characters, `a` on in the image and `b` on in the source.
        let next = (0..=2 * LOOK_AHEAD).find_map(|distance| {
            (distance.saturating_sub(LOOK_AHEAD)..=distance.min(LOOK_AHEAD))
                .map(|b| (distance - b, b))
                .find(|&(a, b)| matches!((image.get(i + a), source.get(j + b)), (Some(n), Some(s)) if n.1 == s.1))
        });
        let (a, b) = match next {
            Some((0, 0)) => {
                table.resize(table.len() + image[i].0, span(start_of(j), start_of(j + 1)));
                i += 1;
                j += 1;
                continue;
            }
            Some(skip) => skip,
            None if image.len() - i > LOOK_AHEAD => (1, usize::from(j < source.len())),
            None => (image.len() - i, source.len() - j),
        };
        let skipped = span(start_of(j), start_of(j + b));
        for (bytes, _) in &image[i..i + a] {
            table.resize(table.len() + bytes, skipped);
        }
        i += a;
        j += b;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn align(original: &str, normalize: fn(&str) -> String) -> (String, Alignment) {
        let normal = normalize(original);
        let part = |s: &str, _: usize, into: &mut String| {
            into.push_str(&normalize(s));
            Ok(())
        };
        let alignment = Alignment::new(original, &normal, &part).unwrap();
        (normal, alignment)
    }

    fn origin<'a>(original: &'a str, normal: &str, alignment: &Alignment, part: &str) -> &'a str {
        let at = normal.find(part).unwrap();
        let span = alignment.span(at, at + part.len());
        &original[span.start as usize..span.end as usize]
    }

    #[test]
    fn clusters_map_to_clusters() {
        let original = "Cafe\u{301} ﬁne ÉTÉ";
        let (normal, alignment) = align(original, |s| s.nfkd().collect::<String>().to_lowercase());
        assert_eq!(origin(original, &normal, &alignment, "fin"), "ﬁn");
        assert_eq!(origin(original, &normal, &alignment, "cafe\u{301}"), "Cafe\u{301}");
        assert_eq!(origin(original, &normal, &alignment, " e\u{301}t"), " ÉT");
    }

    #[test]
    fn prepended_and_stripped_text_is_walked() {
        let original = "  Hello wörld ";
        let (normal, alignment) =
            align(original, |s| format!("\u{2581}{}", s.trim().replace(' ', "\u{2581}").to_lowercase()));
        assert_eq!(normal, "\u{2581}hello\u{2581}wörld");
        assert_eq!(origin(original, &normal, &alignment, "hello"), "Hello");
        assert_eq!(origin(original, &normal, &alignment, "wörld"), "wörld");
    }

    proptest::proptest! {
        #[test]
        fn any_two_texts_give_ordered_valid_slices(original in "[abcé漢 ]{0,80}", normal in "[abcé漢\u{2581}]{0,80}") {
            let table = side_by_side(&original, &normal);
            assert_eq!(table.len(), normal.len());
            let mut before = 0;
            for s in table {
                assert!(s.start >= before && s.end >= s.start);
                assert!(original.get(s.start as usize..s.end as usize).is_some());
                before = s.start;
            }
        }
    }
}
