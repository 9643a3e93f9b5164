//! The name of a quantizer, and its size.

use nonius::{Encoding, QuantizerSpec};

use crate::arrays::count;
use crate::errors::Failure;

/// The quantizer that its parameters describe together, as the flags of the tool do.
pub(crate) fn spec(
    name: &str,
    bits: Option<f64>,
    bytes: Option<i64>,
) -> Result<QuantizerSpec, Failure> {
    let text = match (bits, bytes) {
        (None, None) => name.to_owned(),
        (Some(_), Some(_)) => {
            return Err(Failure::config("bits", "expected bits or bytes, found both"));
        }
        _ if name.contains(':') => {
            let message = format!("{name} names its size already; leave bits and bytes out");
            return Err(Failure::config("quantizer", message));
        }
        (Some(bits), None) => format!("{name}:{bits}"),
        (None, Some(bytes)) => format!("{name}:{}B", count("bytes", bytes)?),
    };
    Ok(text.parse()?)
}

pub(crate) fn encoding(fast: bool) -> Encoding {
    if fast { Encoding::Fast } else { Encoding::Full }
}
