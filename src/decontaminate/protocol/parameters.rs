//! The parameters of every protocol, with their published values as defaults.

use serde::{Deserialize, Serialize};

use super::Priorart;
use crate::error::{Error, Result};

/// Parameters of all protocols. `set("gpt3.n=10")` overrides one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    pub gpt3: Gpt3,
    pub gpt4: Gpt4,
    pub palm: Palm,
    pub llama2: Llama2,
    pub llama3: Llama3,
    pub tulu3: Tulu3,
    pub datatrove: Datatrove,
    pub dolma: Dolma,
    pub decon: Decon,
    pub mathpile: Mathpile,
    pub contam: Contam,
    pub priorart: Priorart,
    pub semantic: Paraphrase,
    pub code: Rewrite,
}

impl Parameters {
    /// Overrides one parameter: `PROTOCOL.PARAMETER=VALUE`, the value as in JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown protocol or parameter, or a value of another type; the hint lists what there is.
    ///
    /// ```
    /// let mut parameters = priorart::decontaminate::Parameters::default();
    /// parameters.set("gpt3.n=10")?;
    /// assert_eq!(parameters.gpt3.n, 10);
    /// assert!(parameters.set("gpt3.m=10").is_err());
    /// # Ok::<(), priorart::Error>(())
    /// ```
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let usage =
            || Error::invalid_hint(format!("`{assignment}` is not PROTOCOL.PARAMETER=VALUE"), "for example gpt3.n=13");
        let (name, value) = assignment.split_once('=').ok_or_else(usage)?;
        let (protocol, parameter) = name.trim().split_once('.').ok_or_else(usage)?;
        let internal = |e: serde_json::Error| Error::invalid(format!("`{assignment}`: {e}"));
        let mut all = serde_json::to_value(&*self).map_err(internal)?;
        let keys = |value: &serde_json::Value| {
            value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default()
        };
        let protocols = keys(&all);
        let Some(parameters) = all.get_mut(protocol) else {
            return Err(Error::invalid_hint(
                format!("unknown protocol `{protocol}` in `{assignment}`"),
                format!("protocols are {protocols}"),
            ));
        };
        let known = keys(parameters);
        let Some(slot) = parameters.get_mut(parameter) else {
            return Err(Error::invalid_hint(
                format!("`{protocol}` has no parameter `{parameter}`"),
                format!("its parameters are {known}"),
            ));
        };
        *slot = serde_json::from_str(value.trim())
            .map_err(|_| Error::invalid(format!("`{value}` is not a number, `true` or `false`")))?;
        *self = serde_json::from_value(all).map_err(|e| Error::invalid(format!("`{assignment}` cannot be: {e}")))?;
        Ok(())
    }
}

/// Parameters with their defaults, in one place.
macro_rules! parameters {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $value:expr,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $value,)* }
            }
        }
    };
}

parameters! {
    /// GPT-3 (Brown et al. 2020, appendix C): any shared 13-gram of lower-cased words without punctuation; the document is
    /// cut around it. As in lm-evaluation-harness' `janitor`, with the item's question and answer registered as one text.
    Gpt3 {
        /// Words per n-gram.
        n: usize = 13,
        /// Characters cut on either side of a hit.
        window: usize = 200,
        /// Pieces shorter than this are dropped.
        least_piece: usize = 200,
        /// More cuts than this drop the document.
        most_cuts: usize = 10,
        /// With corpus frequencies: n-grams with more matches are ignored. 0 = none is.
        most_matches: u64 = 10,
    }
}

parameters! {
    /// GPT-4 (OpenAI 2023, appendix C): any of three random 50-character substrings of the item, letters and digits only;
    /// the whole item when it is shorter.
    Gpt4 {
        characters: usize = 50,
        substrings: u32 = 3,
        /// Items with fewer letters and digits than this are never found.
        least_characters: usize = 16,
        /// Seed of the sampling; an item's substrings depend on it and on the item's text alone.
        seed: u64 = 0,
    }
}

parameters! {
    /// PaLM (Chowdhery et al. 2022), from memory of the paper: at least 70 % of the question's 8-grams occur in the
    /// document. Words are ours.
    Palm {
        n: usize = 8,
        threshold: f32 = 0.7,
    }
}

parameters! {
    /// Llama 2 (Touvron et al. 2023), from memory of the paper: a token is contaminated when it lies in a match of at
    /// least 10 tokens with at most 4 mismatches, none of them among its first 10 or at its end; an item is clean below
    /// 20 % contaminated tokens, dirty from 80 %. Tokens are our words.
    Llama2 {
        n: usize = 10,
        mismatches: usize = 4,
        /// Tokens without a mismatch that a match begins with; 0 allows mismatches anywhere.
        exact_start: usize = 10,
        clean: f32 = 0.2,
        dirty: f32 = 0.8,
    }
}

parameters! {
    /// Llama 3 (2024), from memory of the paper: share of the item's tokens covered by shared 8-grams, against a threshold
    /// chosen per benchmark. Tokens are our words; the threshold is one number here.
    Llama3 {
        n: usize = 8,
        threshold: f32 = 0.5,
    }
}

parameters! {
    /// Tülu 3 (Lambert et al. 2024): share of the question's tokens covered by shared 8-grams above one half.
    Tulu3 {
        n: usize = 8,
        threshold: f32 = 0.5,
    }
}

parameters! {
    /// datatrove's n-gram decontamination: any 12-gram of the answer, or across the end of the question and the start of
    /// the answer; on request also of the question. Words are what white space separates after its normalisation
    /// (lower case, numbers folded to 0, punctuation to spaces, no diacritics).
    Datatrove {
        n: usize = 12,
        answer: bool = true,
        overlap: bool = true,
        question: bool = false,
    }
}

parameters! {
    /// dolma's paragraph deduplication used for decontamination: a paragraph (text between newlines) of at least 13 words
    /// equal to one of the item's; or at least half of a paragraph's 13-grams are the item's.
    Dolma {
        words: usize = 13,
        /// Words per n-gram of the second rule; 0 turns it off.
        n: usize = 13,
        share: f32 = 0.5,
    }
}

parameters! {
    /// decon: cl100k tokens; the share of the question's unique 5-grams, weighted by inverse document frequency, found
    /// from sampled hits outwards; answer and passage near it; combined by weights.
    Decon {
        n: usize = 5,
        answer_n: usize = 3,
        passage_n: usize = 4,
        /// Every this many tokens one n-gram is looked up.
        sample: usize = 10,
        /// Consecutive misses that end the way outwards from a hit.
        misses: usize = 11,
        threshold: f32 = 0.8,
        /// Up to this many tokens the match must be perfect; the threshold falls to its value at `perfect_end`.
        perfect_start: usize = 20,
        perfect_end: usize = 50,
        /// Answers of at most this many tokens must be found whole within `short_window` tokens of the question.
        short_answer: usize = 3,
        short_window: usize = 50,
        /// Longer answers are looked for in this many tokens, or twice their length.
        long_window: usize = 100,
        passage_distance: usize = 100,
        /// Items below these counts are left out.
        least_tokens: usize = 20,
        least_unique_words: usize = 4,
    }
}

parameters! {
    /// MathPile (Wang et al. 2023), from memory of the paper: an exact line match after normalisation.
    Mathpile {
        /// Shorter lines say nothing.
        least_words: usize = 8,
    }
}

parameters! {
    /// ConTAM (Singh et al. 2024): longest contiguous match, as a share of the item's tokens. Tokens are our words.
    Contam {
        threshold: f32 = 0.5,
        /// Shorter matches count as none.
        least_words: usize = 8,
    }
}

parameters! {
    /// The semantic column: confidence that a stretch of prose is an item in other words (see `semantic/rule.rs`).
    Paraphrase {
        suspect: f32 = 0.5,
        dirty: f32 = 0.8,
    }
}

parameters! {
    /// The code column: confidence that a program is an item's, renamed, rewritten or in another language. Few programs are labelled, so
    /// its rule is surer than it should be: of 5,488 books and pages of documentation against GSM8K, HumanEval and MMLU, it gives 23 a
    /// confidence of 0.8 or more; the four of 0.98 or more set an item's very task (Fibonacci numbers, a filter by substring).
    Rewrite {
        suspect: f32 = 0.5,
        dirty: f32 = 0.98,
    }
}
