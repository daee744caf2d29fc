//! Charts as SVG text: horizontal bars and a histogram with a mark.
//!
//! Drawn once, without a script; classes (`bar`, `bin`, `axis`, `tick`, `mark-line`) leave colours to the page's style, so
//! that both schemes work. Every label is escaped. Cost: a few hundred bytes a bar.

/// `text` with the characters that mean something in HTML, attributes included, replaced.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// One horizontal bar: `value` of `most`, with a word before and one behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub note: String,
}

/// Horizontal bars to the scale `most`; `label` is what a screen reader says of the chart.
pub fn bars(label: &str, most: f64, bars: &[Bar]) -> String {
    let height = 22 * bars.len() + 4;
    let mut out =
        format!(r#"<svg class="chart" viewBox="0 0 420 {height}" role="img" aria-label="{}">"#, escape(label));
    for (i, b) in bars.iter().enumerate() {
        let y = 22 * i + 4;
        let share = if most > 0.0 { (b.value / most).clamp(0.0, 1.0) } else { 0.0 };
        let name = escape(&b.name);
        out += &format!(
            r#"<g data-name="{name}"><text class="tick" x="82" y="{}" text-anchor="end">{name}</text><rect class="rail" x="90" y="{y}" width="220" height="16"/><rect class="bar" x="90" y="{y}" width="{:.1}" height="16"/><text x="318" y="{}">{}</text></g>"#,
            y + 13,
            220.0 * share,
            y + 13,
            escape(&b.note)
        );
    }
    out + "</svg>"
}

/// Counts in equal bins from `from` to `to`, and a line at `mark`. Heights go with the square root of the counts, so that
/// a bin of one is seen beside one of thousands.
pub fn histogram(label: &str, counts: &[u64], (from, to): (f64, f64), mark: f64) -> String {
    const LEFT: f64 = 14.0;
    const WIDTH: f64 = 492.0;
    const BASE: f64 = 116.0;
    let most = (counts.iter().copied().max().unwrap_or(0).max(1) as f64).sqrt();
    let step = WIDTH / counts.len().max(1) as f64;
    let mut out =
        format!(r#"<svg class="chart histogram" viewBox="0 0 520 140" role="img" aria-label="{}">"#, escape(label));
    for (i, &n) in counts.iter().enumerate() {
        let height = 104.0 * (n as f64).sqrt() / most;
        out += &format!(
            r#"<rect class="bin" x="{:.2}" y="{:.2}" width="{:.2}" height="{height:.2}"/>"#,
            LEFT + step * i as f64 + 0.5,
            BASE - height,
            (step - 1.0).max(0.5)
        );
    }
    out += &format!(r#"<line class="axis" x1="{LEFT}" x2="{}" y1="{BASE}" y2="{BASE}"/>"#, LEFT + WIDTH);
    for i in 0..=4 {
        let share = i as f64 / 4.0;
        out += &format!(
            r#"<text class="tick" x="{:.1}" y="134" text-anchor="middle">{:.2}</text>"#,
            LEFT + WIDTH * share,
            from + (to - from) * share
        );
    }
    let at = if to > from { ((mark - from) / (to - from)).clamp(0.0, 1.0) } else { 0.0 };
    let x = LEFT + WIDTH * at;
    out + &format!(r#"<line class="mark-line" x1="{x:.1}" x2="{x:.1}" y1="6" y2="{BASE}"/></svg>"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_leave_their_place() {
        let evil = r#""><script>alert('x')</script>&"#;
        let svg = bars(evil, 2.0, &[Bar { name: evil.into(), value: 1.0, note: evil.into() }]);
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;"), "{svg}");
        assert!(svg.contains(r#"width="110.0""#), "half of the rail: {svg}");
    }

    #[test]
    fn a_histogram_has_a_bin_a_count_and_its_mark() {
        let svg = histogram("h", &[0, 4, 1, 0], (0.0, 1.0), 0.5);
        assert_eq!(svg.matches("class=\"bin\"").count(), 4);
        assert!(svg.contains(r#"height="104.00""#) && svg.contains(r#"height="52.00""#), "{svg}");
        assert!(svg.contains(r#"class="mark-line" x1="260.0""#), "{svg}");
        assert!(!histogram("none", &[], (0.0, 0.0), 0.0).contains("NaN"));
    }
}
