//! Every published protocol against examples worked by hand: just under and just over each threshold.
//!
//! Words are made up (`qaa`, `qab`, …), so that counts of words, n-grams and characters can be read off the test.

use std::sync::Arc;

use super::{Gpt3, Level, Parameters, Protocol, Verdict};
use crate::decontaminate::{Detector, Occurrences, Settings};
use crate::reference::{EvalItem, ReferenceIndex, ReferenceSet};

/// Made-up words by number: three letters each, none twice.
fn words(range: std::ops::Range<usize>) -> Vec<String> {
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    range.map(|i| format!("q{}{}", letter(i / 26), letter(i))).collect()
}

fn text(range: std::ops::Range<usize>) -> String {
    words(range).join(" ")
}

fn question(text: String) -> EvalItem {
    EvalItem { origins: vec![Default::default()], question: Some(text), ..EvalItem::default() }
}

fn both(question: String, answer: String) -> EvalItem {
    EvalItem { answer: Some(answer), ..self::question(question) }
}

/// Judges `document` against one item. The matching text stands on a line of its own between strange words.
fn judge_line(protocol: Protocol, item: &EvalItem, line: &str, set: &[&str], frequency: Option<u64>) -> Verdict {
    // Another item, so that nothing is in all of them.
    let items = vec![item.clone(), question(text(400..430))];
    let index = ReferenceIndex::build(&ReferenceSet { items, rows: 2 }).unwrap();
    let mut parameters = Parameters::default();
    set.iter().for_each(|s| parameters.set(s).unwrap());
    let settings = Settings { protocols: vec![protocol], parameters, keep_clean: true };
    let mut detector = Detector::new(Arc::new(index), settings).unwrap();
    if let Some(n) = frequency {
        detector = detector.with_frequency(Box::new(move |_, _| Occurrences { count: n, documents: n }));
    }
    let document = format!("zza zzb zzc zzd\n{line}\nzze zzf zzg zzh");
    let found = detector.text(&document).unwrap();
    found.iter().find(|f| f.item == 0).map_or_else(|| Verdict::clean(0.0), |f| f.verdict(protocol).unwrap().clone())
}

fn judge(protocol: Protocol, item: &EvalItem, line: &str, set: &[&str]) -> Verdict {
    judge_line(protocol, item, line, set, None)
}

/// The level under the default parameters.
fn level(protocol: Protocol, item: &EvalItem, line: &str) -> Level {
    judge(protocol, item, line, &[]).level
}

use Level::{Clean, Dirty, Suspect};

#[test]
fn gpt3_is_thirteen_words_in_a_row() {
    let item = both(text(0..20), text(20..25));
    let p = Protocol::Gpt3;
    assert_eq!(level(p, &item, &text(0..13)), Dirty);
    assert_eq!(level(p, &item, &text(0..12)), Clean);
    assert_eq!(level(p, &item, &text(14..25)), Clean, "eleven words across question and answer");
    assert_eq!(level(p, &item, &text(12..25)), Dirty, "thirteen words across question and answer");
    assert_eq!(judge(p, &item, &text(3..13), &["gpt3.n=10"]).level, Dirty);
    assert_eq!(judge(p, &item, &text(3..12), &["gpt3.n=10"]).level, Clean);
    // Case does not matter, nor punctuation; a hyphen joins two words, and then thirteen have become twelve.
    let shouted = words(0..13).join(", ").to_uppercase();
    assert_eq!(level(p, &item, &shouted), Dirty);
    assert_eq!(level(p, &item, &text(0..13).replacen(' ', "-", 1)), Clean);
    assert_eq!(level(p, &item, &text(0..14).replacen(' ', "-", 1)), Clean, "the first two of fourteen are one word");
    assert_eq!(level(p, &item, &text(0..15).replacen(' ', "-", 1)), Dirty, "words 2 to 14 are thirteen");
}

#[test]
fn gpt3_ignores_what_matches_everywhere() {
    let (item, p) = (question(text(0..20)), Protocol::Gpt3);
    let line = text(0..20);
    assert_eq!(judge_line(p, &item, &line, &[], Some(10)).level, Dirty);
    assert_eq!(judge_line(p, &item, &line, &[], Some(11)).level, Clean);
    assert_eq!(judge_line(p, &item, &line, &["gpt3.most_matches=0"], Some(1 << 40)).level, Dirty, "0 ignores none");
}

#[test]
fn gpt3_cuts_two_hundred_characters_on_either_side() {
    let rule = Gpt3::default();
    assert_eq!(rule.cut(1000, &[]), Some(Vec::from_iter(std::iter::once(0..1000))), "nothing to cut");
    // Characters 500 to 559: 300 to 758 (the janitor's last character is included) go.
    assert_eq!(rule.cut(1000, std::slice::from_ref(&(500..560))), Some(vec![0..300, 760..1000]));
    // The piece before has 200 characters, too few; with 201 it stays.
    assert_eq!(rule.cut(700, std::slice::from_ref(&(400..460))), Some(vec![]));
    assert_eq!(rule.cut(700, std::slice::from_ref(&(401..460))), Some(Vec::from_iter(std::iter::once(0..201))));
    // Ten cuts leave pieces, eleven nothing.
    let hits: Vec<_> = (0..11).map(|i| i * 1000 + 500..i * 1000 + 560).collect();
    assert_eq!(rule.cut(20_000, &hits[..10]).map(|p| p.len()), Some(11));
    assert_eq!(rule.cut(20_000, &hits), None);
    let wider = Gpt3 { window: 10, least_piece: 50, ..rule };
    assert_eq!(wider.cut(700, std::slice::from_ref(&(400..460))), Some(vec![0..390, 470..700]));
}

#[test]
fn gpt4_samples_fifty_letters_and_digits() {
    let p = Protocol::Gpt4;
    // 13 words of three letters and one digit at the end: 40 characters, so the whole item is the substring.
    let short = question(format!("{} 7", text(0..13)));
    assert_eq!(level(p, &short, &format!("{}-7", text(0..13).replace(' ', ", "))), Dirty);
    assert_eq!(level(p, &short, &text(0..13)), Clean, "39 of 40 characters");
    assert_eq!(level(p, &short, &format!("{} 7", text(0..13)).to_uppercase()), Clean, "case counts");
    // 51 characters: a substring begins at the first or the second.
    let item = question(text(0..17));
    assert_eq!(level(p, &item, &text(0..17)), Dirty);
    assert_eq!(level(p, &item, &text(0..17)[1..66]), Clean, "49 characters, none of the first and last");
    assert_eq!(judge(p, &item, &text(1..16), &["gpt4.characters=40"]).level, Dirty, "45 of 51 hold most 40s");
    // 15 characters are below the least; 16 are not.
    assert_eq!(level(p, &question(text(0..5)), &text(0..5)), Clean);
    assert_eq!(level(p, &question(format!("{}x", text(0..5))), &format!("{}x", text(0..5))), Dirty);
}

#[test]
fn gpt4_finds_half_an_item_as_often_as_its_samples_fall_into_it() {
    // 201 characters, the first 102 leaked: a substring of 50 begins at 0 to 151 and lies in the leak up to 52. One of
    // three does with probability 1 - (99/152)^3 = .724: 145 of 200 seeds, give or take four deviations of 6.3.
    let (item, leak) = (question(text(0..67)), text(0..34));
    let found = |seed: u32| judge(Protocol::Gpt4, &item, &leak, &[&format!("gpt4.seed={seed}")]).level == Dirty;
    let hits = (0..200).filter(|&seed| found(seed)).count();
    assert!((120..=170).contains(&hits), "{hits} of 200");
    assert_eq!(found(7), found(7));
}

#[test]
fn palm_is_seventy_per_cent_of_the_eight_grams() {
    let (item, p) = (question(text(0..17)), Protocol::Palm);
    // 17 words hold ten 8-grams; 14 of the words seven, 13 six.
    let verdict = judge(p, &item, &text(0..14), &[]);
    assert_eq!((verdict.level, verdict.score), (Dirty, 0.7));
    let verdict = judge(p, &item, &text(0..13), &[]);
    assert_eq!((verdict.level, verdict.score), (Clean, 0.6));
    assert_eq!(judge(p, &item, &text(0..13), &["palm.threshold=0.6"]).level, Dirty);
    // With 9-grams there are nine of them; 14 words hold six, and 6/9 is below .7.
    assert_eq!(judge(p, &item, &text(0..14), &["palm.n=9"]).level, Clean);
    // Two stretches of eight words are two of ten 8-grams, though 16 of 17 words are there.
    assert_eq!(judge(p, &item, &format!("{} zzz {}", text(0..8), text(9..17)), &[]).score, 0.2);
}

#[test]
fn llama2_counts_tokens_of_matches_with_few_mismatches() {
    let (item, p) = (question(text(0..20)), Protocol::Llama2);
    let scored = |line: &str| {
        let verdict = judge(p, &item, line, &[]);
        (verdict.level, (verdict.score * 20.0).round() as u32)
    };
    assert_eq!(scored(&text(0..16)), (Dirty, 16), "80 %");
    assert_eq!(scored(&text(0..15)), (Suspect, 15));
    assert_eq!(scored(&text(0..10)), (Suspect, 10));
    assert_eq!(scored(&text(0..9)), (Clean, 0), "nine tokens are no match");
    let with = |wrong: &[usize]| {
        let mut words = words(0..20);
        wrong.iter().for_each(|&i| words[i] = format!("zz{}", i));
        words.join(" ")
    };
    // A match begins with ten equal tokens and may then miss four; a fifth ends it before it.
    assert_eq!(scored(&with(&[10, 12, 14, 16])), (Dirty, 16));
    assert_eq!(scored(&with(&[10, 12, 14, 16, 18])), (Suspect, 14));
    assert_eq!(scored(&with(&[3])), (Dirty, 16), "tokens 4 to 19 are a match; the three before it are not");
    assert_eq!(scored(&with(&[9])), (Suspect, 10), "only tokens 10 to 19 begin with ten equal ones");
    assert_eq!(scored(&with(&[9, 12])), (Clean, 0));
    let loose = judge(p, &item, &with(&[9, 12]), &["llama2.exact_start=0"]);
    assert_eq!((loose.level, (loose.score * 20.0).round()), (Dirty, 18.0), "mismatches anywhere");
    assert_eq!(judge(p, &item, &with(&[10, 12]), &["llama2.mismatches=1"]).score, 0.55, "tokens 0 to 9 and 11");
    let fifth = question(text(0..50));
    assert_eq!(level(p, &fifth, &text(0..10)), Suspect, "20 % is no longer clean");
    assert_eq!(level(p, &question(text(0..51)), &text(0..10)), Clean);
}

#[test]
fn llama3_and_tulu3_differ_at_one_half() {
    let item = question(text(0..20));
    let (llama3, tulu3) = (Protocol::Llama3, Protocol::Tulu3);
    assert_eq!(level(llama3, &item, &text(0..10)), Dirty);
    assert_eq!(level(llama3, &item, &text(0..9)), Clean);
    assert_eq!(level(tulu3, &item, &text(0..10)), Clean, "one half is not more than one half");
    assert_eq!(level(tulu3, &item, &text(0..11)), Dirty);
    // Covered tokens of separate 8-grams add up; seven in a row cover none.
    let two = format!("{} zzz {}", text(0..8), text(12..20));
    assert_eq!(judge(tulu3, &item, &two, &[]).score, 0.8);
    let short = format!("{} zzz {} zzz {}", text(0..7), text(7..14), text(14..20));
    assert_eq!(judge(tulu3, &item, &short, &[]).score, 0.0);
    assert_eq!(judge(llama3, &item, &text(0..9), &["llama3.threshold=0.45"]).level, Dirty);
    assert_eq!(judge(llama3, &item, &text(0..10), &["llama3.n=11"]).level, Clean);
    assert_eq!(judge(tulu3, &item, &two, &["tulu3.threshold=0.8"]).level, Clean);
    assert_eq!(judge(tulu3, &item, &two, &["tulu3.n=9"]).level, Clean);
}

#[test]
fn datatrove_is_twelve_words_of_the_answer_or_across_it() {
    let (item, p) = (both(text(0..20), text(20..40)), Protocol::Datatrove);
    assert_eq!(judge(p, &item, &text(20..32), &[]).rule, "answer");
    assert_eq!(level(p, &item, &text(20..31)), Clean);
    assert_eq!(judge(p, &item, &text(9..21), &[]).rule, "overlap", "eleven words of the question, one of the answer");
    assert_eq!(judge(p, &item, &text(19..31), &[]).rule, "overlap", "one of the question, eleven of the answer");
    assert_eq!(level(p, &item, &text(10..21)), Clean);
    assert_eq!(level(p, &item, &text(0..20)), Clean, "the question alone says nothing by default");
    assert_eq!(judge(p, &item, &text(0..20), &["datatrove.question=true"]).rule, "question");
    assert_eq!(judge(p, &item, &text(0..11), &["datatrove.question=true"]).level, Clean);
    assert_eq!(judge(p, &item, &text(9..21), &["datatrove.overlap=false"]).level, Clean);
    assert_eq!(judge(p, &item, &text(20..30), &["datatrove.n=10"]).rule, "answer");
    assert_eq!(judge(p, &item, &text(20..32), &["datatrove.answer=false"]).level, Clean);
}

#[test]
fn datatrove_takes_any_numbers_for_equal() {
    let (item, p) = (both(text(0..20), "0 1 2 3 4 5 6 7 8 9 10 11".into()), Protocol::Datatrove);
    assert_eq!(level(p, &item, "17 3.5 2 2 2 2 2 2 2 2 2 1,000"), Dirty, "the published rule's false positive");
    assert_eq!(level(Protocol::Priorart, &item, "17 3.5 2 2 2 2 2 2 2 2 2 1,000"), Clean);
}

#[test]
fn dolma_compares_paragraphs_of_thirteen_words() {
    let p = Protocol::Dolma;
    let item = question(format!("{}\n{}", text(0..13), text(20..32)));
    assert_eq!(judge(p, &item, &text(0..13), &[]).rule, "paragraph");
    let whole = |line: &str| judge(p, &item, line, &["dolma.n=0"]).level;
    assert_eq!(whole(&text(20..32)), Clean, "a paragraph of twelve words");
    assert_eq!(judge(p, &item, &text(20..32), &["dolma.n=0", "dolma.words=12"]).level, Dirty);
    assert_eq!(whole(&format!("{}.", text(0..13))), Clean, "one character more");
    assert_eq!(whole(&format!("  {}", text(0..13))), Dirty, "white space around it does not count");
    // A paragraph of 26 words has fourteen 13-grams; 19 words of the item hold seven, 18 six.
    let item = question(text(0..30));
    let share = |n: usize| judge(p, &item, &format!("{} {}", text(0..n), text(100..126 - n)), &[]);
    assert_eq!((share(19).level, share(19).score, share(19).rule), (Dirty, 0.5, "n-grams"));
    assert_eq!((share(18).level, share(18).score), (Clean, 6.0 / 14.0));
    let line = format!("{} {}", text(0..18), text(100..108));
    assert_eq!(judge(p, &item, &line, &["dolma.share=0.4"]).level, Dirty);
    assert_eq!(judge(p, &item, &line, &["dolma.share=0.4", "dolma.n=0"]).level, Clean);
    assert_eq!(judge(p, &item, &line, &["dolma.n=8"]).level, Dirty, "eleven of nineteen 8-grams");
}

#[test]
fn mathpile_compares_normalised_lines() {
    let p = Protocol::Mathpile;
    let item = question(format!("{}\n{}", text(0..8), text(20..27)));
    assert_eq!(level(p, &item, &words(0..8).join(" - ").to_uppercase()), Dirty);
    assert_eq!(level(p, &item, &text(20..27)), Clean, "a line of seven words");
    assert_eq!(level(p, &item, &format!("{} zzz", text(0..8))), Clean, "more on the line");
    assert_eq!(level(p, &item, &format!("zzz\n{}\nzzz", text(0..8))), Dirty);
    assert_eq!(level(p, &item, &text(0..8).replacen(' ', "\n", 1)), Clean, "broken over two lines");
    assert_eq!(judge(p, &item, &text(0..8), &["mathpile.least_words=9"]).level, Clean);
}

#[test]
fn contam_is_the_longest_match_alone() {
    let (item, p) = (question(text(0..20)), Protocol::Contam);
    assert_eq!(judge(p, &item, &text(0..10), &[]).score, 0.5);
    assert_eq!(level(p, &item, &text(0..10)), Dirty);
    assert_eq!(level(p, &item, &text(0..9)), Clean);
    let halves = format!("{} zzz {}", text(0..9), text(11..20));
    assert_eq!(judge(p, &item, &halves, &[]).score, 0.45, "the union would be .9");
    assert_eq!(judge(p, &item, &halves, &["contam.threshold=0.45"]).level, Dirty);
    assert_eq!(judge(p, &item, &text(0..10), &["contam.least_words=11"]).score, 0.0);
    assert_eq!(level(p, &question(text(0..6)), &text(0..6)), Dirty, "an item shorter than the least match, whole");
}

#[test]
fn decon_hides_a_question_behind_its_weighted_sum() {
    let item = both(
        "the keeper of the northern lighthouse counted forty two lamps along the shore and wrote the sum in a ledger \
         bound in green cloth before the evening fog came in from the open water"
            .into(),
        "eleven barrels of paraffin were carried up the winding stairs on the following morning by the two brothers"
            .into(),
    );
    let (q, a) = (item.question.clone().unwrap(), item.answer.clone().unwrap());
    let p = Protocol::Decon;
    let alone = judge(p, &item, &q, &[]);
    assert_eq!(alone.level, Clean);
    assert!((alone.score - 0.75).abs() < 1e-4, "{alone:?}");
    assert_eq!(judge(p, &item, &q, &["decon.threshold=0.74"]).level, Dirty);
    assert_eq!(level(Protocol::Priorart, &item, &q), Dirty, "no component is hidden");
    let whole = judge(p, &item, &format!("{q} {a}"), &[]);
    assert_eq!(whole.level, Dirty);
    assert!((whole.score - 1.0).abs() < 1e-4, "{whole:?}");
    let unanswered = question(q.clone());
    assert!((judge(p, &unanswered, &q, &[]).score - 1.0).abs() < 1e-4);
    assert_eq!(judge(p, &unanswered, &q, &["decon.least_tokens=200"]).level, Clean, "left out as too short");
}

#[test]
fn every_parameter_can_be_set_and_takes_its_own_type_only() {
    let all = serde_json::to_value(Parameters::default()).unwrap();
    let mut seen = 0;
    for protocol in Protocol::ALL {
        for (name, value) in all[protocol.name()].as_object().unwrap() {
            let mut parameters = Parameters::default();
            let other = match value {
                serde_json::Value::Bool(b) => (!b).to_string(),
                value => (value.as_f64().unwrap() as u32 + 1).to_string(),
            };
            parameters.set(&format!("{}.{name}={other}", protocol.name())).unwrap();
            assert_ne!(parameters, Parameters::default(), "{name}");
            assert!(parameters.set(&format!("{}.{name}=\"x\"", protocol.name())).is_err());
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}
