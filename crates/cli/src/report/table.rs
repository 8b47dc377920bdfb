//! Tables of plain text: columns padded, the last one cut where a terminal ends.

use crate::style::Style;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// A table that is filled row by row. Cells are sanitised by the caller and hold no line ends.
pub(crate) struct Table<const N: usize> {
    head: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// With these columns.
    pub(crate) fn new(head: [(&'static str, Align); N]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The text, each line ended; at most `columns` wide where given.
    pub(crate) fn show(&self, columns: Option<usize>, style: Style) -> String {
        let head = self.head.map(|(word, _)| word.to_owned());
        let widths: [usize; N] = std::array::from_fn(|at| {
            let cells = std::iter::once(&head).chain(&self.rows);
            cells.map(|row| console::measure_text_width(&row[at])).max().unwrap_or(0)
        });
        let mut text = String::new();
        let mut put = |line: String| {
            let line =
                columns.map_or_else(|| line.clone(), |columns| console::truncate_str(&line, columns, "…").into_owned());
            text.push_str(line.trim_end());
            text.push('\n');
        };
        put(style.dim(&self.line(&head, &widths)));
        self.rows.iter().for_each(|row| put(self.line(row, &widths)));
        text
    }

    fn line(&self, row: &[String; N], widths: &[usize; N]) -> String {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[at] - console::measure_text_width(cell));
            let (before, after) = if self.head[at].1 == Align::Right { (gap.as_str(), "") } else { ("", gap.as_str()) };
            if at > 0 {
                line.push_str("  ");
            }
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_by_width_not_by_bytes_and_cut_at_the_terminal() {
        let mut table = Table::new([("N", Align::Right), ("NAME", Align::Left), ("STATE", Align::Left)]);
        table.push(["1".into(), "中文".into(), "ended".into()]);
        table.push(["12".into(), "abc".into(), "pending, waits for a slot".into()]);
        let style = Style { colour: false };
        let lines = [" N  NAME  STATE", " 1  中文  ended", "12  abc   pending, waits for a slot"];
        assert_eq!(table.show(None, style), format!("{}\n", lines.join("\n")));
        assert!(table.show(Some(20), style).lines().all(|line| console::measure_text_width(line) <= 20));
    }
}
