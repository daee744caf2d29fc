//! The semantic and code columns: a calibrated confidence against two thresholds.

use super::{Level, Paraphrase, Rewrite, Verdict};
use crate::decontaminate::semantic::Meaning;

fn judge(found: Option<&Meaning>, suspect: f32, dirty: f32) -> Verdict {
    let Some(found) = found else { return Verdict::clean(0.0) };
    let level = match found.confidence {
        c if c >= dirty => Level::Dirty,
        c if c >= suspect => Level::Suspect,
        _ => return Verdict::clean(found.confidence),
    };
    Verdict { level, score: found.confidence, components: vec![found.component], rule: found.rule }
}

impl Paraphrase {
    /// By the confidence that prose says the same.
    pub fn judge(&self, found: Option<&Meaning>) -> Verdict {
        judge(found, self.suspect, self.dirty)
    }
}

impl Rewrite {
    /// By the confidence that a program is the same.
    pub fn judge(&self, found: Option<&Meaning>) -> Verdict {
        judge(found, self.suspect, self.dirty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::ComponentKind;

    #[test]
    fn a_confidence_is_judged_at_its_thresholds() {
        let rule = Paraphrase { suspect: 0.5, dirty: 0.8 };
        let level = |confidence| {
            let found = Meaning { confidence, place: 0..9, rule: "paraphrase", component: ComponentKind::Question };
            rule.judge(Some(&found)).level
        };
        assert_eq!([0.499, 0.5, 0.799, 0.8].map(level), [Level::Clean, Level::Suspect, Level::Suspect, Level::Dirty]);
        assert_eq!(rule.judge(None), Verdict::clean(0.0));
    }
}
