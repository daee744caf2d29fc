//! Redaction: answers without the corpus's text. Ids, paths, offsets and counts stay; text and metadata go.

use crate::query::find::{Found, FoundDocument};
use crate::query::neighbors::Neighbor;
use crate::query::trace::Trace;

/// An answer that may carry text of the corpus.
pub trait Redact {
    /// Takes it out.
    fn redact(&mut self);
}

impl Redact for FoundDocument {
    fn redact(&mut self) {
        self.metadata.clear();
        for o in &mut self.occurrences {
            o.before.clear();
            o.text.clear();
            o.after.clear();
        }
    }
}

impl Redact for Found {
    fn redact(&mut self) {
        self.found.redact();
    }
}

impl Redact for Trace {
    /// A span's text is the client's own.
    fn redact(&mut self) {
        for span in &mut self.spans {
            span.documents.redact();
        }
    }
}

impl Redact for Neighbor {
    fn redact(&mut self) {
        self.text.clear();
        // Where its tokens are tells more of it than is meant to be told.
        self.alignment.clear();
    }
}

impl<T: Redact> Redact for Vec<T> {
    fn redact(&mut self) {
        self.iter_mut().for_each(Redact::redact);
    }
}
