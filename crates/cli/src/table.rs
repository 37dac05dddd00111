//! Tables: columns as wide as their widest cell.

use crate::ui;

/// Spaces between two columns.
const GAP: &str = "  ";

#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// Numbers stand at the right.
    right: bool,
}

/// A column of text.
pub const fn text(title: &'static str) -> Column {
    Column { title, right: false }
}

/// A column of numbers.
pub const fn number(title: &'static str) -> Column {
    Column { title, right: true }
}

/// The lines of a table, its head first, without spaces at their ends.
pub fn lines(columns: &[Column], rows: &[Vec<String>]) -> Vec<String> {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([columns[at].title.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded =
            cells.zip(columns.iter().zip(&widths)).map(|(cell, (column, width))| match column.right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
        padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    let head = line(&mut columns.iter().map(|column| column.title));
    let body = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    [head].into_iter().chain(body).collect()
}

pub fn print(columns: &[Column], rows: &[Vec<String>]) {
    lines(columns, rows).iter().for_each(ui::print);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_left_and_numbers_right() {
        let rows = vec![
            vec!["größe".into(), "1".into(), "x".into()],
            vec!["b".into(), "12,345".into(), String::new()],
        ];
        let table = lines(&[text("NAME"), number("CALLS"), text("NOTE")], &rows).join("\n");
        assert_eq!(table, "NAME    CALLS  NOTE\ngröße       1  x\nb      12,345");
        assert_eq!(lines(&[text("A"), number("B")], &[]), ["A  B"]);
    }
}
