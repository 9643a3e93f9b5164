//! The command-line tool of Nonius.
fn main() {}
