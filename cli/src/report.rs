//! Pieces that several JSON reports share.

use std::fmt;

use nonius::quantizer::saq::Segment;
use serde::Serialize;

/// Consecutive dimensions that share a number of bits.
#[derive(Debug, Serialize)]
pub(crate) struct PlanSegment {
    dims: usize,
    bits: u32,
}

/// A plan as JSON shows it.
pub(crate) fn plan(segments: &[Segment]) -> Vec<PlanSegment> {
    segments.iter().map(|segment| PlanSegment { dims: segment.dims, bits: segment.bits }).collect()
}

/// A plan for people: `48x7 128x5 208x0`; `none` for a quantizer that has none.
pub(crate) struct PlanText<'a>(pub(crate) &'a [Segment]);

impl fmt::Display for PlanText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (number, segment) in self.0.iter().enumerate() {
            let gap = if number > 0 { " " } else { "" };
            write!(f, "{gap}{}x{}", segment.dims, segment.bits)?;
        }
        Ok(())
    }
}

/// The most memory that this process has had resident, in bytes; `None` where the system does
/// not tell.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Bytes for people: `12.3 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!(human_bytes(17), "17 bytes");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(3 << 40), "3.0 TiB");
    }

    #[test]
    fn plans_read_well() {
        let segments = [Segment { dims: 48, bits: 7 }, Segment { dims: 80, bits: 0 }];
        assert_eq!(PlanText(&segments).to_string(), "48x7 80x0");
        assert_eq!(PlanText(&[]).to_string(), "none");
        let json = serde_json::to_string(&plan(&segments)).unwrap();
        assert_eq!(json, r#"[{"dims":48,"bits":7},{"dims":80,"bits":0}]"#);
    }
}
