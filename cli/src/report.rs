//! Pieces that several JSON reports share.

use std::fmt;

use nonius::CodebookUse;
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

/// How codes use a codebook, as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct CodebookJson {
    centroids: usize,
    used: usize,
    perplexity: f64,
}

/// Codebooks as JSON shows them.
pub(crate) fn codebooks(uses: &[CodebookUse]) -> Vec<CodebookJson> {
    let json = |of: &CodebookUse| CodebookJson {
        centroids: of.centroids,
        used: of.used,
        perplexity: of.perplexity,
    };
    uses.iter().map(json).collect()
}

/// What codes are made of, for people: the plan, or for a quantizer that has codebooks their number and
/// size, the share of all centroids that is used, and the mean perplexity.
pub(crate) struct MadeOf<'a>(pub(crate) &'a [Segment], pub(crate) &'a [CodebookUse]);

impl fmt::Display for MadeOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MadeOf(plan, codebooks) = self;
        let Some(first) = codebooks.first() else { return PlanText(plan).fmt(f) };
        let sum = |of: fn(&CodebookUse) -> f64| codebooks.iter().map(of).sum::<f64>();
        let used = 100.0 * sum(|of| of.used as f64) / sum(|of| of.centroids as f64);
        // Only all of them are 100%.
        let used = (used * 10.0).floor() / 10.0;
        let perplexity = sum(|of| of.perplexity) / codebooks.len() as f64;
        let (count, size) = (codebooks.len(), first.centroids);
        write!(f, "{count} codebooks of {size}, {used}% used, perplexity {perplexity:.1}")
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
    fn codebooks_read_well() {
        let full = CodebookUse { centroids: 256, used: 256, perplexity: 250.5 };
        let most = CodebookUse { used: 255, perplexity: 200.0, ..full };
        let segments = [Segment { dims: 48, bits: 7 }];
        assert_eq!(MadeOf(&segments, &[]).to_string(), "48x7");
        let text = "2 codebooks of 256, 100% used, perplexity 250.5";
        assert_eq!(MadeOf(&[], &[full, full]).to_string(), text);
        let text = "2 codebooks of 256, 99.8% used, perplexity 225.2";
        assert_eq!(MadeOf(&[], &[full, most]).to_string(), text);
        let json = serde_json::to_string(&codebooks(&[most])).unwrap();
        assert_eq!(json, r#"[{"centroids":256,"used":255,"perplexity":200.0}]"#);
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
