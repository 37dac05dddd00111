//! Plots of text: bars of eighths of a character.

const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Bars beside each other, from the top line to the bottom. The highest value fills the height; what is more than nothing
/// shows at least an eighth.
pub fn bars(values: &[f64], height: usize) -> Vec<String> {
    let most = values.iter().copied().fold(0.0, f64::max);
    let full = height * 8;
    let eighths = |value: &f64| match (value / most * full as f64).round() {
        _ if most <= 0.0 || *value <= 0.0 => 0,
        filled => (filled as usize).clamp(1, full),
    };
    let filled: Vec<usize> = values.iter().map(eighths).collect();
    let line = |row: usize| {
        let below = (height - 1 - row) * 8;
        filled.iter().map(|filled| EIGHTHS[filled.saturating_sub(below).min(8)]).collect()
    };
    (0..height).map(line).collect()
}

/// Bars in one line, over an axis that is always seen.
pub fn spark(values: &[f64]) -> String {
    bars(values, 1).concat().replace(' ', "▁")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_fills_the_height() {
        let lines = bars(&[0.0, 1.0, 4.0, 8.0, 16.0, 0.01], 2);
        assert_eq!(lines, ["    █ ", " ▁▄██▁"]);
    }

    #[test]
    fn nothing_is_an_empty_plot() {
        assert_eq!(bars(&[0.0, 0.0], 2), ["  ", "  "]);
        assert_eq!(bars(&[], 1), [""]);
        assert_eq!(spark(&[0.0, 2.0, 1.0]), "▁█▄");
    }
}
