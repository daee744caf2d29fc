//! The code column's structural half: solutions found again under other names, by shingles of normalised tokens.
//!
//! Every answer that is a program is a set of shingles ([`SHINGLE`] consecutive tokens of `lexer.rs`), weighted by how rare they are
//! among the programs of the reference. A document is lexed once; a program's evidence is the stretch of about its own length
//! that holds most of that weight. Renaming, reformatting and commenting change nothing, edits cost the shingles they touch.
//! A translation into another language keeps little of a short program's structure (for it, see `measure.rs`).

use std::collections::HashMap;
use std::ops::Range;

use super::lexer::{Token, tokens};
use crate::reference::words::mix;
use crate::reference::{ComponentKind, ReferenceIndex};

/// Tokens of a shingle.
const SHINGLE: usize = 5;
/// Programs with fewer distinct shingles are not judged: they occur by chance.
const LEAST: usize = 10;
/// Shingles that this share of the programs have, or more, are idioms and not looked up.
const IDIOM: f64 = 0.1;

/// Programs of the reference.
#[derive(Debug, Default)]
pub struct Programs {
    table: HashMap<u64, Vec<u32>>,
    weights: HashMap<u64, f32>,
    programs: Vec<Program>,
}

#[derive(Debug)]
struct Program {
    item: u32,
    tokens: usize,
    weight: f32,
}

/// A stretch of a document that has a program's structure.
#[derive(Debug, Clone, PartialEq)]
pub struct Structure {
    pub item: u32,
    /// Share of the weight of the program's shingles.
    pub share: f32,
    /// Distinct shingles found.
    pub matched: u32,
    /// Bytes of the document.
    pub place: Range<usize>,
}

/// Buffers of one reading.
#[derive(Debug, Default)]
pub struct CodeScratch {
    tokens: Vec<Token>,
    /// Program, position in the document, shingle.
    hits: Vec<(u32, u32, u64)>,
}

/// Whether a text reads as a program rather than as prose.
pub fn is_program(text: &str) -> bool {
    const STARTS: [&str; 18] = [
        "def ",
        "class ",
        "return",
        "import ",
        "from ",
        "for ",
        "while ",
        "if ",
        "elif ",
        "else",
        "function ",
        "let ",
        "const ",
        "var ",
        "int ",
        "#include",
        "print",
        "}",
    ];
    let mut lines = 0;
    let mut code = 0;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        lines += 1;
        let starts = STARTS.iter().any(|s| line.starts_with(s));
        let ends = line.ends_with([':', ';', '{', '}', ')', ']']) || line.contains(" = ") || line.starts_with("return");
        code += usize::from(starts && ends) + usize::from(!starts && ends && line.contains(['(', '=', '[']));
    }
    code >= 1 && code * 4 >= lines && (code >= 2 || lines <= 3) || text.contains("\ndef ") || text.starts_with("def ")
}

fn shingles(tokens: &[Token]) -> impl Iterator<Item = u64> + '_ {
    tokens.windows(SHINGLE).map(|w| w.iter().fold(0u64, |h, t| mix(h ^ u64::from(t.key)).rotate_left(7)))
}

impl Programs {
    /// Reads the answers that are programs.
    pub fn build(index: &ReferenceIndex) -> Programs {
        let mut out = Programs::default();
        let mut found = Vec::new();
        let mut sets: Vec<(u32, usize, Vec<u64>)> = Vec::new();
        let mut df: HashMap<u64, u32> = HashMap::new();
        for item in 0..index.len() as u32 {
            let Some(answer) = index.components(item).find(|c| c.kind == ComponentKind::Answer) else { continue };
            if !is_program(answer.text) {
                continue;
            }
            tokens(answer.text, &mut found);
            let mut set: Vec<u64> = shingles(&found).collect();
            set.sort_unstable();
            set.dedup();
            if set.len() < LEAST {
                continue;
            }
            set.iter().for_each(|s| *df.entry(*s).or_insert(0) += 1);
            sets.push((item, found.len(), set));
        }
        let n = sets.len() as f64;
        let most = (n * IDIOM).max(3.0) as u32;
        for (item, length, set) in sets {
            let number = out.programs.len() as u32;
            let mut weight = 0.0;
            for shingle in set {
                let rarity = ((n + 1.0) / (f64::from(df[&shingle]) + 0.5)).ln().max(0.1) as f32;
                weight += rarity;
                out.weights.insert(shingle, rarity);
                if df[&shingle] <= most {
                    out.table.entry(shingle).or_default().push(number);
                }
            }
            out.programs.push(Program { item, tokens: length, weight });
        }
        out
    }

    /// Whether there is no program to look for.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Programs of which at least `least` of the weight is in a stretch of `text`, the best stretch each, by item.
    pub fn scan(&self, text: &str, least: f32, scratch: &mut CodeScratch) -> Vec<Structure> {
        if self.programs.is_empty() {
            return Vec::new();
        }
        tokens(text, &mut scratch.tokens);
        scratch.hits.clear();
        for (at, shingle) in shingles(&scratch.tokens).enumerate() {
            for &program in self.table.get(&shingle).into_iter().flatten() {
                scratch.hits.push((program, at as u32, shingle));
            }
        }
        scratch.hits.sort_unstable();
        let mut out = Vec::new();
        for hits in scratch.hits.chunk_by(|a, b| a.0 == b.0) {
            let program = &self.programs[hits[0].0 as usize];
            let most: f32 = hits.iter().map(|h| self.weights[&h.2]).sum();
            if most < least * program.weight {
                continue;
            }
            let length = (program.tokens + program.tokens / 2 + SHINGLE) as u32;
            let mut count: HashMap<u64, u32> = HashMap::new();
            let (mut sum, mut first) = (0.0f32, 0);
            let mut best = (0.0f32, 0, 0, 0);
            for (at, hit) in hits.iter().enumerate() {
                let n = count.entry(hit.2).or_insert(0);
                *n += 1;
                if *n == 1 {
                    sum += self.weights[&hit.2];
                }
                while hits[first].1 + length < hit.1 {
                    let left = hits[first].2;
                    if let Some(n) = count.get_mut(&left) {
                        *n -= 1;
                        if *n == 0 {
                            sum -= self.weights[&left];
                        }
                    }
                    first += 1;
                }
                if sum > best.0 + 1e-4 {
                    best = (sum, first, at, count.values().filter(|n| **n > 0).count());
                }
            }
            let share = best.0 / program.weight;
            if share < least {
                continue;
            }
            let start = scratch.tokens[hits[best.1].1 as usize].start as usize;
            let end = scratch.tokens[hits[best.2].1 as usize + SHINGLE - 1].end as usize;
            out.push(Structure { item: program.item, share, matched: best.3 as u32, place: start..end });
        }
        out.sort_by_key(|s| s.item);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{EvalItem, Origin, ReferenceSet};

    const SOLUTION: &str = "    best = 0\n    for i, x in enumerate(values):\n        for j, y in enumerate(values):\n            \
        if i != j and abs(x - y) < limit:\n                best = max(best, x + y)\n    return best\n";
    const OTHER: &str = "    out = []\n    for word in text.split():\n        if len(word) % 2 == 0:\n            \
        out.append(word[::-1].upper())\n    return ' '.join(sorted(out))\n";

    fn programs() -> Programs {
        let item = |answer: &str, id: &str| EvalItem {
            origins: vec![Origin { id: id.into(), ..Origin::default() }],
            question: Some(format!("def f{id}(values, limit):\n    ...")),
            answer: Some(answer.into()),
            ..EvalItem::default()
        };
        let set = ReferenceSet { items: vec![item(SOLUTION, "0"), item(OTHER, "1")], rows: 2 };
        Programs::build(&ReferenceIndex::build(&set).unwrap())
    }

    #[test]
    fn a_renamed_solution_is_found_whole_and_where_it_is() {
        let renamed = SOLUTION.replace("best", "result").replace("values", "data").replace("limit", "eps");
        let text = format!("Some prose.\n\ndef g(data, eps):\n{renamed}\n\nmore prose");
        let found = programs().scan(&text, 0.3, &mut CodeScratch::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].item, 0);
        assert!(found[0].share > 0.95, "{found:?}");
        let inside = &text[found[0].place.clone()];
        assert!(inside.starts_with("result = 0") && inside.ends_with("return result"), "{inside}");
    }

    #[test]
    fn another_program_and_prose_are_not() {
        let programs = programs();
        let mut scratch = CodeScratch::default();
        let other = "def h(a):\n    total = 0\n    for v in a:\n        total += v\n    return total / len(a)\n";
        assert!(programs.scan(other, 0.3, &mut scratch).is_empty());
        assert!(programs.scan("It is what it is; for all we know, if not more.", 0.3, &mut scratch).is_empty());
        assert!(!is_program("A farmer has twelve sheep.\nHow many are left?"));
        assert!(is_program(SOLUTION) && is_program("    return sorted(x)[0]"));
    }
}
