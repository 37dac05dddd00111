//! Plots for a terminal: areas of eighths of a character.

const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The values as an area of `rows` lines, one column each, up to `top`; the first line bears the scale.
pub fn area(values: &[f64], top: f64, rows: usize) -> Vec<String> {
    let eighths = |value: f64| {
        let share = if top > 0.0 { (value / top).clamp(0.0, 1.0) } else { 0.0 };
        // What is there is seen, however little it is.
        let height = (share * (rows * 8) as f64).round() as usize;
        if value > 0.0 { height.max(1) } else { 0 }
    };
    let heights: Vec<usize> = values.iter().map(|&value| eighths(value)).collect();
    let line = |row: usize| {
        let below = (rows - 1 - row) * 8;
        heights.iter().map(|height| EIGHTHS[height.saturating_sub(below).min(8)]).collect::<String>()
    };
    (0..rows).map(|row| if row == 0 { format!("{} {top:.0}", line(row)) } else { line(row) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_are_shares_of_the_top() {
        assert_eq!(area(&[0.0, 0.1, 8.0, 12.0, 16.0], 16.0, 2), ["   ▄█ 16", " ▁███"]);
        assert_eq!(area(&[0.0, 0.0], 0.0, 1), ["   0"]);
    }
}
