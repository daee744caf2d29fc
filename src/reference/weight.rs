//! How much a word says: bits of evidence that a matching word brings.
//!
//! A word is worth more the fewer items of the reference set have it (inverse document frequency), within bounds set by
//! its class: function words and numbers say little wherever they occur, everyday words some, all others the most. The
//! classes keep weights sensible for small reference sets, where document frequency alone cannot tell `the` from
//! `theodolite`. A word inside a template shared by many items is worth less still ([`template_discount`]).

/// English function words, and the connecting words of instructions and program text.
const FUNCTION: &str = "a an the this that these those i me my mine we us our ours you your yours he him his she her hers it its \
they them their theirs who whom whose which what when where why how there here and or but nor so yet if then else than as of in on at \
by for with from to into onto about over under between among through during before after above below up down out off again once \
further is am are was were be been being do does did doing done have has had having can could will would shall should may might must \
not no yes all any both each few more most other some such only own same too very just also s t d ll m re ve don now while until because \
since though although however therefore thus hence per via upon within without against toward towards across along around behind \
beside besides beyond near one ones get gets got let lets every either neither much many";

/// Everyday words of English prose, school problems, documentation and program text.
const EVERYDAY: &str = "two three four five six seven eight nine ten hundred thousand first second third last next new old good great \
little long big small large high low part place case week company system program question government number world life day year years \
days weeks months month hour hours minute minutes time times way ways thing things man men woman women child children people person \
work works worked make makes made take takes took taken give gives gave given go goes went gone come comes came say says said see sees \
saw seen know knows known knew think thinks thought want wants need needs use uses used using find finds found tell tells told ask asks \
asked seem feel try tries leave left call called keep put mean means set run move like live believe hold bring happen write written \
provide sit stand lose pay meet include includes including continue learn change lead understand watch follow following stop create \
speak read allow add added spend grow open walk win offer remember love consider appear buy wait serve send expect build stay fall cut \
reach remain suggest raise pass sell require report decide total cost costs money dollars dollar half twice double equal equals left \
remaining altogether spent buys bought sold each day end start begin side head hand eye face fact group problem point home house water \
room mother father area story night study book word words issue kind job line lines business name names result results value values \
example examples list text file files string strings integer integers int float bool char array arrays element elements index key keys \
type types function functions return returns returned class def self none true false null void print input output print data code \
object objects parameter parameters argument arguments method methods default option options error note section page len range sum \
length count max min append str sorted sort split join lower upper import typing public private static const var elif lambda given \
statement statements correct answer answers false following best describes described term refers refer known most likely main \
different important same right wrong true possible general certain sure whole free full early late young human local political social \
economic national international public black white real major able another still back even well away never always often sometimes \
really almost enough least less greater number numbers amount average percent price rate size level state states city country school \
student students teacher class family friend friends food car cars box boxes age ages";

/// Class of a word, by which its weight is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordClass {
    Function,
    Number,
    Everyday,
    Content,
}

/// Word lists as a set, built once per compilation.
#[derive(Debug)]
pub struct Weights {
    function: std::collections::HashSet<&'static str>,
    everyday: std::collections::HashSet<&'static str>,
    items: f64,
}

impl Weights {
    /// Weights for a reference set of `items` items.
    pub fn new(items: usize) -> Weights {
        Weights {
            function: FUNCTION.split_whitespace().collect(),
            everyday: EVERYDAY.split_whitespace().collect(),
            items: items as f64,
        }
    }

    /// Class of a folded word.
    pub fn class(&self, folded: &str) -> WordClass {
        if folded.bytes().all(|b| b.is_ascii_digit()) {
            WordClass::Number
        } else if folded.len() == 1 || self.function.contains(folded) {
            WordClass::Function
        } else if self.everyday.contains(folded) {
            WordClass::Everyday
        } else {
            WordClass::Content
        }
    }

    /// Bits for a folded word that `df` of the items have: 1 to 12.
    pub fn weight(&self, folded: &str, df: u32) -> f32 {
        let rarity = ((self.items + 1.0) / (f64::from(df) + 0.5)).ln() / ((self.items + 1.0) / 1.5).ln().max(1e-9);
        let rarity = rarity.clamp(0.0, 1.0);
        let (low, high) = match self.class(folded) {
            WordClass::Function => (1.0, 2.0),
            WordClass::Number if folded.len() >= 4 => (3.0, 6.0),
            WordClass::Number => (1.0, 2.5),
            WordClass::Everyday => (2.0, 5.0),
            WordClass::Content => (4.0, 12.0),
        };
        (low + (high - low) * rarity) as f32
    }
}

/// Factor for a word whose rarest surrounding n-gram occurs in `df` items: 1 for its own text alone, 1/2 for a phrase
/// shared by 5, 1/4 by about 300.
pub fn template_discount(df: u32) -> f32 {
    1.0 / (1.0 + 0.4 * (df.max(1) as f32).log2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rarer_words_weigh_more_within_their_class() {
        for items in [4, 164, 86_000] {
            let weights = Weights::new(items);
            assert!(weights.weight("theodolite", 1) > weights.weight("theodolite", items as u32 / 2));
            assert!(weights.weight("the", 1) < weights.weight("house", 1));
            assert!(weights.weight("house", 1) < weights.weight("theodolite", 1));
            assert!(weights.weight("17", 1) < weights.weight("1789", 1));
            assert!(weights.weight("zebra", items as u32) >= 1.0);
        }
        assert_eq!(template_discount(0), 1.0);
        assert!(template_discount(300) < 0.25);
    }
}
