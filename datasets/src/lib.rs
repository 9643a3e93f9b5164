//! Vector files, synthetic sets and exact ground truth for Nonius.
