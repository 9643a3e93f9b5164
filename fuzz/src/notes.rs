//! What targets say about the ways that an input has gone.

use std::cell::RefCell;
use std::fmt::{self, Write as _};

thread_local! {
    static NOTES: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Notes a behaviour of the code under attack, such as the text of an error. Numbers and what is
/// quoted do not count: they repeat the input. An input with a behaviour that none had before is
/// kept by the driver and mutated again.
pub fn note(text: impl fmt::Display) {
    let mut hash = Hash::default();
    // Writing into a hash cannot fail; a `Display` that fails has nothing to say.
    let _ = write!(hash, "{text}");
    NOTES.with_borrow_mut(|notes| notes.push(hash.state));
}

/// The notes since the last call, as hashes.
pub(crate) fn take_notes() -> Vec<u64> {
    NOTES.take()
}

/// FNV-1a of the words of a text, those with a digit left out.
struct Hash {
    state: u64,
    /// The state where the present word began.
    before: u64,
    quote: Option<char>,
    /// The present word has had a digit.
    number: bool,
}

impl Default for Hash {
    fn default() -> Hash {
        let state = 0xcbf2_9ce4_8422_2325;
        Hash { state, before: state, quote: None, number: false }
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.quote == Some(letter) {
                self.quote = None;
            } else if self.quote.is_some() {
            } else if letter.is_ascii_digit() {
                (self.state, self.number) = (self.before, true);
            } else if letter.is_ascii_alphabetic() {
                if !self.number {
                    self.state ^= u64::from(u32::from(letter));
                    self.state = self.state.wrapping_mul(0x0100_0000_01b3);
                }
            } else {
                (self.before, self.number) = (self.state, false);
                if matches!(letter, '"' | '\'' | '`') {
                    self.quote = Some(letter);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_quotations_are_one_behaviour() {
        note("row 3 of \"a\" is short");
        note("row 17 of \"b\" is short");
        note("row 17 of \"b\" is long");
        note("row c0de of \"b\" is short");
        let notes = take_notes();
        assert_eq!(notes[0], notes[1]);
        assert_ne!(notes[1], notes[2]);
        assert_eq!(notes[0], notes[3]);
        assert!(take_notes().is_empty());
    }
}
