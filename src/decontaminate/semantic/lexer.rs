//! Program text as tokens that survive renaming and, in part, another language.
//!
//! One hand-made lexer reads Python, C, JavaScript and their like: identifiers are all the same token, keywords of like meaning
//! (`def`, `function`; `for`, `while`; `elif`, `else if`) too, punctuation that only one family needs is dropped, comments and
//! docstrings are skipped, numbers, strings and the names of methods and well-known functions stay. A syntax tree would need a
//! grammar a language and reads 5 to 10 MB a second; this reads prose and broken code as well, at some 100 MB a second.

use crate::reference::words::{hash_folded, mix};

/// A normalised token: equal keys count as the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub key: u32,
    pub start: u32,
    pub end: u32,
}

const NAME: u32 = 1;

/// Functions whose names say what a program does, in several languages.
const KNOWN: &[&str] = &[
    "len",
    "range",
    "sum",
    "sorted",
    "max",
    "min",
    "abs",
    "ord",
    "chr",
    "enumerate",
    "zip",
    "map",
    "filter",
    "any",
    "all",
    "round",
    "set",
    "reversed",
    "isinstance",
    "list",
    "dict",
    "tuple",
    "str",
    "int",
    "float",
    "bool",
    "strlen",
    "malloc",
    "printf",
    "print",
    "floor",
    "ceil",
    "sqrt",
    "pow",
    "bin",
    "hex",
    "divmod",
    "reduce",
];

/// Class of a keyword: the same number for the same role; 0 for words that are dropped.
fn keyword(word: &str) -> Option<u32> {
    Some(match word {
        "def" | "function" | "fn" | "func" => 2,
        "for" | "while" | "foreach" | "loop" => 3,
        "if" => 4,
        "elif" => 5,
        "else" => 6,
        "return" | "yield" => 7,
        "and" => 8,
        "or" => 9,
        "not" => 10,
        "True" | "true" => 11,
        "False" | "false" => 12,
        "None" | "null" | "undefined" | "NULL" | "nullptr" => 13,
        "in" | "of" => 14,
        "break" => 15,
        "continue" => 16,
        "lambda" => 17,
        "class" | "struct" => 18,
        "try" => 19,
        "except" | "catch" => 20,
        "raise" | "throw" => 21,
        "import" | "from" => 22,
        "is" => 23,
        "let" | "var" | "const" | "void" | "char" | "double" | "long" | "short" | "unsigned" | "static" | "mut"
        | "pass" | "public" | "private" | "final" | "auto" | "size_t" | "new" => 0,
        _ => return None,
    })
}

/// Whether a program means the same by this word everywhere: a keyword or a well-known function, not a name of its own.
pub fn is_known(word: &str) -> bool {
    keyword(word).is_some() || KNOWN.contains(&word)
}

/// Reads a text; tokens in order.
pub fn tokens(text: &str, out: &mut Vec<Token>) {
    out.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let b = bytes[at];
        let mut push = |key: u32, end: usize| {
            if key != 0 {
                out.push(Token { key, start: start as u32, end: end as u32 });
            }
        };
        if b.is_ascii_alphabetic() || b == b'_' {
            while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                at += 1;
            }
            let word = &text[start..at];
            let method = start > 0 && bytes[start - 1] == b'.';
            let called = bytes.get(at) == Some(&b'(');
            let key = match keyword(word) {
                Some(key) if !method => key,
                _ if called && (method || KNOWN.contains(&word)) => 64 | hash(word.as_bytes()),
                _ => NAME,
            };
            push(key, at);
        } else if b.is_ascii_digit() {
            while at < bytes.len()
                && (bytes[at].is_ascii_digit()
                    || (bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)))
            {
                at += 1;
            }
            push(64 | hash(&bytes[start..at]), at);
        } else if b == b'"' || b == b'\'' || b == b'`' {
            let triple = b != b'`' && bytes[at..].starts_with(&[b, b, b]);
            at = string_end(bytes, at, triple);
            if !triple && (2..=200).contains(&(at - start)) {
                push(64 | hash(&bytes[start + 1..(at - 1).max(start + 1)]), at);
            }
        } else if b == b'#' || bytes[at..].starts_with(b"//") && !follows_value(bytes, at) {
            at = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n);
        } else if bytes[at..].starts_with(b"/*") {
            at = memchr::memmem::find(&bytes[at..], b"*/").map_or(bytes.len(), |n| at + n + 2);
        } else {
            let (key, length) = operator(&bytes[at..]);
            at += length;
            push(key, at);
        }
    }
}

/// Whether `//` comes after a value on its line, and before another: Python's floor division.
fn follows_value(bytes: &[u8], at: usize) -> bool {
    let before = bytes[..at].iter().rev().find(|b| **b != b' ');
    let after = bytes[at + 2..].iter().find(|b| **b != b' ' && **b != b'=');
    before.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b')' | b']'))
        && after.is_some_and(|b| b.is_ascii_digit() || *b == b'(')
}

fn string_end(bytes: &[u8], start: usize, triple: bool) -> usize {
    let quote = bytes[start];
    if triple {
        let close = [quote; 3];
        return memchr::memmem::find(&bytes[start + 3..], &close).map_or(bytes.len(), |n| start + 3 + n + 3);
    }
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            // An apostrophe of prose, not a string.
            b'\n' if quote != b'`' => return start + 1,
            b if b == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    start + 1
}

/// Key and length of an operator; spellings of the same are one. Brackets, commas, colons and semicolons are dropped.
fn operator(rest: &[u8]) -> (u32, usize) {
    const LONG: [(&[u8], u32); 18] = [
        (b"===", 32),
        (b"!==", 33),
        (b"**", 34),
        (b"==", 32),
        (b"!=", 33),
        (b"<=", 35),
        (b">=", 36),
        (b"&&", 8),
        (b"||", 9),
        (b"++", 37),
        (b"--", 38),
        (b"+=", 37),
        (b"-=", 38),
        (b"*=", 39),
        (b"//", 40),
        (b"->", 0),
        (b"=>", 17),
        (b">>", 41),
    ];
    if let Some((text, key)) = LONG.iter().find(|(text, _)| rest.starts_with(text)) {
        return (*key, text.len());
    }
    let key = match rest[0] {
        b'=' => 42,
        b'<' => 43,
        b'>' => 44,
        b'+' => 45,
        b'-' => 46,
        b'*' => 47,
        b'/' => 40,
        b'%' => 48,
        b'!' => 10,
        b'&' => 49,
        b'|' => 50,
        b'^' => 51,
        b'[' => 52,
        b'?' => 4,
        _ => 0,
    };
    (key, 1)
}

fn hash(bytes: &[u8]) -> u32 {
    match std::str::from_utf8(bytes) {
        Ok(text) => (mix(hash_folded(text)) >> 32) as u32,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<u32> {
        let mut out = Vec::new();
        tokens(text, &mut out);
        out.iter().map(|t| t.key).collect()
    }

    #[test]
    fn names_comments_and_layout_do_not_matter() {
        let a = "def total(xs):\n    \"\"\"Sum.\"\"\"\n    s = 0  # start\n    for x in xs:\n        s += x\n    return s\n";
        let b = "def f(values):\n  acc = 0\n  for v in values: acc += v\n  return acc";
        assert_eq!(keys(a), keys(b));
        assert_ne!(keys(a), keys(&b.replace("0", "1")));
        assert_ne!(keys("x.append(y)"), keys("x.remove(y)"));
    }

    #[test]
    fn keywords_and_operators_of_other_languages_are_the_same() {
        assert_eq!(keys("if (a === b && !c) { return true; }"), keys("if a == b and not c:\n    return True"));
        assert_eq!(keys("while (n > 9) { n = n / 10; }"), keys("while n > 9:\n    n = n // 10"));
    }

    #[test]
    fn prose_is_read_without_harm() {
        assert!(!keys("It's the farmer's field; don't “worry” — naïve 'quotes'").is_empty());
        assert!(keys("\"").is_empty() && keys("'''").is_empty() && keys("/*").is_empty());
    }
}
