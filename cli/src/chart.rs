//! Curves of quantizers: error and recall against bytes.

use std::ops::Range;

use nonius::QualityRow;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::output::Failure;

/// Width and height of the picture; each of the two charts has half of the width.
const SIZE: (u32, u32) = (1200, 520);

/// Errors below this are drawn as this: there is no logarithm of zero.
const LEAST_ERROR: f64 = 1e-7;

/// Colours that are told apart on white, in print and by most eyes.
const COLORS: [RGBColor; 10] = [
    RGBColor(0, 90, 181),
    RGBColor(213, 94, 0),
    RGBColor(0, 140, 100),
    RGBColor(170, 60, 140),
    RGBColor(90, 90, 90),
    RGBColor(86, 180, 233),
    RGBColor(150, 110, 0),
    RGBColor(230, 159, 0),
    RGBColor(120, 20, 20),
    RGBColor(0, 0, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A curve: the family's name, and its points from few to many bytes.
struct Curve<'a> {
    family: &'a str,
    points: Vec<(f64, f64)>,
}

/// Draws two charts side by side as SVG, with a curve for each family of quantizers: the error over true
/// neighbours and recall@10, against bytes a vector.
pub(crate) fn quality(rows: &[QualityRow]) -> Result<String, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new("drawing", error);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        let (left, right) = area.split_horizontally(SIZE.0 / 2);
        let bytes = spread(rows.iter().map(|row| row.bytes_per_vector), 1.1);
        let errors = curves(rows, |row| row.err_nn.max(LEAST_ERROR));
        let range = spread(values(&errors), 1.5);
        chart(
            &left,
            &errors,
            "error, neighbours",
            bytes.clone(),
            range.log_scale(),
            SeriesLabelPosition::LowerLeft,
            |y| {
                // Percent, as the README has it.
                format!("{}%", (y * 100.0 * 1e5).round() / 1e5)
            },
        )
        .map_err(|error| failed(&*error))?;
        let recalls = curves(rows, |row| row.recall_at_10);
        let least = values(&recalls).fold(1.0, f64::min);
        let range = (least - 0.02).max(0.0)..1.0;
        chart(&right, &recalls, "recall@10", bytes, range, SeriesLabelPosition::LowerRight, |y| {
            format!("{y:.2}")
        })
        .map_err(|error| failed(&*error))?;
        area.present().map_err(|error| failed(&error))?;
    }
    Ok(svg)
}

/// Families in the order in which they come first.
fn curves(rows: &[QualityRow], value: impl Fn(&QualityRow) -> f64) -> Vec<Curve<'_>> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    for row in rows {
        let family = row.quantizer.split(':').next().unwrap_or(&row.quantizer);
        let point = (row.bytes_per_vector, value(row));
        match curves.iter_mut().find(|curve| curve.family == family) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { family, points: vec![point] }),
        }
    }
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

fn values<'a>(curves: &'a [Curve<'_>]) -> impl Iterator<Item = f64> + 'a {
    curves.iter().flat_map(|curve| &curve.points).map(|&(_, y)| y)
}

/// A range around positive values, wider by a factor.
fn spread(values: impl Iterator<Item = f64>, factor: f64) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0f64), |(low, high), x| (low.min(x), high.max(x)));
    low / factor..high * factor
}

/// Draws one chart; bytes are on a logarithmic axis.
fn chart<Y>(
    area: &Area<'_>,
    curves: &[Curve<'_>],
    name: &str,
    bytes: Range<f64>,
    range: Y,
    legend: SeriesLabelPosition,
    label: impl Fn(&f64) -> String,
) -> Result<(), Box<dyn std::error::Error>>
where
    Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(bytes.log_scale().base(2.0), range)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(8)
        .x_desc("bytes a vector")
        .y_desc(name)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&label)
        .draw()?;
    for (i, curve) in curves.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let line = color.stroke_width(2);
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), line))?;
        chart
            .draw_series(curve.points.iter().map(|&point| Circle::new(point, 3, color.filled())))?
            .label(curve.family)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], line));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .position(legend)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(quantizer: &str, bytes: f64, err_nn: f64, recall: f64) -> QualityRow {
        QualityRow {
            quantizer: quantizer.to_owned(),
            bits: 1.0,
            bytes_per_vector: bytes,
            err_nn,
            err_random: err_nn,
            bias_nn: 0.0,
            recall_at_10: recall,
            recall_10_at_100: 1.0,
            encode_vectors_per_second: 1.0,
            train_seconds: 1.0,
            plan: Vec::new(),
            codebooks: Vec::new(),
        }
    }

    #[test]
    fn rows_of_a_family_are_one_curve_by_bytes() {
        let rows = [
            row("saq:4", 72.0, 0.01, 0.9),
            row("rabitq", 20.0, 0.1, 0.4),
            row("saq:24B", 24.0, 0.05, 0.6),
        ];
        let curves = curves(&rows, |row| row.recall_at_10);
        let found: Vec<_> = curves.iter().map(|c| (c.family, c.points.clone())).collect();
        assert_eq!(found[0], ("saq", vec![(24.0, 0.6), (72.0, 0.9)]));
        assert_eq!(found[1], ("rabitq", vec![(20.0, 0.4)]));
    }

    #[test]
    fn every_family_is_drawn_whatever_the_values() {
        let rows = [
            row("saq:4", 72.0, 0.01, 0.9),
            row("saq:8", 136.0, 0.0, 1.0),
            row("rvq:24B", 24.0, 0.04, 0.0),
        ];
        let svg = quality(&rows).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["recall@10", "bytes a vector", "error, neighbours", "saq", "rvq"] {
            assert!(svg.contains(text), "{text}");
        }
        // A point in each chart for each row.
        assert_eq!(svg.matches("<circle").count(), 6, "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        quality(&rows[..1]).unwrap();
        quality(&[row("saq:8", 136.0, 0.0, 0.0)]).unwrap();
    }
}
