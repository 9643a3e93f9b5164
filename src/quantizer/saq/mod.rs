//! SAQ.
mod adjust;
mod layout;
mod plan;
mod scale;
