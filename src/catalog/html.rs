//! The text of an HTML page, for corpora made of documentation: what a reader sees of the page itself, in reading order.
//!
//! One forward pass without a tree. Scripts, styles, the head, navigation, forms and drawings are left out, block elements
//! end lines, white space is folded except in `pre`, character references are resolved. Malformed markup never fails: what
//! cannot be a tag is text.

/// Elements whose content is not text of the page.
const DROPPED: [&str; 12] =
    ["script", "style", "head", "nav", "form", "svg", "aside", "button", "noscript", "template", "select", "iframe"];

/// Classes of `div` that documentation generators use for navigation.
const NAVIGATION: [&str; 12] = [
    "navheader",
    "navfooter",
    "nosearch",
    "menu",
    "related",
    "sphinxsidebar",
    "footer",
    "leftnav",
    "topbar",
    "toc",
    "searchmenu",
    "nav",
];

/// Elements that end a line.
const BLOCKS: [&str; 32] = [
    "p",
    "div",
    "br",
    "li",
    "ul",
    "ol",
    "dl",
    "dt",
    "dd",
    "tr",
    "table",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "pre",
    "blockquote",
    "section",
    "article",
    "header",
    "footer",
    "hr",
    "title",
    "body",
    "html",
    "caption",
    "figure",
    "main",
    "thead",
    "tbody",
];

/// Elements without content.
const VOID: [&str; 12] = ["br", "hr", "img", "input", "link", "meta", "area", "base", "col", "embed", "source", "wbr"];

/// The text of `page`; lines end with `\n`, no line is blank except inside `pre`.
pub(super) fn text_of(page: &str) -> String {
    let mut out = Text { out: String::with_capacity(page.len() / 2), space: false, pre: 0 };
    // While something is left out: the element that began it and how many of its name are open.
    let mut dropped: Option<(String, usize)> = None;
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let (text, tail) = rest.split_at(at);
        if dropped.is_none() {
            out.push(text);
        }
        let Some((tag, after)) = Tag::read(tail) else {
            if dropped.is_none() {
                out.push("<");
            }
            rest = &tail[1..];
            continue;
        };
        rest = after;
        if let Some((name, depth)) = &mut dropped {
            if tag.name == *name {
                *depth = if tag.closing { *depth - 1 } else { *depth + usize::from(!tag.empty) };
            }
            if *depth == 0 {
                dropped = None;
            }
            continue;
        }
        if tag.begins_dropped() {
            // Markup in scripts and styles is no markup.
            if tag.name == "script" || tag.name == "style" {
                let end = find_ignoring_case(rest, &format!("</{}", tag.name)).unwrap_or(rest.len());
                rest = rest[end..].split_once('>').map_or("", |(_, r)| r);
            } else {
                dropped = Some((tag.name, 1));
            }
            continue;
        }
        if tag.name == "pre" {
            out.pre = if tag.closing { out.pre.saturating_sub(1) } else { out.pre + 1 };
        }
        if BLOCKS.contains(&tag.name.as_str()) {
            out.end_line();
        } else if matches!(tag.name.as_str(), "td" | "th") {
            out.space = true;
        }
    }
    if dropped.is_none() {
        out.push(rest);
    }
    out.end_line();
    out.out
}

struct Tag {
    name: String,
    closing: bool,
    /// `<br>` or `<x/>`.
    empty: bool,
    attributes: String,
}

impl Tag {
    /// Reads the tag, comment or declaration that `text` (which starts with `<`) begins with, and what follows.
    fn read(text: &str) -> Option<(Tag, &str)> {
        if let Some(comment) = text.strip_prefix("<!--") {
            let rest = comment.split_once("-->").map_or("", |(_, r)| r);
            return Some((Tag { name: String::new(), closing: false, empty: true, attributes: String::new() }, rest));
        }
        let inner = &text[1..];
        let first = inner.chars().next()?;
        if !(first.is_ascii_alphabetic() || matches!(first, '/' | '!' | '?')) {
            return None;
        }
        // A `>` inside a quoted attribute does not end the tag.
        let mut quote = None;
        let end = inner.char_indices().find_map(|(i, c)| match (quote, c) {
            (None, '>') => Some(i),
            (None, '"' | '\'') if inner[..i].ends_with('=') => {
                quote = Some(c);
                None
            }
            (Some(q), c) if c == q => {
                quote = None;
                None
            }
            _ => None,
        });
        let end = end.or_else(|| inner.find('>'))?;
        let (body, rest) = (&inner[..end], &inner[end + 1..]);
        let closing = body.starts_with('/');
        let name_and = body.trim_start_matches('/');
        let split = name_and.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(name_and.len());
        let name = name_and[..split].to_ascii_lowercase();
        let empty = body.ends_with('/') || VOID.contains(&name.as_str());
        Some((Tag { name, closing, empty, attributes: name_and[split..].to_string() }, rest))
    }

    fn begins_dropped(&self) -> bool {
        if self.closing || self.empty {
            return false;
        }
        DROPPED.contains(&self.name.as_str())
            || (self.name == "div" && self.classes().any(|class| NAVIGATION.contains(&class)))
            || (self.name == "a" && self.classes().any(|class| class == "headerlink"))
    }

    fn classes(&self) -> impl Iterator<Item = &str> {
        let value = self.attributes.split_once("class=").map_or("", |(_, v)| v);
        let value = match value.chars().next() {
            Some(q @ ('"' | '\'')) => value[1..].split(q).next().unwrap_or(""),
            _ => value.split_ascii_whitespace().next().unwrap_or(""),
        };
        value.split_ascii_whitespace()
    }
}

fn find_ignoring_case(text: &str, lower: &str) -> Option<usize> {
    let lower = lower.as_bytes();
    text.as_bytes().windows(lower.len()).position(|w| w.eq_ignore_ascii_case(lower))
}

/// Text being put together.
struct Text {
    out: String,
    /// White space was met since the last character.
    space: bool,
    /// Open `pre` elements.
    pre: usize,
}

impl Text {
    fn push(&mut self, raw: &str) {
        let mut rest = raw;
        while let Some(at) = rest.find('&') {
            self.push_characters(&rest[..at]);
            rest = &rest[at..];
            match reference(rest) {
                Some((c, after)) => {
                    self.push_characters(c.encode_utf8(&mut [0; 4]));
                    rest = after;
                }
                None => {
                    self.push_characters("&");
                    rest = &rest[1..];
                }
            }
        }
        self.push_characters(rest);
    }

    fn push_characters(&mut self, text: &str) {
        if self.pre > 0 {
            self.out.push_str(text);
            return;
        }
        for c in text.chars() {
            if c.is_whitespace() {
                self.space = true;
                continue;
            }
            if std::mem::take(&mut self.space) && !self.out.is_empty() && !self.out.ends_with('\n') {
                self.out.push(' ');
            }
            self.out.push(c);
        }
    }

    fn end_line(&mut self) {
        self.space = false;
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }
}

/// The character that the reference at the start of `text` stands for, and what follows it.
fn reference(text: &str) -> Option<(char, &str)> {
    let end = text.char_indices().take(12).find(|(_, c)| *c == ';')?.0;
    let (name, rest) = (&text[1..end], &text[end + 1..]);
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return Some((char::from_u32(code)?, rest));
    }
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "copy" => '©',
        "reg" => '®',
        "trade" => '™',
        "mdash" => '—',
        "ndash" => '–',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "hellip" => '…',
        "bull" => '•',
        "middot" => '·',
        "times" => '×',
        "rarr" => '→',
        "larr" => '←',
        "le" => '≤',
        "ge" => '≥',
        "ne" => '≠',
        "para" => '¶',
        "sect" => '§',
        "eacute" => 'é',
        "uuml" => 'ü',
        "ouml" => 'ö',
        "auml" => 'ä',
        "szlig" => 'ß',
        _ => return None,
    };
    Some((c, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_a_reader_sees() {
        let page = "<!DOCTYPE html><html><head><title>T</title><style>p{a:b}</style></head><body>\n\
            <div class=\"navheader\"><div>Prev</div> Next</div><script>if (a < b && c > d) { '</p>' }</script>\n\
            <h1>One\n  two<a class=\"headerlink\" href=\"#x\">¶</a></h1><p>a&nbsp;&lt;b&gt; &#233;&#x2014;&unknown; R&D<br/>next \
            <a title=\"x > y\" href='z'>link</a>!</p><pre>  keep\n\n   this</pre><ul><li>i<li>j</ul><!-- <p>no</p> --> 1 < 2 \
            <svg><g><path d=\"M1\"/></g>no</svg></body></html>";
        let expected = "One two\na <b> é—&unknown; R&D\nnext link!\n  keep\n\n   this\ni\nj\n1 < 2\n";
        assert_eq!(text_of(page), expected);
    }

    proptest::proptest! {
        #[test]
        fn never_fails_and_never_grows_much(page in "(<|>|/|&|;|#|\"|'|=|!|-|[a-z é\n]|script|class=|div|<pre>|</pre>|&#x|\\PC){0,60}") {
            let text = text_of(&page);
            proptest::prop_assert!(text.len() <= page.len() + 1);
            proptest::prop_assert_eq!(&text, &text_of(&page));
        }

        /// Text without markup loses nothing but its layout.
        #[test]
        fn plain_words_survive(words in proptest::collection::vec("[a-zé0-9.,]{1,8}", 1..20)) {
            let text = text_of(&format!("<p>{}</p>", words.join("\n ")));
            proptest::prop_assert_eq!(text, format!("{}\n", words.join(" ")));
        }
    }
}
