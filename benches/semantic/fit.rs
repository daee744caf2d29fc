//! Logistic regression by Newton's method, and reliability of the probabilities it gives.

use std::collections::BTreeMap;

use priorart::decontaminate::semantic::NAMES;

use super::Row;

/// Strength of the pull towards zero, on standardised features.
const RIDGE: f64 = 0.5;

/// Weights in the features' own units, the constant first.
pub fn logistic(rows: &[(&[f32], bool)], ridge: f64) -> Vec<f64> {
    let n = rows[0].0.len();
    let count = rows.len() as f64;
    let mut mean = vec![0.0; n];
    let mut deviation = vec![0.0; n];
    for (x, _) in rows {
        mean.iter_mut().zip(*x).for_each(|(m, &x)| *m += f64::from(x) / count);
    }
    for (x, _) in rows {
        deviation.iter_mut().zip(*x).zip(&mean).for_each(|((d, &x), m)| *d += (f64::from(x) - m).powi(2) / count);
    }
    deviation.iter_mut().for_each(|d| *d = d.sqrt().max(1e-6));
    let standard: Vec<(Vec<f64>, f64)> = rows
        .iter()
        .map(|(x, leak)| {
            let z = x.iter().zip(&mean).zip(&deviation).map(|((&x, m), d)| (f64::from(x) - m) / d);
            (std::iter::once(1.0).chain(z).collect(), f64::from(*leak))
        })
        .collect();
    let mut w = vec![0.0; n + 1];
    for _ in 0..50 {
        let mut gradient: Vec<f64> = w.iter().enumerate().map(|(i, w)| if i == 0 { 0.0 } else { ridge * w }).collect();
        let mut hessian = vec![vec![0.0; n + 1]; n + 1];
        for (i, row) in hessian.iter_mut().enumerate() {
            row[i] = if i == 0 { 1e-9 } else { ridge };
        }
        for (z, y) in &standard {
            let p = 1.0 / (1.0 + (-z.iter().zip(&w).map(|(z, w)| z * w).sum::<f64>()).exp());
            for i in 0..=n {
                gradient[i] += (p - y) * z[i];
                for j in 0..=i {
                    hessian[i][j] += p * (1.0 - p) * z[i] * z[j];
                }
            }
        }
        let step = solved(hessian, gradient);
        let largest = step.iter().fold(0.0f64, |a, s| a.max(s.abs()));
        w.iter_mut().zip(&step).for_each(|(w, s)| *w -= s);
        if largest < 1e-8 {
            break;
        }
    }
    let mut out = vec![w[0]];
    for i in 0..n {
        out.push(w[i + 1] / deviation[i]);
        out[0] -= w[i + 1] * mean[i] / deviation[i];
    }
    out
}

/// Solves a symmetric positive system of which the lower half is given (Cholesky).
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            let value = a[i][j] - sum;
            a[i][j] = if i == j { value.max(1e-12).sqrt() } else { value / a[j][j] };
        }
    }
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i][i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| a[k][i] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i][i];
    }
    b
}

pub fn probability(w: &[f64], x: &[f32]) -> f64 {
    let logit = w[0] + w[1..].iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
    1.0 / (1.0 + (-logit).exp())
}

/// Fits and prints every rule.
pub fn report(rows: &[Row], sieve: &[Row]) {
    let lifted: Vec<(Vec<f32>, &Row)> = sieve
        .iter()
        .filter(|r| r.column == "sieve")
        .map(|r| {
            let (share, weight, size) = (r.features[0], r.features[1].max(0.1), r.features[2].max(1.0).ln());
            (vec![share, weight.ln(), size, share * size], r)
        })
        .collect();
    let of: Vec<(&[f32], bool)> =
        lifted.iter().filter(|(_, r)| r.fitted).map(|(x, r)| (x.as_slice(), r.leak)).collect();
    if of.iter().any(|r| r.1) {
        println!("\nsieve: constant, share, ln weight, ln norm, share x ln norm\n  {:.3?}", logistic(&of, RIDGE));
    }
    let of: Vec<(&[f32], bool)> =
        sieve.iter().filter(|r| r.column == "look").map(|r| (r.features.as_slice(), r.leak)).collect();
    if of.iter().any(|r| r.1) {
        println!("\nsecond look: constant, then as `Measures::look` has them\n  {:.3?}", logistic(&of, RIDGE));
    }
    let mut columns: Vec<&str> = rows.iter().map(|r| r.column).collect();
    columns.sort_unstable();
    columns.dedup();
    for column in columns {
        let own: Vec<&Row> = rows.iter().filter(|r| r.column == column).collect();
        let fitted: Vec<(&[f32], bool)> =
            own.iter().filter(|r| r.fitted).map(|r| (r.features.as_slice(), r.leak)).collect();
        let half = logistic(&fitted, RIDGE);
        println!("\n{column}: reliability on the half that was not fitted\n  confidence      pairs   leaks among them");
        let mut bins: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for row in own.iter().filter(|r| !r.fitted) {
            let p = probability(&half, &row.features);
            let bin = [0.05, 0.2, 0.5, 0.8, 0.9, 0.95, 0.99].iter().filter(|&&b| p >= b).count();
            let count = bins.entry(bin).or_default();
            *count = (count.0 + 1, count.1 + usize::from(row.leak));
        }
        let names =
            ["below .05", ".05 to .2", ".2 to .5", ".5 to .8", ".8 to .9", ".9 to .95", ".95 to .99", ".99 and up"];
        for (bin, (pairs, leaks)) in bins {
            println!("  {:<12}{pairs:>9}   {:.1} %", names[bin], 100.0 * leaks as f64 / pairs as f64);
        }
        let all: Vec<(&[f32], bool)> = own.iter().map(|r| (r.features.as_slice(), r.leak)).collect();
        let w = logistic(&all, RIDGE);
        println!("{column}: coefficients from all labelled pairs\n  constant: {:.4}", w[0]);
        let names: &[&str] = if column == "structure" { &["share", "log matched"] } else { &NAMES };
        for (name, w) in names.iter().zip(&w[1..]) {
            println!("  {w:.4}, // {name}");
        }
    }
}
