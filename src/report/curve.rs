//! Line charts as SVG text: several series over one pair of axes, with bands for intervals and a legend.
//!
//! Drawn once, without a script; classes (`curve c0` … `c5`, `band`, `dashed`) leave colours to the page's style. Series differ in dash as
//! well as colour. Every label is escaped; what is not finite is left out. Cost: some 15 bytes a point.

use super::chart::escape;

/// A line with points in ascending x.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Interval at some x: (x, low, high).
    pub band: Vec<(f64, f64, f64)>,
    /// A reference rather than a finding: grey and dashed.
    pub reference: bool,
}

/// The axes of a chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axes {
    pub x: String,
    pub y: String,
    /// Whether x is drawn by its logarithm.
    pub log_x: bool,
    /// Values with a mark on the x axis; evenly spaced ones if empty.
    pub ticks: Vec<f64>,
    /// Range of y; that of the data if `None`.
    pub y_range: Option<(f64, f64)>,
}

const LEFT: f64 = 52.0;
const WIDTH: f64 = 400.0;
const TOP: f64 = 24.0;
const HEIGHT: f64 = 190.0;
/// Styles told apart.
const STYLES: usize = 6;

/// A short number: as many digits as tell marks of an axis apart.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// A range widened to round numbers, and the marks on it: four to seven of them, a round step apart.
fn rounded(low: f64, high: f64) -> (f64, f64, Vec<f64>) {
    let least = (high - low) / 5.0;
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= least * (1.0 - 1e-9));
    let step = step.unwrap_or(least);
    let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
    let marks = (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect();
    (first * step, last * step, marks)
}

/// The chart; `label` is what a screen reader says of it.
pub fn lines(label: &str, axes: &Axes, series: &[Series]) -> String {
    let place = |x: f64| if axes.log_x { x.max(f64::MIN_POSITIVE).ln() } else { x };
    let finite = |v: &f64| v.is_finite();
    let xs: Vec<f64> = series
        .iter()
        .flat_map(|s| s.points.iter().map(|p| p.0).chain(s.band.iter().map(|b| b.0)))
        .map(place)
        .filter(finite)
        .collect();
    let ys: Vec<f64> = series
        .iter()
        .flat_map(|s| s.points.iter().map(|p| p.1).chain(s.band.iter().flat_map(|b| [b.1, b.2])))
        .filter(finite)
        .collect();
    let range = |v: &[f64]| {
        let (low, high) = v.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |m, &x| (m.0.min(x), m.1.max(x)));
        if low < high {
            (low, high)
        } else if low.is_finite() {
            (low - 0.5, high + 0.5)
        } else {
            (0.0, 1.0)
        }
    };
    let (mut x0, mut x1) = range(&xs);
    let mut x_marks = axes.ticks.clone();
    if x_marks.is_empty() && !axes.log_x {
        (x0, x1, x_marks) = rounded(x0, x1);
    }
    let (y0, y1) = axes.y_range.unwrap_or_else(|| range(&ys));
    let (y0, y1, y_marks) = rounded(y0, y1);
    let at = |x: f64, y: f64| {
        let across = (place(x) - x0) / (x1 - x0);
        let up = ((y - y0) / (y1 - y0)).clamp(0.0, 1.0);
        (LEFT + WIDTH * across, TOP + HEIGHT * (1.0 - up))
    };
    let bottom = TOP + HEIGHT;
    let full = bottom + 44.0 + 18.0 * series.len().div_ceil(2) as f64;
    let mut out = format!(
        r#"<svg class="chart curves" viewBox="0 0 470 {full:.0}" role="img" aria-label="{}"><path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{}"/>"#,
        escape(label),
        LEFT + WIDTH
    );
    for &y in &y_marks {
        let (_, py) = at(x0, y);
        out += &format!(
            r#"<text class="tick" x="{:.0}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 5.0,
            py + 4.0,
            short(y)
        );
    }
    for &x in &x_marks {
        let (px, _) = at(x, y0);
        if (LEFT - 1.0..=LEFT + WIDTH + 1.0).contains(&px) {
            out += &format!(
                r#"<text class="tick" x="{px:.1}" y="{:.0}" text-anchor="middle">{}</text>"#,
                bottom + 15.0,
                short(x)
            );
        }
    }
    out += &format!(
        r#"<text class="tick" x="{}" y="{:.0}" text-anchor="middle">{}</text><text class="tick" x="{}" y="{}">{}</text>"#,
        LEFT + WIDTH / 2.0,
        bottom + 30.0,
        escape(&axes.x),
        LEFT - 5.0,
        TOP - 12.0,
        escape(&axes.y)
    );
    for (i, s) in series.iter().enumerate() {
        let class = if s.reference { "curve dashed".into() } else { format!("curve c{}", i % STYLES) };
        for &(x, low, high) in s.band.iter().filter(|b| b.1.is_finite() && b.2.is_finite()) {
            let ((px, top), (_, base)) = (at(x, high), at(x, low));
            out += &format!(r#"<path class="{class} band" d="M{px:.1} {top:.1}V{base:.1}"/>"#);
        }
        let path: String = s
            .points
            .iter()
            .filter(|p| p.0.is_finite() && p.1.is_finite())
            .enumerate()
            .map(|(n, &(x, y))| {
                let (px, py) = at(x, y);
                format!("{}{px:.1} {py:.1}", if n == 0 { 'M' } else { 'L' })
            })
            .collect();
        let (lx, ly) = (LEFT + 205.0 * (i % 2) as f64, bottom + 48.0 + 18.0 * (i / 2) as f64);
        // A name too long for its half of the legend is told in full by the title.
        let shown: String = s.name.chars().take(26).collect();
        out += &format!(
            r#"<path class="{class}" fill="none" d="{path}"/><path class="{class}" d="M{lx:.0} {:.0}h22"/><text x="{:.0}" y="{ly:.0}"><title>{}</title>{}{}</text>"#,
            ly - 4.0,
            lx + 28.0,
            escape(&s.name),
            escape(&shown),
            if shown.len() < s.name.len() { "…" } else { "" }
        );
    }
    out + "</svg>"
}

/// The distribution of `values` as a line: at each value, the share of values up to it; at most `most` points, however many values.
pub fn cumulative(values: &[f64], most: usize) -> Vec<(f64, f64)> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let step = n.div_ceil(most.max(1)).max(1);
    let start = sorted.first().map(|&v| (v, 0.0));
    let rest = sorted.iter().enumerate().filter(|(i, _)| (i + 1).is_multiple_of(step) || i + 1 == n);
    start.into_iter().chain(rest.map(|(i, &v)| (v, (i + 1) as f64 / n as f64))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_run_from_corner_to_corner_and_labels_stay_put() {
        let series = [Series {
            name: "<b>\"".into(),
            points: vec![(1.0, 0.0), (2.0, f64::NAN), (4.0, 1.0)],
            band: vec![(4.0, 0.5, 1.0)],
            reference: false,
        }];
        let axes =
            Axes { x: "tokens".into(), y: "r".into(), log_x: true, ticks: vec![1.0, 2.0, 4.0], ..Axes::default() };
        let svg = lines("x & y", &axes, &series);
        assert!(svg.contains(r#"d="M52.0 214.0L452.0 24.0""#), "{svg}");
        assert!(svg.contains(r#"band" d="M452.0 24.0V119.0""#), "{svg}");
        assert!(!svg.contains("<b>") && !svg.contains("NaN") && svg.contains("x &amp; y"), "{svg}");
        // Half way along a logarithmic axis from 1 to 4 lies 2.
        assert!(svg.contains(r#"x="252.0" y="229" text-anchor="middle">2<"#), "{svg}");
        assert!(!lines("none", &Axes::default(), &[]).contains("NaN"));
    }

    #[test]
    fn a_distribution_rises_from_nothing_to_all() {
        assert_eq!(
            cumulative(&[3.0, 1.0, f64::NAN, 2.0, 2.0], 9),
            [(1.0, 0.0), (1.0, 0.25), (2.0, 0.5), (2.0, 0.75), (3.0, 1.0)]
        );
        let values: Vec<f64> = (0..1001).map(f64::from).collect();
        let line = cumulative(&values, 100);
        assert!(line.len() <= 102 && line.last() == Some(&(1000.0, 1.0)), "{line:?}");
        assert!(line.windows(2).all(|p| p[0].0 <= p[1].0 && p[0].1 < p[1].1), "{line:?}");
        assert!(cumulative(&[], 5).is_empty());
    }

    #[test]
    fn marks_are_round_and_hold_the_range() {
        assert_eq!(rounded(0.0, 1.0), (0.0, 1.0, vec![0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]));
        for (low, high) in [(0.556, 1.612), (-3.0, 0.2), (0.0, 1e-6), (0.31, 0.34), (120.0, 4000.0)] {
            let (from, to, marks) = rounded(low, high);
            assert!(
                from <= low + 1e-9 && to >= high - 1e-9 && (3..=8).contains(&marks.len()),
                "{low} {high}: {marks:?}"
            );
            assert!(to - from <= 1.5 * (high - low), "{low} {high}: {marks:?}");
        }
    }
}
