//! The known word that somebody may have meant.

/// Words further apart than this are not the same word mistyped.
const MAX_EDITS: usize = 2;

/// Longer words are nobody's typing error.
const MAX_WORD_CHARS: usize = 64;

pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.chars().count() > MAX_WORD_CHARS {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let word = plain(word);
    let scored = known.iter().map(|candidate| (edits(&word, &plain(candidate)), *candidate));
    let (count, best) = scored.min_by_key(|(count, _)| *count)?;
    // Of a short word that many edits leave nothing.
    let allowed = if best.len() < 5 { 1 } else { MAX_EDITS };
    (count <= allowed).then_some(best)
}

/// Insertions, removals, replacements and swaps of neighbours from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let above = &rows[i];
            let mut best = (above[j] + usize::from(a != b)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_found() {
        let known = ["build", "python_version", "python_packages", "gpu", "run"];
        let cases = [
            ("biuld", Some("build")),
            ("pythonVersion", Some("python_version")),
            ("python-packges", Some("python_packages")),
            ("gpus", Some("gpu")),
            ("cpu", Some("gpu")),
            ("weights", None),
            ("", None),
        ];
        for (word, meant) in cases {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(10_000), &known), None);
    }
}
